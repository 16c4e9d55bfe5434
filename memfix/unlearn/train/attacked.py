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

SEARCHED_AT_ONCE = 8  # targets of a last look that are searched before it is asked whether anything was found
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
    the search for embeddings is left out, and where that of some targets sees copies, that of those that come after
    them: something is left, and training goes on anyway. So targets come in the order in which copies are expected of
    them, and those that were not searched are not among the copies that such a look counts.

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
        started, number, last = time.monotonic(), self.first + 3 * step, each > self.usual
        plain, samples = self.monitor(number, looked, PLAIN * each), self._samples(each)
        copies = dict(plain.copies)
        if self.given.pictures:
            noised, _ = self.monitor.sampled(number + 2, looked, each, given=self.given.pictures)
            copies |= {i: copies[i] + n for i, n in noised.items() if n > self.given.forced * each}
        if last and any(copies.values()):
            samples -= each
        else:
            found = self._searched(number, looked, each, SEARCHED_AT_ONCE if last else len(looked))
            copies = {i: copies[i] + n for i, n in found.items()}
        seconds = round(time.monotonic() - started, 3)
        told = {"step": step, "copies": copies, "samples": samples, "plain": plain.samples, "seconds": seconds}
        return plain.model_copy(update=told)

    def _searched(self, number: int, looked: Sequence[str], each: int, together: int) -> dict[str, int]:
        """Copies under embeddings of a fresh attack, of so many targets `together`, up to those that have any."""
        draw, found = Draw(number=number, purpose="validations under attack"), dict[str, int]()
        for first in range(0, len(looked), together):
            now = looked[first : first + together]
            own = self.adversary.attack([self.targets.index(i) for i in now], draw, each)
            told = dict(zip(now, own, strict=True))
            found |= self.monitor.sampled(number + 1, now, each, told, before=first)[0]
            if any(found.values()):
                break
        return found

    def evaluations(self, targets: int, each: int) -> int:
        """How often a validation asks the network about an item, for so many targets; a sample that begins at a picture
        counts as a whole one."""
        attack = SHORT_STEPS * each * (1 + BACKWARD)
        return self.monitor.evaluations(targets, self._samples(each)) + targets * attack

    def _samples(self, each: int) -> int:
        """Of a target, in a validation."""
        return (PLAIN + 1 + bool(self.given.pictures)) * each
