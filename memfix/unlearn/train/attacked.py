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

LOOKED_AT_ONCE = 8  # targets of a last look, before it is asked whether any of them copies
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

    A look with more samples than `usual` is to confirm that nothing is left. It looks at some targets after the others,
    those first of which copies are expected, and once some of these copy at no further ones: something is left, and
    training goes on anyway. Those it did not come to are not among the copies that it counts. For the same reason the
    search for embeddings is left out where the cheap part of such a look sees copies.

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
        started, parts = time.monotonic(), list[Validation]()
        together = LOOKED_AT_ONCE if each > self.usual else len(looked)
        for first in range(0, len(looked), together):
            parts.append(self._part(step, looked[first : first + together], each, first))
            if parts[-1].total:
                break
        return _as_one(parts).model_copy(update={"seconds": round(time.monotonic() - started, 3)})

    def _part(self, step: int, looked: Sequence[str], each: int, before: int) -> Validation:
        """The same of some targets, `before` which a look has looked at so many others."""
        number, samples = self.first + 3 * step, self._samples(each)
        plain = self.monitor(number, looked, PLAIN * each, before)
        seen = [plain.copies]
        if self.given.pictures:
            noised, _ = self.monitor.sampled(number + 2, looked, each, given=self.given.pictures, before=before)
            seen.append({i: n if n > self.given.forced * each else 0 for i, n in noised.items()})
        if each > self.usual and any(sum(own.values()) for own in seen):
            samples -= each
        else:
            places = [self.targets.index(i) for i in looked]
            own = self.adversary.attack(places, Draw(number=number, purpose="validations under attack"), each)
            told = dict(zip(looked, own, strict=True))
            seen.append(self.monitor.sampled(number + 1, looked, each, told, before=before)[0])
        copies = {i: sum(own[i] for own in seen) for i in plain.copies}
        return plain.model_copy(update={"step": step, "copies": copies, "samples": samples, "plain": plain.samples})

    def evaluations(self, targets: int, each: int) -> int:
        """How often a validation asks the network about an item, for so many targets; a sample that begins at a picture
        counts as a whole one."""
        attack = SHORT_STEPS * each * (1 + BACKWARD)
        return self.monitor.evaluations(targets, self._samples(each)) + targets * attack

    def _samples(self, each: int) -> int:
        """Of a target, in a validation."""
        return (PLAIN + 1 + bool(self.given.pictures)) * each


def _as_one(parts: Sequence[Validation]) -> Validation:
    """A validation of all targets that several are of; where the last of them took fewer samples, of so many."""
    last, drawn = parts[-1], [len(part.copies) for part in parts]
    copies = {i: n for part in parts for i, n in part.copies.items()}
    shapeless = {i: n for part in parts for i, n in part.shapeless.items()}
    broken = sum(part.broken_targets * n for part, n in zip(parts, drawn, strict=True)) / sum(drawn)
    return last.model_copy(update={"copies": copies, "shapeless": shapeless, "broken_targets": broken})
