"""What each stage of a run leaves behind, and whether it is still what it was when the stage ended."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from memfix.config.checks import LATER_SETTINGS
from memfix.files import digest, write_atomic
from memfix.run.header import Stage
from memfix.run.seal import Overlay, as_sha256sum, changed_files, digest_of_files

BEFORE, AFTER, MODEL = "before", "after", "model"
CHANGES, ATTACK_RESULTS = "changes.jsonl", f"{AFTER}/attacks.jsonl"  # of the re-check
ATTACKED = "attacked"  # of `memfix attack`, several of which may be at work
OUTPUTS = {
    "unlearn": (
        MODEL, "pairs.jsonl", "yields.jsonl", "variants", "prior", "surrogates", "training.jsonl", "validations.jsonl",
        "adversarial.jsonl", "adversarial_validations.jsonl", "checkpoints", "adapters", "rewordings.jsonl",
        "rewording.safetensors", "unlearn.sha256",
    ),
    "recheck": (CHANGES, AFTER, "recheck.sha256", "report.json", "report.html"),
}  # fmt: skip
"""What stages write. What says that all of it is there comes first, so that discarding removes that before the rest; a
report of what is discarded goes with it."""

REVIEWS = "reviews.jsonl"  # what people say of samples
SEALED = {
    "detect": ("prompts.jsonl", "references.jsonl", BEFORE, REVIEWS),
    "unlearn": (
        MODEL, "pairs.jsonl", "yields.jsonl", "training.jsonl", "validations.jsonl", "adversarial.jsonl",
        "adversarial_validations.jsonl", "rewordings.jsonl", "rewording.safetensors",
    ),
    "recheck": (CHANGES, AFTER),
}  # fmt: skip
"""What later stages and reports rest on, and must find as it was when the stage ended."""
LATER = ("adversarial_validations.jsonl",)  # of these: what runs of an earlier time neither wrote nor sealed
UNREAD = {
    "detect": ("references.safetensors",), "unlearn": ("variants", "prior", "surrogates", "checkpoints", "adapters"),
    "recheck": (),
}  # fmt: skip
"""What else they leave behind, which can be large and decides nothing any more: `memfix doctor RUN` looks at it."""
UNSEALED = (REVIEWS, *(name for stage, names in UNREAD.items() for name in (*names, f"{stage}.sha256")))
"""What runs of an earlier time have no digest of."""
HEADER = "run.json"
CARD = f"{MODEL}/README.md"  # reports write it anew
PASSING = {"status", "argv", "started", "ended", "timings", "seal", "counts"}
"""What a header says of a stage besides what its seal has a digest of. The header's own digest is of all."""


def seal(files: Overlay, stage: str, entry: Stage) -> None:
    """Write down what a stage leaves behind: a list of its files, and in the header what that comes to."""
    found = {name: files.contents(name, {CARD}) for name in (*SEALED[stage], *UNREAD[stage])}
    write_atomic((files.beside or files.run) / list_of(stage), as_sha256sum(c for own in found.values() for c in own))
    found[list_of(stage)] = files.contents(list_of(stage))
    entry.seal = {name: digest_of_files(own) for name, own in found.items()} | {HEADER: _told(entry)}
    tables = (c.path for own in found.values() for c in own if c.path.endswith((".jsonl", ".sha256")))
    entry.counts = {name: len(own) for name, own in found.items() if own} | {t: files.lines(t) for t in tables}


def changed(run: Path, stage: str, entry: Stage, names: Iterable[str]) -> list[str]:
    """What a stage that was sealed left behind under some names and is not what it was, file by file where its list
    tells."""
    found = [] if _told(entry) == entry.seal.get(HEADER) else [HEADER]
    files, nothing = Overlay(run), dict.fromkeys(LATER, digest_of_files([]))
    list_file = run / list_of(stage)
    text = list_file.read_text(encoding="utf-8", errors="replace") if list_file.is_file() else ""
    for name in names:
        if name in UNSEALED and not entry.counts and name not in entry.seal:
            continue
        now = files.contents(name, {CARD})
        if digest_of_files(now) != entry.seal.get(name, nothing.get(name)):
            found += changed_files(text, name, now) if text else [name]
    return found


def _leave_out_later_fields(told: dict[str, Any]) -> None:
    """Take out of what a header says of a stage the fields that runs of an earlier time do not have, where they
    hold nothing: the digests that such runs were sealed with are without them."""
    later = (
        "witnesses", "known_copies", "sources", "drawn", "rounds", "weights_sha256", "config_sha256", "sampling_doubt",
        "copied_besides", "reference_detail", "weights_doubt",
    )  # fmt: skip
    for name in later:
        if name in told and not told[name]:
            del told[name]
    background = told.get("background") or {}
    if background.get("false_alarms", 0) is None:
        del background["false_alarms"]
    if "adapter" in told["settings"]:  # of an earlier time: one path, or none
        several = told["settings"]["adapter"]
        told["settings"]["adapter"] = several if len(several) > 1 else next(iter(several), None)
    for name in ("loop", *LATER_SETTINGS):
        if told["settings"].get(name, "") in (None, []):
            del told["settings"][name]
    for ending in (told.get("ending") or {}, *(told.get("endings") or {}).values()):
        for name in ("targets", "attacked"):
            if not ending.get(name, True):
                del ending[name]


def _told(entry: Stage) -> str:
    """The digest of what a header says of a stage, as seals have it."""
    told = entry.model_dump(mode="json", exclude=PASSING)
    _leave_out_later_fields(told)
    told["settings"] = {k: v for k, v in told["settings"].items() if k not in entry.settings.free}
    return digest(json.dumps(told, sort_keys=True))


def lines_of(run: Path, stage: str) -> list[Path]:
    """The files of lines that a stage writes, as far as they are there. What people say is theirs, and no stage's."""
    names = dict.fromkeys((*OUTPUTS.get(stage, ()), *SEALED[stage], *UNREAD[stage]))
    found = [run / name for name in names if name.endswith(".jsonl") and name != REVIEWS and (run / name).is_file()]
    return found + [file for name in names if (run / name).is_dir() for file in (run / name).rglob("*.jsonl")]


def list_of(stage: str) -> str:
    """The file that lists what a stage left behind."""
    return f"{stage}.sha256"
