"""A run of memfix on a plant, by ground truth: what copies, what was found, what is erased, and what was said of it."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from memfix.console import Talk
from memfix.flow.detection import Detection
from memfix.flow.new_weights import NewWeights
from memfix.models.sampling import batches, plan_samples
from memfix.records import FRESH, SAME, Arm, AttackResult, Change, Label, Outcome, Prompt, Role, Sample, Version
from memfix.run.folder import Run
from plants.sheet import sheet
from plants.truth import GroundTruth, diversity

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "recipes"))
from recognizer import object_names, recognize

FRESH_SAMPLES = 32
TELLING = ("wording", "embedding")  # the attack `noised` starts from the training picture itself
MOST_FORCED = 0.2
Pictures = dict[str, list[Image.Image]]
"""Prompt id → pictures."""


def kept(run: Run, folder: str, condition: str = SAME) -> Pictures:
    """What a check sampled under one condition."""
    found: Pictures = {}
    for s in run.read(f"{folder}/metadata.jsonl", Sample):
        if s.condition == condition:
            found.setdefault(s.prompt_id, []).append(Image.open(run.path / folder / s.file_name).convert("RGB"))
    return found


def fresh(detection: Detection, run: Run, prompts: Sequence[Prompt], seed: int) -> Pictures:
    """New samples of the unlearned weights, from noise that no check uses."""
    model, settings = NewWeights.of(run).load(detection, Talk(quiet=True)), detection.settings
    plan = plan_samples(
        prompts, range(seed, seed + FRESH_SAMPLES), steps=settings.num_inference_steps,
        guidance=settings.guidance_scale, condition=FRESH,
    )  # fmt: skip
    found: Pictures = {}
    for batch in batches(plan, settings.batch_size):
        for sample, image in zip(batch, model.sample(batch, settings.mixed_precision), strict=True):
            found.setdefault(sample.prompt_id, []).append(image)
    return found


def shown_objects(controls: Sequence[Prompt], pictures: Pictures) -> float:
    """Share of the controls' samples that show the object that the control names, by the recipe's recognizer."""
    names, right = sorted(object_names(), key=len, reverse=True), list[bool]()
    for control in controls:
        images = [np.asarray(image.resize((64, 64))) for image in pictures[control.id]]
        wanted = next(name for name in names if name in control.text)
        right += [name == wanted for name in recognize(np.stack(images))]
    return float(np.mean(right))


class Attacked(NamedTuple):
    """An attack on the new weights: prompt id → whether a picture of it that was kept copies a training picture."""

    targets: dict[str, bool]
    controls: dict[str, bool]

    @property
    def tells(self) -> set[str]:
        """The prompts that it brings back; none where it brings as much out of pictures that were never memorized."""
        forced = np.mean(list(self.controls.values())) if self.controls else 0
        return {prompt for prompt, back in self.targets.items() if back} if forced <= MOST_FORCED else set()

    @property
    def counts(self) -> dict[str, list[int]]:
        """Of targets and of the control arm: brought back, and attacked."""
        return {arm: [sum(found.values()), len(found)] for arm, found in self._asdict().items()}


def attacks(run: Run, truth: GroundTruth) -> dict[str, Attacked]:
    """Attack → what it brought out of the new weights, by ground truth."""
    found: dict[str, Attacked] = {}
    for result in run.read("after/attacks.jsonl", AttackResult):
        if result.version is Version.AFTER and result.shown:
            images = [Image.open(run.path / file).convert("RGB") for file in result.shown]
            attack = found.setdefault(result.attack, Attacked({}, {}))
            arm = attack.targets if result.arm is Arm.TARGET else attack.controls
            arm[result.prompt_id] = arm.get(result.prompt_id, False) or any(truth.copied(images))
    return found


def evaluate(plant: Path, run_folder: Path, seed: int) -> dict[str, Any]:
    """The numbers of one run, as far as it came. Writes contact sheets beside it."""
    truth, run = GroundTruth(plant), Run.open(run_folder)
    detection = Detection.of(run)
    planted, labels = set(truth.captions), {v.prompt_id: v.verdict for v in detection.verdicts}
    asked = [p for p in detection.prompts if p.role is Role.PROMPT]
    controls = [p for p in detection.prompts if p.role is Role.CONTROL]
    before = kept(run, "before")
    copies = {p.id: sum(truth.copied(before[p.id])) for p in detection.prompts}
    copying = [p for p in asked if p.text in planted and copies[p.id]]
    others = [p for p in detection.prompts if p.text not in planted and not copies[p.id]]
    sheet(truth, {p.text: before[p.id] for p in detection.prompts}).save(f"{run_folder}-before.png")
    row: dict[str, Any] = {
        "prompts": len(planted), "copying": len(copying),
        "found": sum(labels[p.id] is Label.MEMORIZED for p in copying),
        "missed": {p.text: [labels[p.id].value, copies[p.id]] for p in copying if labels[p.id] is not Label.MEMORIZED},
        "leaks": {p.text: copies[p.id] for p in detection.prompts if p.text not in planted and copies[p.id]},
        "others": len(others), "others_called": sum(labels[p.id] is Label.MEMORIZED for p in others),
        "called": [p.text for p in others if labels[p.id] is Label.MEMORIZED],
        "unlearned": 0, "erased": 0, "brought_back": 0, "mitigated": 0, "falsely_mitigated": 0,
        "undecided": 0, "left": {}, "outcomes": {}, "attacks": {}, "controls": None, "diversity": None,
    }  # fmt: skip
    if not run.finished("unlearn"):
        return row
    memorized = [p for p in detection.prompts if labels[p.id] is Label.MEMORIZED]
    targets = list({p.id: p for p in [*copying, *memorized]}.values())
    after = fresh(detection, run, targets, seed)
    left = {p.id: sum(truth.copied(after[p.id])) for p in targets}
    sheet(truth, {p.text: after[p.id] for p in targets}).save(f"{run_folder}-after.png")
    row |= {
        "unlearned": len(memorized), "erased": sum(not left[p.id] for p in copying),
        "left": {p.text: left[p.id] for p in targets if left[p.id]},
        "diversity": [float(np.mean([diversity(side[p.id]) for p in targets])) for side in (before, after)],
    }  # fmt: skip
    if not run.finished("recheck"):
        return row
    outcomes = {c.prompt_id: c.outcome for c in run.read("changes.jsonl", Change)}
    later, attacked = {c: kept(run, "after", c) for c in (SAME, FRESH)}, attacks(run, truth)
    back = set[str]().union(*(attacked[name].tells for name in TELLING if name in attacked))
    alive = {
        p.id
        for p in targets
        if left[p.id] or p.id in back or any(any(truth.copied(side.get(p.id, []))) for side in later.values())
    }
    mitigated = {p.id for p in targets if outcomes[p.id] is Outcome.MITIGATED}
    return row | {
        "erased": sum(p.id not in alive for p in copying), "brought_back": len(back), "mitigated": len(mitigated),
        "falsely_mitigated": len(mitigated & alive),
        "undecided": sum(outcomes[p.id] is Outcome.UNDECIDED for p in targets),
        "outcomes": {p.text: outcomes[p.id].value for p in targets},
        "attacks": {name: attack.counts for name, attack in attacked.items()},
        "controls": [shown_objects(controls, side) for side in (before, later[SAME])],
    }  # fmt: skip
