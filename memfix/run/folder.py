"""The files of a run: append-only JSONL, atomic JSON, one lock, resume. Knows nothing of what the stages mean."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from memfix.config.base import Settings
from memfix.config.checks import LATER_SETTINGS
from memfix.errors import MemfixError
from memfix.files import digest, held, remove_folder, require_no_file, sha256_of, write_atomic
from memfix.records import Record
from memfix.run.environment import environment
from memfix.run.header import SCHEMA_VERSION, STAGE_NAMES, Header, S, Status
from memfix.run.inputs import Inputs

BEFORE, AFTER, MODEL = "before", "after", "model"
OUTPUTS = {
    "unlearn": (
        MODEL, "pairs.jsonl", "yields.jsonl", "variants", "surrogates", "training.jsonl", "validations.jsonl",
        "adversarial.jsonl", "adversarial_validations.jsonl", "checkpoints", "adapters", "rewordings.jsonl",
        "rewording.safetensors",
    ),
    "recheck": ("changes.jsonl", AFTER, "report.json", "report.html"),
}  # fmt: skip
"""What stages write. What says that all of it is there comes first, so that discarding removes that before the rest; a
report of what is discarded goes with it."""

SEALED = {
    "detect": ("prompts.jsonl", "references.jsonl", BEFORE),
    "unlearn": (
        MODEL, "pairs.jsonl", "yields.jsonl", "training.jsonl", "validations.jsonl", "adversarial.jsonl",
        "adversarial_validations.jsonl", "rewordings.jsonl", "rewording.safetensors",
    ),
    "recheck": ("changes.jsonl", AFTER),
}  # fmt: skip
"""What later stages and reports rest on, and must find as it was when the stage ended."""
LATER = ("adversarial_validations.jsonl",)  # of these: what runs of an earlier time neither wrote nor sealed
HEADER = "run.json"
REVIEWS = "reviews.jsonl"  # what people say of samples: added to after stages ended, and so outside of their seals
CARD = "README.md"  # beside weights: reports write it anew
PASSING = {"status", "argv", "started", "ended", "timings", "seal"}
"""What a header says of a stage, and may say otherwise once the stage was begun again and had nothing to do."""

R = TypeVar("R", bound=Record)


def now() -> str:
    """UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


class Run:
    """One run folder. Create with `Run.open`; hold `run.lock()` while a stage works in it."""

    def __init__(self, path: Path, header: Header) -> None:
        self.path = path
        self.header = header

    # -- opening ------------------------------------------------------------------------------------------------

    @classmethod
    def open(cls, path: Path) -> Run:
        """Open an existing run; errors name what is wrong with the folder."""
        file = path / HEADER
        if not file.is_file():
            raise MemfixError(f"{path} is not a run folder: it has no run.json.", "Start one with 'memfix detect'.")
        damaged = MemfixError(
            f"{file} is damaged: it does not hold a run's header.", "Restore it from a copy, or start a new run."
        )
        try:
            read = json.loads(file.read_text(encoding="utf-8"))
            schema = read["schema_version"]
        except (ValueError, KeyError, TypeError):
            raise damaged from None
        if schema != SCHEMA_VERSION:
            raise MemfixError(
                f"{path} was written by another version of memfix (schema {schema}, this one reads {SCHEMA_VERSION}).",
                f"Use memfix {(read.get('environment') or {}).get('memfix', 'of that time')}, or start a new run.",
            )
        try:
            return cls(path, Header.model_validate(read))
        except ValidationError:
            raise damaged from None

    @classmethod
    def create(cls, path: Path) -> Run:
        """A new run in `path`, or the one that is there already."""
        if (path / HEADER).exists():
            return cls.open(path)
        require_no_file(path)
        if path.exists() and any(path.iterdir()):
            raise MemfixError(f"{path} is not empty, and is not a run folder.", "Give another folder to -o.")
        run = cls(path, Header(created=now()))
        run.save()
        return run

    @classmethod
    def newest(cls, root: Path) -> Run:
        """The run under `root` whose header was written last."""
        headers = sorted(root.glob("*/run.json"), key=lambda file: file.stat().st_mtime)
        if not headers:
            raise MemfixError(f"There is no run in {root}.", "Start one with: memfix detect prompts.txt -m MODEL")
        return cls.open(headers[-1].parent)

    # -- header -------------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write the header."""
        write_atomic(self.path / HEADER, json.dumps(self.header.dump(), indent=2, ensure_ascii=False) + "\n")

    def finished(self, stage: str) -> bool:
        """Whether a stage ran to its end."""
        entry = self.header.stages.begun().get(stage)
        return entry is not None and entry.status == "finished"

    def require_intact(self, *stages: str) -> None:
        """Raise MemfixError where what a stage left behind, or what the header says of it, is not what it was when the
        stage ended. Stages that never ended are passed over; one that is begun again is not."""
        for stage in stages:
            entry = self.header.stages.begun().get(stage)
            if entry is None or (entry.status != "finished" and not entry.seal):
                continue
            now, nothing = self._seal(stage), dict.fromkeys(LATER, sha256_of(self.path, []))
            changed = [name for name in now if now[name] != entry.seal.get(name, nothing.get(name))]
            if changed:
                raise MemfixError(
                    f"In {self.path} {' and '.join(changed)} changed since the {stage} stage ended.",
                    "Restore the run from a copy. Without one, make that stage anew: detect in a new run, or unlearn "
                    "or recheck with --overwrite. To check weights of another origin, name them by --lora or --model.",
                )

    def _seal(self, stage: str) -> dict[str, str]:
        """Of a stage that was begun: what it wrote → digest of that, and of its part of the header."""
        entry = self.header.stages.begun()[stage]
        told = entry.model_dump(mode="json", exclude=PASSING)
        _leave_out_later_fields(told)
        told["settings"] = {k: v for k, v in told["settings"].items() if k not in entry.settings.free}
        files = {name: sha256_of(self.path, _files(self.path / name)) for name in SEALED[stage]}
        return files | {HEADER: digest(json.dumps(told, sort_keys=True))}

    def seal_again(self, stage: str, *names: str) -> None:
        """Take what a later stage has added to files of an earlier one for what that stage left behind."""
        self.header.stages.begun()[stage].seal |= {name: self._seal(stage)[name] for name in names}
        self.save()

    def discard(self, *stages: str) -> None:
        """Forget stages and delete what they wrote, the last one first."""
        with self.lock():
            for stage in sorted(stages, key=list(OUTPUTS).index, reverse=True):
                setattr(self.header.stages, stage, None)
                for name in OUTPUTS[stage]:
                    path = self.path / name
                    if path.is_dir():
                        remove_folder(path)
                    else:
                        path.unlink(missing_ok=True)
            self.save()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep every other process out of this run, and know what the last one has written into its header."""
        with held(self.path):
            self.header = Run.open(self.path).header
            yield

    def check_same(
        self, stage: type[S], settings: Settings, inputs: Inputs, free: AbstractSet[str] = frozenset()
    ) -> S | None:
        """What is recorded of a stage, None if it was not begun.

        Raises MemfixError if it was begun with other settings or inputs, but for those that are free.
        """
        name = STAGE_NAMES[stage]
        entry = self.header.stages.begun().get(name)
        if not isinstance(entry, stage):
            return None
        old = entry.settings.model_dump(mode="json") | entry.inputs.model_dump(mode="json")
        new = settings.model_dump(mode="json") | inputs.model_dump(mode="json")
        differing = [k for k in sorted((old.keys() | new.keys()) - settings.free - free) if old.get(k) != new.get(k)]
        if differing:
            listed = "; ".join(f"{k}: {old.get(k)!r} there, {new.get(k)!r} now" for k in differing)
            raise MemfixError(
                f"The {name} stage in {self.path} was started with other settings. {listed}.",
                "Give another folder to -o." if name == "detect" else "Give --overwrite to discard its results.",
            )
        return entry

    @contextmanager
    def stage(
        self, stage: type[S], settings: Settings, inputs: Inputs, argv: list[str], free: AbstractSet[str] = frozenset()
    ) -> Iterator[S]:
        """Record that a stage runs, and how it ends. Refuses to go on with other settings than it began with, but
        for those that are free: always, or, in `free`, as far as the stage has come.

        Yields the stage's part of the header, for what it finds out. `inputs` identify what the stage reads.
        """
        entry = self.check_same(stage, settings, inputs, free) or stage(settings=settings, inputs=inputs)
        entry.settings, entry.inputs, entry.argv = settings, inputs, argv
        entry.status, entry.started = "started", now()
        setattr(self.header.stages, STAGE_NAMES[stage], entry)
        self.header.environment, self.header.status = environment(), "started"
        self.save()
        started = time.monotonic()
        status: Status = "failed"
        try:
            yield entry
            status = "finished"
            entry.timings.setdefault("seconds", round(time.monotonic() - started, 2))
            entry.seal = entry.seal or self._seal(STAGE_NAMES[stage])  # that of the time when it was made
        except KeyboardInterrupt:
            status = "cancelled"
            raise
        finally:
            entry.status = self.header.status = status
            entry.ended = now()
            self.save()

    # -- lines --------------------------------------------------------------------------------------------------

    def read(self, name: str, kind: type[R]) -> list[R]:
        """All lines of a JSONL file; none if there is no file. A last line that was cut off is left out."""
        path = self.path / name
        if not path.exists():
            return []
        text = path.read_bytes().decode("utf-8", errors="replace")
        lines = text.split("\n")
        records = []
        for number, line in enumerate(lines[:-1], 1):
            try:
                records.append(kind.model_validate_json(line))
            except ValueError as error:
                raise MemfixError(
                    f"{path}:{number} is damaged: {str(error).splitlines()[0]}",
                    "Delete the file so that the stage writes it again, or start a new run.",
                ) from None
        return records

    def write(self, name: str, records: Iterable[Record]) -> None:
        """Write a whole JSONL file at once."""
        write_atomic(self.path / name, "".join(to_line(r) for r in records))

    def append(self, name: str, records: Iterable[Record]) -> None:
        """Add lines; what an interruption cut off before is removed first."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    file.seek(0)
                    file.truncate(file.read().rfind(b"\n") + 1)
            file.write("".join(to_line(r) for r in records).encode())


def _leave_out_later_fields(told: dict[str, Any]) -> None:
    """Take out of what a header says of a stage the fields that runs of an earlier time do not have, where they
    hold nothing: the digests that such runs were sealed with are without them."""
    for name in ("witnesses", "known_copies", "sources", "drawn", "rounds"):
        if name in told and not told[name]:
            del told[name]
    background = told.get("background") or {}
    if background.get("false_alarms", 0) is None:
        del background["false_alarms"]
    if "adapter" in told["settings"]:  # of an earlier time: one path, or none
        several = told["settings"]["adapter"]
        told["settings"]["adapter"] = several if len(several) > 1 else next(iter(several), None)
    for name in ("loop", *LATER_SETTINGS):
        if told["settings"].get(name, "") is None:
            del told["settings"][name]
    for ending in (told.get("ending") or {}, *(told.get("endings") or {}).values()):
        for name in ("targets", "attacked"):
            if not ending.get(name, True):
                del ending[name]


def _files(path: Path) -> list[Path]:
    """A file, or all files of a folder but those that are written anew or stand for a lock; none if it is not there."""
    if not path.is_dir():
        return [path] if path.exists() else []
    return [f for f in path.rglob("*") if f.is_file() and f != path / CARD and not f.name.startswith(".")]


def to_line(record: Record) -> str:
    """One JSONL line."""
    return record.model_dump_json(by_alias=True) + "\n"


def slug(text: str) -> str:
    """A file-name-safe stem of a text."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40] or "run"
