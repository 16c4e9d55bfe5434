"""Attacks on the weights of a run, beside the same attacks on clean training images and on the original model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from PIL import Image

from memfix.config.checks import RecheckSettings
from memfix.console import Talk
from memfix.errors import MemfixError
from memfix.files import errors_of, sha256
from memfix.flow.control_pictures import Chosen, ControlPictures
from memfix.flow.detection import Detection
from memfix.flow.new_weights import NewWeights
from memfix.inputs.opening import open_image
from memfix.inputs.paraphrases import by_prompt, read_paraphrases
from memfix.inputs.wrong_rows import WrongRows
from memfix.models.model import DiffusionModel
from memfix.models.replicas import copied, places_for
from memfix.recheck.attacks.base import Attack, Attacked, Bench
from memfix.recheck.attacks.runner import AttackRunner, Front
from memfix.recheck.attacks.table import ATTACKS, get_attacks
from memfix.records import Arm, AttackResult, Label, Prompt, Role, Version
from memfix.references.groups import representatives
from memfix.references.judge import Judge
from memfix.run.folder import Run
from memfix.run.inputs import RecheckInputs
from memfix.world import ALONE, World

RESULTS, CONTROLS, PICTURES = "attacks.jsonl", "control_pictures.jsonl", "attacks"
CLEAN = 16  # pictures of clean prompts that attacks start or learn from


@dataclass(frozen=True)
class Attacks:
    """All attacks on a pair of models: the one before unlearning and the one after.

    The new weights are attacked on all targets and on clean training images; the original ones on as many targets, to
    see that an attack works at all, and on the same clean ones. Results are appended to `folder` of the run, and what
    is there is not done again.
    """

    detection: Detection
    settings: RecheckSettings
    judge: Judge
    talk: Talk
    folder: str
    world: World = ALONE

    @property
    def run(self) -> Run:
        """Where results are written down."""
        return self.detection.run

    @cached_property
    def groups(self) -> dict[str, str]:
        """Reference → the one that stands for its near-copies."""
        return representatives(self.detection.references)

    @cached_property
    def chosen(self) -> Sequence[Attack]:
        """The attacks that are made; none where there is nothing to bring back."""
        return get_attacks(self.settings) if self.targets() else []

    @property
    def left_out(self) -> list[str]:
        """The attacks that are not made, by name."""
        made = {attack.name for attack in self.chosen}
        return [name for name in ATTACKS if name not in made]

    def results(self) -> list[AttackResult]:
        """What all ranks have found so far."""
        files = sorted((self.run.path / self.folder).glob(f"{Path(RESULTS).stem}*.jsonl"))
        found = [r for file in files for r in self.run.read(f"{self.folder}/{file.name}", AttackResult)]
        order = {name: place for place, name in enumerate(ATTACKS)}  # results may be of an attack that is gone
        return sorted(found, key=lambda r: (order.get(r.attack, len(order)), r.version, r.arm, r.prompt_id))

    def __call__(self, after: DiffusionModel, load_before: Callable[[], DiffusionModel]) -> list[AttackResult]:
        """Attack both, this rank its part; all results that there are then."""
        if not self.chosen:
            return []
        before, targets = load_before(), self.targets()
        where = f"{self.folder}/{self.world.file_name(CONTROLS)}"
        controls = ControlPictures(self.detection, self.settings, self.judge, self.groups, where)(before)
        if not controls and self.settings.control_pictures:
            self.talk.warn(
                "There is no training image with a caption that the model never memorized, so attacks have nothing to "
                "be compared with. Give --references a folder that contains others as well, with captions."
            )
        few = targets[: self.settings.control_pictures]
        original = _weights_of(before) if any(a.name == "strength" for a in self.chosen) else {}
        self._attack(before, Version.BEFORE, {Arm.TARGET: few, Arm.CONTROL: controls}, {})
        self._attack(after, Version.AFTER, {Arm.TARGET: targets, Arm.CONTROL: controls}, original)
        return self.results()

    def _attack(
        self, model: DiffusionModel, version: Version, arms: Mapping[Arm, Sequence[Chosen]],
        original: dict[str, torch.Tensor],
    ) -> None:  # fmt: skip
        file = f"{self.folder}/{self.world.file_name(RESULTS)}"
        done = {(r.attack, r.version, r.arm, r.prompt_id) for r in self.results()}
        todo = [
            (attack, arm, left)
            for attack in self.chosen
            for arm, own in arms.items()
            for wanted in [list(self.world.shard(own))]
            if (left := [w for w in wanted if (attack.name, version, arm, w.prompt.id) not in done])
        ]
        if not todo:
            return
        bench = self._bench(model, original)
        encoded = self._encode(bench.model, {w.prompt.id: w for _, _, left in todo for w in left})
        places = places_for(self.detection.settings.mixed_precision) if self.world.alone else []
        copies = [replace(bench, model=copied(model, place), found=set()) for place in places[1:]]
        runner = AttackRunner(bench, self.judge, self.groups, self._save, copies)
        where = "the new weights" if version is Version.AFTER else "the original weights"
        with self.talk.progress(f"Attacking {where}", sum(len(left) for _, _, left in todo)) as bar:
            at = 0
            for attack, arm, left in todo:
                for result in runner(attack, Front(version, arm, [encoded[w.prompt.id] for w in left])):
                    self.run.append(file, [result])
                    at += 1
                    bar.at(at, attack.name)

    def targets(self) -> list[Chosen]:
        """The memorized prompts, each with the training image that most of its copies show.

        Raises MemfixError for one that the run has not written down.
        """
        shown, prompts = self.detection.shown, self.detection.memorized(Role.PROMPT)
        lost = next((p for p in prompts if p.id not in shown), None)
        if lost is not None:
            raise MemfixError(
                f"The training image of '{lost.text}' is not among those that the run wrote down.",
                "Detect again in a new run.",
            )
        return [Chosen(prompt, shown[prompt.id]) for prompt in prompts]

    def _bench(self, model: DiffusionModel, original: dict[str, torch.Tensor]) -> Bench:
        rule = self.detection.rule

        def is_copy(one: Image.Image, other: Image.Image) -> bool:
            features = [rule.measure.features([image]) for image in (one, other)]
            return rule.is_copy(float(rule.measure.pair(*features)[0]))

        return Bench(
            model, self.detection.settings, is_copy, original, self._clean(), self.settings.attack_samples,
            self.settings.attack_seed, paraphrases=self.paraphrases,
        )  # fmt: skip

    @cached_property
    def paraphrases(self) -> dict[str, list[str]]:
        """Prompt id → the user's own wordings of it."""
        if self.settings.paraphrases is None:
            return {}
        wrong = WrongRows(skip=True)
        rows = read_paraphrases(self.settings.paraphrases, wrong)
        for line in wrong.told():
            self.talk.warn(line)
        return by_prompt(rows, {t.prompt.id: t.prompt.text for t in self.targets()})

    def _clean(self) -> list[tuple[Prompt, Image.Image]]:
        """One sample each of prompts that are not memorized, from the first check."""
        clean = {v.prompt_id for v in self.detection.verdicts if v.verdict is Label.CLEAN}
        prompts = {p.id: p for p in self.detection.prompts if p.id in clean}
        first = {s.prompt_id: s.file_name for s in reversed(self.detection.samples) if s.prompt_id in prompts}
        chosen = list(first.items())[-CLEAN:]
        return [(prompts[i], open_image(self.detection.folder / name)) for i, name in chosen]

    def _encode(self, model: DiffusionModel, wanted: dict[str, Chosen]) -> dict[str, Attacked]:
        """Open and encode each training image once."""
        pictures = [open_image(w.reference.path) for w in wanted.values()]
        latents = model.latents.encode(pictures)
        return {
            i: Attacked(w.prompt, w.reference.file_name, picture, latent)
            for (i, w), picture, latent in zip(wanted.items(), pictures, latents, strict=True)
        }

    def _save(self, name: str, image: Image.Image) -> str:
        path = Path(self.folder) / PICTURES / name
        (self.run.path / path).parent.mkdir(parents=True, exist_ok=True)
        with errors_of(self.run.path / path):
            image.save(self.run.path / path, compress_level=1)
        return path.as_posix()


def inputs_of(weights: NewWeights, settings: RecheckSettings) -> RecheckInputs:
    """What a re-check of weights reads. Raises MemfixError if a file that is named is not there."""
    if settings.paraphrases is None:
        return weights.inputs
    read_paraphrases(settings.paraphrases, WrongRows(skip=True))
    return weights.inputs.model_copy(update={"paraphrases_sha256": sha256([Path(settings.paraphrases)])})


def _weights_of(model: DiffusionModel) -> dict[str, torch.Tensor]:
    with model.denoiser.in_full():
        return {name: value.detach().cpu().clone() for name, value in model.denoiser.module.state_dict().items()}
