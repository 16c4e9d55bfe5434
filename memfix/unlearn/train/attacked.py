"""Validations under an attack: what adversarial steps are there for."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from PIL import Image

from memfix.models.denoiser import BACKWARD
from memfix.records import Validation
from memfix.unlearn.data.draws import Draw
from memfix.unlearn.train.adversary import SHORT_STEPS, Adversary
from memfix.unlearn.train.validation import Monitor

PLAIN = 2  # times as many samples under a target's own prompt as of each attack, for which there is less to search


class ToBeNoised(NamedTuple):
    """The training image of each target, by its id, for samples that begin at it with noise on it.

    A share of copies among these samples counts only above `forced`, which clean training images come to as well. Of no
    pictures where nothing lies above it.
    """

    pictures: Mapping[str, Image.Image] = {}
    forced: float = 0.0


@dataclass(frozen=True)
class AttackMonitor:
    """Validates targets under their own prompts, under embeddings that a fresh attack finds, and from their training
    images with noise on them.

    The embedding attack is the thorougher the more samples are taken: each of its steps is taken on as many noisy
    points. So the last look is as thorough as the re-check's attacks, which take eight of both.

    A look with more samples than `usual` is to confirm that nothing is left. Where the cheap part of one sees copies,
    the search for embeddings is left out: something is left, and training goes on anyway.

    `targets` are the ids of the bank's targets, in their order. `first` is a step that no earlier validation of the
    monitor was at.
    """

    monitor: Monitor
    adversary: Adversary
    targets: Sequence[str]
    first: int
    given: ToBeNoised
    usual: int

    def __call__(self, step: int, looked: Sequence[str], each: int) -> Validation:
        """What can be seen after a step, with `each` samples of a target under each attack; all copies are counted."""
        started, number, samples = time.monotonic(), self.first + 3 * step, self._samples(each)
        plain = self.monitor(number, looked, PLAIN * each)
        seen = [plain.copies]
        if self.given.pictures:
            found, _ = self.monitor.sampled(number + 2, looked, each, given=self.given.pictures)
            seen.append({i: n if n > self.given.forced * each else 0 for i, n in found.items()})
        if each > self.usual and any(sum(own.values()) for own in seen):
            samples -= each
        else:
            places = [self.targets.index(i) for i in looked]
            own = self.adversary.attack(places, Draw(number=number, purpose="validations under attack"), each)
            seen.append(self.monitor.sampled(number + 1, looked, each, dict(zip(looked, own, strict=True)))[0])
        copies = {i: sum(own[i] for own in seen) for i in plain.copies}
        seconds = round(time.monotonic() - started, 3)
        told = {"step": step, "copies": copies, "samples": samples, "plain": plain.samples, "seconds": seconds}
        return plain.model_copy(update=told)

    def evaluations(self, targets: int, each: int) -> int:
        """How often a validation asks the network about an item, for so many targets; a sample that begins at a picture
        counts as a whole one."""
        attack = SHORT_STEPS * each * (1 + BACKWARD)
        return self.monitor.evaluations(targets, self._samples(each)) + targets * attack

    def _samples(self, each: int) -> int:
        """Of a target, in a validation."""
        return (PLAIN + 1 + bool(self.given.pictures)) * each
