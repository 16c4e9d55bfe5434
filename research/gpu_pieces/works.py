"""Whether memfix works on a device: the demo, the chain in each precision, its tests, its LoRA in plain diffusers.

The chain goes through the command line and is read off its run folders.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from gpu_pieces.lines import RESULTS, ROOT, memfix_code
from gpu_pieces.piece import Here, WrongResultError

EXPECTED = RESULTS / "demo_verdicts.json"
MAY_BE_NONE = ("part", "known_part", "judged", "wording", "copies_reworded", "samples_reworded", "clip_lead_before",
               "clip_lead_after", "reference_detail")  # fmt: skip
FLAT = 1e-4  # of `detail`: a picture of one colour, which NaN becomes
OUTCOMES = ("mitigated", "persistent", "hidden", "damaged", "undecided", "changed")
ALIKE = {"hidden": "mitigated"}
"""Outcomes that are compared as one: whether an attack on weights that give no copy any more has one in its few samples
is chance, which other rounding changes. That attacks work at all is seen at the original weights."""
CHAIN = 6  # prompts, and as many controls
PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}
TINY = [
    "--limit", "2", "--num-samples", "3", "--num-inference-steps", "6", "--num-fresh", "1", "--max-train-steps", "2",
    "--train-batch-size", "2", "--prior-batch-size", "2", "--keep-enough", "1", "--keep-variants", "1",
    "--variant-kinds", "shorten", "--no-reword", "--attack-samples", "1", "--control-pictures", "1",
]  # fmt: skip
SHOWN = 4  # seeds of each prompt that are compared with plain diffusers


def memfix(*words: object) -> None:
    """Memfix's command line, in this process. Raises what it raises, and WrongResultError for an exit code."""
    from memfix.cli import main

    sys.argv = ["memfix", *map(str, words), "--debug"]
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise WrongResultError(f"memfix {words[0]} ended with code {end.code}") from None


def demo(here: Here) -> None:
    """`memfix demo` as it stands, its verdicts held against those of the CPU."""
    run = here.work / "demo"
    memfix("demo", "-o", run, *(small(here, "noised,embedding") if here.tiny else []))
    judge(here, run, "demo")


def chain(here: Here, precision: str, weights: str) -> None:
    """Detect, unlearn and re-check a few prompts of the bundled model in one precision."""
    run = here.work / f"chain-{precision}-{weights}"
    chain_to(run, here, PRECISIONS[precision], weights)
    judge(here, run, f"chain-{weights}")


def chain_to(run: Path, here: Here, mixed_precision: str, weights: str) -> None:
    """The command of a chain."""
    few = small(here, "noised") if here.tiny else ["--limit", CHAIN, "--controls", controls(here.work, CHAIN)]
    memfix(
        "run", "demo", "-m", "demo", "--references", "demo", f"--{weights}", "--mixed-precision", mixed_precision,
        "-o", run, *few,
    )  # fmt: skip


def small(here: Here, attacks: str) -> list[object]:
    """Flags for next to no work, with these attacks."""
    return [*TINY, "--attacks", attacks, "--controls", controls(here.work, 2)]


def controls(folder: Path, most: int) -> Path:
    """A list of the first controls."""
    lines = (ROOT / "prompts" / "controls.txt").read_text().splitlines()[:most]
    file = folder / f"controls-{most}.txt"
    if not file.exists():
        beside = file.with_suffix(f".{os.getpid()}.tmp")  # pieces that run beside each other write it too
        beside.write_text("\n".join(lines) + "\n")
        beside.replace(file)
    return file


def judge(here: Here, run: Path, expected: str) -> None:
    """Note what a run found. Raises WrongResultError for numbers that are none, blank pictures and other verdicts."""
    stages = json.loads((run / "run.json").read_text())["stages"]
    found, changes = verdicts(run), _lines(run / "changes.jsonl")
    pictures = [s for when in ("before", "after") for s in _lines(run / when / "scores.jsonl")]
    steps = _lines(run / "training.jsonl")
    here.note(
        prompts=len(found), memorized=sum(f["before"] == "memorized" for f in found.values()),
        **{word: sum(c["outcome"] == word for c in changes) for word in OUTCOMES},
        pictures=len(pictures), blank_pictures=sum(p["detail"] < FLAT for p in pictures), steps=len(steps),
        numbers_that_are_none=sum(not_numbers(x) for x in (*pictures, *steps, *changes)),
        **{f"{name}_seconds": entry["timings"].get("seconds", 0.0) for name, entry in stages.items() if entry},
    )  # fmt: skip
    if not steps:
        raise WrongResultError("nothing was unlearned: no prompt was found to be memorized")
    here.note(step_seconds=median(s["seconds"] for s in steps))
    here.note(unlearn_peak_gib=(stages["unlearn"]["peak_memory_bytes"] or 0) / 2**30)
    if here.values["blank_pictures"] or here.values["numbers_that_are_none"]:
        raise WrongResultError(
            f"{here.values['blank_pictures']} blank pictures, {here.values['numbers_that_are_none']} numbers are none"
        )
    attacks_work(here, _lines(run / "after" / "attacks.jsonl"))
    if here.tiny:
        return
    wanted = expected_verdicts()
    if reason := stale(wanted):
        here.note(verdicts_of_other_code=reason)
    compare(here, found, wanted[expected]["prompts"])


def attacks_work(here: Here, results: list[dict[str, Any]]) -> None:
    """Note how many attacks brought a memorized picture back. Raises WrongResultError if none did at the original
    weights, which draw it: what an attack that cannot work does not find is not gone."""
    for version in ("before", "after"):
        own = [
            r["curve"][-1]["copies"] > 0
            for r in results
            if (r["version"], r["arm"]) == (version, "target") and r["curve"]  # else it could not be tried
        ]
        if own:
            here.note(**{f"attacks_{version}": len(own), f"attacks_{version}_succeeded": sum(own)})
    if here.values.get("attacks_before_succeeded", 1) == 0:
        raise WrongResultError("no attack gets a memorized picture from the original model, so attacks do not work")


def expected_verdicts() -> dict[str, Any]:
    """What a CPU found. Raises WrongResultError if there is no such file, or it is another one."""
    try:
        wanted = json.loads(EXPECTED.read_text(encoding="utf-8"))
        for name in ("demo", "chain-lora", "chain-full"):
            if not [verdict["before"] for verdict in dict(wanted[name]["prompts"]).values()]:
                raise ValueError("no prompts")
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = f"{EXPECTED} holds no verdicts of a CPU ({type(error).__name__})"
        raise WrongResultError(f"{what}: on a machine with one, run python research/gpu.py --expect") from None
    return dict(wanted)


def stale(wanted: dict[str, Any]) -> str:
    """Why a CPU's verdicts are not to be compared without a word: other code than this made them. Empty: it did not."""
    made_by, here = wanted.get("code"), memfix_code()
    return "" if made_by == here else f"the CPU's verdicts were made by other code ({made_by}) than this ({here})"


def compare(here: Here, found: dict[str, dict[str, str]], wanted: dict[str, dict[str, str]]) -> None:
    """Raise WrongResultError where verdicts or outcomes are not those that are wanted."""
    differing = [
        f"{text}: {found.get(text)}, not {wanted.get(text)}"
        for text in sorted(found.keys() | wanted.keys())
        if alike(found.get(text)) != alike(wanted.get(text))
    ]
    here.note(verdicts_compared=len(wanted), verdicts_differing=len(differing))
    if differing:
        of = f" ({other})" if (other := here.values.get("verdicts_of_other_code")) else ""
        raise WrongResultError(f"{len(differing)} verdicts are not those of the CPU{of}: {'; '.join(differing)}"[:500])


def alike(verdict: dict[str, str] | None) -> dict[str, str] | None:
    """A verdict and its outcome as they are compared."""
    return verdict and {key: ALIKE.get(word, word) for key, word in verdict.items()}


def verdicts(run: Path) -> dict[str, dict[str, str]]:
    """Prompt → what was found before and what became of it."""
    texts = {p["id"]: p["text"] for p in _lines(run / "prompts.jsonl")}
    found = {texts[v["prompt_id"]]: {"before": v["verdict"]} for v in _lines(run / "before" / "verdicts.jsonl")}
    for change in _lines(run / "changes.jsonl"):
        found[texts[change["prompt_id"]]]["outcome"] = change["outcome"]
    return found


def not_numbers(record: dict[str, Any]) -> int:
    """How many numbers of a record are none: infinite, NaN, or null, which a record's NaN is written as."""
    return sum(
        (value is None and name not in MAY_BE_NONE) or (isinstance(value, float) and not math.isfinite(value))
        for name, value in _flat(record)
    )


def _flat(record: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in record.items():
        if isinstance(value, dict):
            yield from _flat(value)
        else:
            yield name, value


def _lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def adapter(here: Here) -> None:
    """The LoRA of the demo in plain diffusers, held against memfix's own sampling of it and the model without it."""
    from gpu_pieces import internals

    runs = [here.work / name for name in ("demo", "chain-fp32-lora")]
    run = next((run for run in runs if (run / "model").exists()), None)
    if run is None:  # a new machine, for which the lines of an old one say that these pieces are done
        run = here.work / "for-adapter"
        chain_to(run, here, "no", "lora")
    texts = internals.prompts_of(run)[: 2 if here.tiny else SHOWN]
    steps = 6 if here.tiny else 12
    plain, mine, without = (
        np.stack([np.asarray(image, np.float32) / 255 for image in images])
        for images in (
            _plain(here, texts, steps, run / "model"),
            internals.sampled(internals.with_adapter(run / "model"), texts, steps, 3.0, "no"),
            internals.sampled(internals.with_adapter(None), texts, steps, 3.0, "no"),
        )
    )
    apart, effect = float(np.sqrt(np.mean((plain - mine) ** 2))), float(np.sqrt(np.mean((without - mine) ** 2)))
    here.note(rms_from_memfix=apart, rms_of_the_adapter=effect)
    if apart > 0.03 or (effect < 4 * apart and not here.tiny):
        raise WrongResultError(
            f"plain diffusers draws other pictures: rms {apart:.3f}, the adapter itself {effect:.3f}"
        )


@torch.no_grad()
def _plain(here: Here, texts: list[str], steps: int, folder: Path) -> list[Any]:
    """No memfix in here."""
    from diffusers import StableDiffusionPipeline

    from gpu_pieces.internals import MODEL

    pipe = StableDiffusionPipeline.from_pretrained(MODEL, safety_checker=None).to(here.device, torch.float32)
    pipe.set_progress_bar_config(disable=True)
    pipe.load_lora_weights(folder)
    generators = [torch.Generator("cpu").manual_seed(i) for i in range(len(texts))]
    return list(pipe(texts, generator=generators, num_inference_steps=steps, guidance_scale=3.0).images)


class Counter:
    """Counts how tests ended, as a plugin of pytest; what is killed keeps the counts so far."""

    def __init__(self, here: Here) -> None:
        self._here = here
        self.counts = {"passed": 0, "failed": 0, "skipped": 0}
        self.failed: list[str] = []

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Of a test's three parts, its call, or what kept it from being called."""
        if report.when == "call" or report.outcome != "passed":
            self.counts[report.outcome] += 1
            self._here.note(**{f"tests_{word}": n for word, n in self.counts.items()})
            if report.failed:
                self.failed.append(report.nodeid.split("::")[-1])


def tests(here: Here, chosen: str) -> None:
    """Tests that are marked for a GPU, by words of their names; without one a few of the same tests on the CPU."""
    import pytest

    counter = Counter(here)
    mark, names = ("gpu", chosen) if here.device == "cuda" else ("not gpu", "noise or autocast")
    folder = str(ROOT / "tests" / "gpu")
    code = pytest.main(
        [folder, f"--rootdir={ROOT}", "-p", "no:cacheprovider", "-rs", "-m", mark, "-k", names], plugins=[counter]
    )
    if code or not counter.counts["passed"]:
        raise WrongResultError(
            f"pytest ended with code {int(code)}: {', '.join(counter.failed) or 'no test passed'}"[:500]
        )


def expect(work: Path, device: str = "cpu") -> None:
    """Write down the verdicts of this machine's CPU, which the GPU's are held against."""
    from memfix.run.environment import environment

    here, code = Here(device, False, work, work / "expect.values.json"), memfix_code()
    memfix("demo", "-o", work / "demo")
    for weights in ("lora", "full"):
        chain_to(work / f"chain-fp32-{weights}", here, "no", weights)
    folders = {"demo": "demo", **{f"chain-{w}": f"chain-fp32-{w}" for w in ("lora", "full")}}
    found = {name: {"prompts": verdicts(work / folder)} for name, folder in folders.items()}
    EXPECTED.parent.mkdir(parents=True, exist_ok=True)
    EXPECTED.write_text(
        json.dumps({"code": code, **found, "environment": environment().model_dump()}, indent=1, ensure_ascii=False)
        + "\n",
        encoding="utf-8",
    )
