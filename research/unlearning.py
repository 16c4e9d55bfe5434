"""What unlearning methods forget and what they harm, on the bundled model: one line of JSON for each cell of the study.

    OMP_NUM_THREADS=1 python research/unlearning.py FOLDER                  # all cells; run again to go on
    OMP_NUM_THREADS=1 python research/unlearning.py FOLDER --only 'siss*'   # some
    python research/unlearning.py --list

A cell is a variant (a method with settings) and a train seed. Its model is trained as `memfix unlearn` does and judged
as `memfix recheck` does: 16 fresh samples of each memorized prompt; controls from the noise of the first check; and
prompts that training never saw, 12 ordinary ones and 12 that name the objects of memorized ones. Each cell is a process
of its own, so that its peak memory is its own. FOLDER takes the detections, which all cells share, and a run folder for
each cell; `research/unlearning_study.py` makes tables and picture from the lines.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from memfix import flow
from memfix.config.checks import DetectSettings
from memfix.config.layers import for_weights, read_config, resolve
from memfix.config.unlearn import UnlearnSettings
from memfix.console import Talk, emit
from memfix.demo import LISTS, SETTINGS, list_path
from memfix.detect.check import Check
from memfix.errors import MemfixError
from memfix.flow.detection import Detection
from memfix.flow.new_weights import NewWeights
from memfix.models import loading
from memfix.models.sampling import plan_samples
from memfix.quality import MOST_BROKEN, broken_share
from memfix.recheck.outcomes import file_difference
from memfix.records import (
    FRESH,
    Label,
    Prompt,
    Rewording,
    Role,
    Sample,
    Score,
    Step,
)
from memfix.run.environment import environment
from memfix.run.folder import Run, now
from memfix.run.outputs import AFTER, BEFORE

sys.path.insert(0, str(Path(__file__).parent))
from demo import GROUPS, kinds, shows
from detection import prompts as captions

RESULTS = Path(__file__).parent / "results" / "unlearning.jsonl"
SEEDS = (0, 1, 2)
NUM_FRESH, FIRST_FRESH = 16, 100_000
PLAIN = {"prior_target": "picture", "max_train_steps": 60}  # where methods are compared
TRAINED = Path(__file__).parent / "plain.toml"
PRESET = {"prior_target": "model", "max_train_steps": 80}  # as in plain.toml itself
SIXTEEN = "sixteen"
UNSEEN, UNSEEN_EACH = 12, 8  # prompts of each kind, samples a prompt
BEFORE_UNSEEN = "before-unseen"


@dataclass(frozen=True)
class Variant:
    """A method and its settings, where they differ from plain.toml and from PLAIN.

    targets: the demo list with its 25 memorized prompts, one caption of a group, or SIXTEEN: eight each of the
    fully and the partly memorized ones.
    wordings: shortened wordings are sampled for every target, not only for those without keep images of their own.
    """

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    targets: str = "demo"
    seeds: tuple[int, ...] = SEEDS
    wordings: bool = False


def _bare(name: str, method: str = "siss", **settings: Any) -> Variant:
    """Weights alone: nothing is reworded after training."""
    return Variant(name, {"method": method, "reword": False, **settings})


def _once(name: str, **settings: Any) -> Variant:
    return Variant(name, {"method": "siss", "reword": False, **settings}, seeds=(0,))


HELD = {"prior_target": "model"}
METHODS = [
    Variant("siss, preset", PRESET),
    Variant("siss, preset, full weights", {**PRESET, "weights": "full"}),
    Variant("siss, held, reworded", HELD, seeds=(0, 1)),
    _bare("siss, held", **HELD),
    _bare("siss"),
    _bare("naive", "naive"),
    _bare("neggrad", "neggrad"),
    _bare("neggrad, capped", "neggrad", forget_cap=1.0),
    _bare("erasediff", "erasediff"),
    _bare("bounded", "bounded"),
    _bare("retrack", "retrack"),
    Variant("anchor", {"method": "anchor", "reword": False}, wordings=True),
    _bare("vdu", "vdu"),
    _bare("siss, no-is", siss_mode="no-is"),
    _bare("surrogate", "surrogate"),
]
WINDOW = [
    _bare("siss, t = 999", timestep_min=999),
    _bare("siss, t from 750", timestep_min=750),
    _bare("siss, all t", timestep_min=0),
]
MIXTURE = [_bare(f"siss, mixture {v}", mixture=v) for v in (0.25, 0.75)]
RATIO = [_bare(f"siss, ratio {v}", forget_ratio=v) for v in (0.05, 0.2, 0.5)]
SINGLE = [
    Variant(f"{name}, one {group}", {"reword": False, **settings}, targets=group)
    for name, settings in (("siss", {"method": "siss"}), ("siss, held", HELD), ("naive", {"method": "naive"}))
    for group in ("fully memorized", "partly memorized")
]
SEVERAL = [
    Variant("siss, preset, 16 targets", PRESET, targets=SIXTEEN),
    Variant("siss, preset, full weights, 16 targets", {**PRESET, "weights": "full"}, targets=SIXTEEN),
    Variant("naive, 16 targets", {"method": "naive", "reword": False}, targets=SIXTEEN),
]
STRENGTH = [
    _once("retrack, weight 0.8", method="retrack", forget_weight=0.8),
    *(_once(f"vdu, prior {v}", method="vdu", parameter_prior=v) for v in (0.999, 0.9995, 0.9999)),
]
VARIANT_KINDS = [*METHODS, *SEVERAL, *WINDOW, *RATIO, *MIXTURE, *STRENGTH, *SINGLE]


def cells(only: str) -> list[tuple[Variant, int]]:
    """What there is to do, the most telling first: all variants with one seed, then the others seed by seed."""
    order = [(v, seed) for seed in SEEDS for v in VARIANT_KINDS if seed in v.seeds]
    return [(v, seed) for v, seed in order if fnmatchcase(v.name, only)]


def key(row: dict[str, Any]) -> str:
    return json.dumps([row["targets"], row["settings"], row["seed"], row["wordings"]], sort_keys=True)


def identity(variant: Variant, seed: int) -> dict[str, Any]:
    return {
        "variant": variant.name, "targets": variant.targets, "seed": seed, "settings": variant.settings,
        "wordings": variant.wordings,
    }  # fmt: skip


def read(results: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []


def unseen() -> list[Prompt]:
    """Captions in neither list, and not among the shortened wordings that training keeps."""
    listed = {text for name in LISTS for text in list_path(name).read_text().splitlines()}
    groups = {text: group for text, group in captions().items() if text not in listed}
    ordinary = [text for text, group in groups.items() if group == "ordinary"]
    hard = [text for text, group in groups.items() if group == "hard" and " on a " in text]
    chosen = [text for kind in (ordinary, hard) for text in kind[:: len(kind) // UNSEEN][:UNSEEN]]
    return [Prompt(id=f"u{i:04d}", text=text, role=Role.CONTROL) for i, text in enumerate(chosen, 1)]


def plan_unseen(settings: DetectSettings) -> list[Sample]:
    seeds = range(FIRST_FRESH, FIRST_FRESH + UNSEEN_EACH)
    steps, guidance = settings.num_inference_steps, settings.guidance_scale
    return plan_samples(unseen(), seeds, steps=steps, guidance=guidance, condition=FRESH)


def captions_of(targets: str) -> list[str]:
    """The captions that a detection of so named targets has."""
    wanted = dict.fromkeys(GROUPS[:2], 8) if targets == SIXTEEN else {targets: 1}
    return [text for group, n in wanted.items() for text in [t for t, g in kinds().items() if g == group][:n]]


def detect(folder: Path, targets: str) -> Path:
    """Run folder of the detection that all cells of these targets share, with samples of the unseen prompts."""
    listed = "demo"
    if targets != "demo":
        path = folder / f"{targets.replace(' ', '-')}.txt"
        path.write_text("".join(f"{text}\n" for text in captions_of(targets)))
        listed = str(path)
    given = {"model": "demo", "references": "demo", "controls": "controls"}
    settings = resolve(DetectSettings, given, read_config(SETTINGS)["detect"])
    path = folder / f"detected-{targets.replace(' ', '-')}"
    run = flow.detect(listed, settings, path, folder, ["benchmark"], Talk())
    if not (run.path / "unseen.done").exists():
        model, detection = loading.load(loading.locate("demo")), Detection.of(run)
        check = Check(run, BEFORE_UNSEEN, model, detection.rule, detection.judge(), settings)
        for _ in check.sample(plan_unseen(settings)):
            pass
        (run.path / "unseen.done").touch()
    return run.path


def settings_of(variant: Variant, seed: int) -> UnlearnSettings:
    preset = for_weights(read_config(TRAINED)["unlearn"], variant.settings.get("weights", "lora"))
    wordings = {"keep_enough": sys.maxsize, "variant_kinds": "shorten"} if variant.wordings else {}
    return resolve(UnlearnSettings, {**variant.settings, **wordings, "train_seed": seed}, PLAIN, preset)


def measure(detected: Path, variant: Variant, seed: int) -> dict[str, Any]:
    """One cell: unlearn, sample, score. What a method refuses to do is a result too."""
    path = detected.parent / "cells" / f"{variant.name.replace(', ', '-').replace(' ', '-')}-{seed}"
    if not path.exists():
        partial = path.with_name(f".{path.name}")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(detected, partial, copy_function=os.link, ignore=shutil.ignore_patterns("*lock*"))
        partial.rename(path)
    run = Run.open(path)
    settings = settings_of(variant, seed)
    row = {**identity(variant, seed), "finished": now(), "environment": environment().model_dump()}
    started = time.process_time()
    try:
        flow.unlearn(run, settings, ["benchmark"], Talk())
    except MemfixError as error:
        return {**row, "refused": str(error)}
    return {**row, "cpu_seconds": round(time.process_time() - started, 1), **figures(run), "finished": now()}


def figures(run: Run) -> dict[str, Any]:
    """Sample the new weights and say what is to be said of them."""
    detection = Detection.of(run)
    settings, prompts = detection.settings, {p.id: p for p in detection.prompts}
    before = {v.prompt_id: v for v in detection.verdicts}
    targets = [p for p in prompts.values() if before[p.id].verdict is Label.MEMORIZED and p.role is Role.PROMPT]
    controls = {p.id for p in prompts.values() if p.role is Role.CONTROL}
    steps, guidance = settings.num_inference_steps, settings.guidance_scale
    seeds = range(FIRST_FRESH, FIRST_FRESH + NUM_FRESH)
    fresh = plan_samples(targets, seeds, steps=steps, guidance=guidance, condition=FRESH)
    same = [s for s in detection.samples if s.prompt_id in controls]
    plan = [*fresh, *same, *plan_unseen(settings)]
    check = Check(
        run, AFTER, NewWeights.of(run).load(detection, Talk(quiet=True)), detection.rule, detection.judge(), settings
    )
    for _ in check.sample(plan):
        pass
    after = {v.prompt_id: v for v in check.conclude(plan)}
    scores = run.read(f"{AFTER}/scores.jsonl", Score)
    old = detection.scores
    detail = detection.detail
    texts = {**{i: p.text for i, p in prompts.items()}, **{p.id: p.text for p in unseen()}}
    shown = shows(run.path / AFTER, scores, texts)
    groups: dict[str, Any] = {}
    planted = kinds()
    for p in targets:
        own = [s for s in scores if s.prompt_id == p.id]
        broken = broken_share(own, detail)
        group = groups.setdefault(planted.get(p.text, GROUPS[3]), dict.fromkeys(
            ("prompts", "success", "useful", "copies", "samples", "broken", "shown"), 0
        ))  # fmt: skip
        group["prompts"] += 1
        rid = after[p.id].verdict is Label.CLEAN and broken <= MOST_BROKEN
        group["success"] += rid
        group["useful"] += rid and sum(shown[p.id]) >= len(own) / 2
        group["copies"] += sum(s.copy_ for s in own)
        group["samples"] += len(own)
        group["broken"] += round(broken * len(own))
        group["shown"] += sum(shown[p.id])
    unlearning, taken = run.header.stages.unlearn, run.read("training.jsonl", Step)
    assert unlearning, "figures are those of new weights"
    kept = [s for s in old if s.prompt_id in controls]
    rare = run.read(f"{BEFORE_UNSEEN}/scores.jsonl", Score)
    return {
        "groups": groups,
        "controls": harm(run, BEFORE, kept, scores, texts, detail),
        "unseen": harm(run, BEFORE_UNSEEN, rare, scores, texts, detail),
        "steps": len(taken), "training_seconds": round(sum(s.seconds for s in taken), 1),
        "seconds": unlearning.timings["seconds"], "peak_memory_bytes": unlearning.peak_memory_bytes,
        "reworded": sum(r.applied for r in run.read("rewordings.jsonl", Rewording)),
    }  # fmt: skip


def harm(
    run: Run, folder: str, old: list[Score], scores: list[Score], texts: dict[str, str], detail: tuple[float, float]
) -> dict[str, Any]:
    """Pictures that show what their prompt names, before and after from the same noise, and how far they moved."""
    names = {s.file_name for s in old}
    own = [s for s in scores if s.file_name in names]
    drifts = [file_difference(run.path / folder / s.file_name, run.path / AFTER / s.file_name) for s in own]
    return {
        "samples": len(own), "shown_before": count(shows(run.path / folder, old, texts).values()),
        "shown_after": count(shows(run.path / AFTER, own, texts).values()), "drift": round(float(np.mean(drifts)), 4),
        "broken": round(broken_share(own, detail), 4), "copies": sum(s.copy_ for s in own),
    }  # fmt: skip


def count(marks: Iterable[list[bool]]) -> int:
    return sum(map(sum, marks))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--only", default="*", help="variants by name, with wildcards")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--list", action="store_true", help="print the variants and how many seeds are there")
    parser.add_argument("--json", action="store_true", help="print what the results file holds")
    options = parser.parse_args()
    if options.list:
        done = {key(row) for row in read(options.results)}
        for v in VARIANT_KINDS:
            ready = sum(key(identity(v, seed)) in done for seed in v.seeds)
            print(f"{v.name}: {ready} of {len(v.seeds)} seeds")
    elif options.json:
        emit(read(options.results))
    elif options.folder is None:
        parser.error("give a folder for the runs")
    else:
        run_cells(options.folder, options.only, options.results)


def in_own_process(function: Callable[..., Any], *arguments: Any) -> Any:
    with multiprocessing.get_context("spawn").Pool(1) as process:
        return process.apply(function, arguments)


def run_cells(folder: Path, only: str, results: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    results.parent.mkdir(parents=True, exist_ok=True)
    done = {key(row) for row in read(results)}
    todo = [(v, seed) for v, seed in cells(only) if key(identity(v, seed)) not in done]
    for n, (variant, seed) in enumerate(todo, 1):
        print(f"{n} of {len(todo)}: {variant.name}, seed {seed}", file=sys.stderr, flush=True)
        row = in_own_process(measure, in_own_process(detect, folder, variant.targets), variant, seed)
        with results.open("a") as file:
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
