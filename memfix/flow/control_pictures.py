"""Training images that the original model never memorized: what attacks are compared with."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from memfix.config.checks import RecheckSettings
from memfix.flow.detection import Detection
from memfix.inputs.inside import parted
from memfix.models.model import DiffusionModel
from memfix.models.sampling import plan_samples
from memfix.records import ControlPicture, Prompt, Reference, Role
from memfix.references.judge import Judge

TRIES = 4  # training images that are asked for, for each one that is wanted


@dataclass(frozen=True)
class Chosen:
    """A training image that is to be attacked, under a prompt."""

    prompt: Prompt
    reference: Reference


@dataclass(frozen=True)
class ControlPictures:
    """The control arm of a run's attacks, as far as captions tell what is memorized.

    groups: reference → the one that stands for its near-copies; file: lines of what was asked for, in the run.
    """

    detection: Detection
    settings: RecheckSettings
    judge: Judge
    groups: Mapping[str, str]
    file: str

    def __call__(self, before: DiffusionModel) -> list[Chosen]:
        """As many as are wanted, if there are.

        One without a caption cannot be asked for, and is left out. Of those that no sample was a copy of, nor of a
        near-copy of them, the same ones each time; each is asked for under its caption first, since a prompt list need
        not name everything that a model has memorized.
        """
        run, wanted = self.detection.run, self.settings.control_pictures
        asked = {c.reference: c for c in run.read(self.file, ControlPicture)}
        found: list[Chosen] = []
        for number, reference in enumerate(never_copied(self.detection, self.groups)[: TRIES * wanted], 1):
            if len(found) == wanted:
                break
            prompt = Prompt(id=f"clean{number:04d}", text=reference.text, role=Role.CONTROL)
            if reference.file_name not in asked:
                asked[reference.file_name] = self._ask(before, prompt, reference)
                run.append(self.file, [asked[reference.file_name]])
            if not asked[reference.file_name].copies:
                found.append(Chosen(prompt, reference))
        return found

    def _ask(self, before: DiffusionModel, prompt: Prompt, reference: Reference) -> ControlPicture:
        s, n = self.detection.settings, self.settings.attack_samples
        seeds = range(self.settings.attack_seed, self.settings.attack_seed + n)
        plan = plan_samples([prompt], seeds, steps=s.num_inference_steps, guidance=s.guidance_scale)
        copies, own = 0, self.groups.get(reference.file_name, reference.file_name)
        for i in range(0, n, s.batch_size):
            batch = plan[i : i + s.batch_size]
            scores = self.judge.score(batch, before.sample(batch, s.mixed_precision))
            shown = [[s.shows] if s.copy_ else [told.reference for told in s.accused.values()] for s in scores]
            copies += sum(own in {self.groups.get(name, name) for name in names} for names in shown)
        return ControlPicture(reference=reference.file_name, text=prompt.text, copies=copies, samples=n)


def never_copied(detection: Detection, groups: Mapping[str, str]) -> list[Reference]:
    """The training images with a caption that no sample was a copy of, nor of a near-copy of them or of another frame
    of their file, in the same order each time, whatever that of the list is. Captions of memorized prompts are left
    out."""
    copied = {groups.get(name, name) for s in detection.scores if s.copy_ for name in (s.reference, s.shows)}
    files = {parted(r.path)[0] for r in detection.references if groups.get(r.file_name, r.file_name) in copied}
    texts = {p.text for p in detection.memorized(Role.PROMPT)}
    clean = [
        r
        for r in detection.references
        if r.text.strip()
        and r.text not in texts
        and groups.get(r.file_name, r.file_name) not in copied
        and parted(r.path)[0] not in files
        and not _is_a_sample(detection, r)
    ]
    return sorted(clean, key=lambda r: hashlib.sha256(r.file_name.encode()).digest())


def _is_a_sample(detection: Detection, reference: Reference) -> bool:
    """Whether it stands in for a training image that nobody has: the model drew it, so it is no clean one."""
    return Path(reference.path).is_relative_to(detection.folder.resolve())
