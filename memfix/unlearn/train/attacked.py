"""Validations under an attack: what adversarial steps are there for."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from memfix.models.denoiser import BACKWARD
from memfix.records import Validation
from memfix.unlearn.data.draws import Draw
from memfix.unlearn.train.adversary import SHORT_STEPS, Adversary
from memfix.unlearn.train.validation import Monitor


@dataclass(frozen=True)
class AttackMonitor:
    """Validates targets under their own prompts, and with as many samples under embeddings that a fresh attack finds.

    The attack is the thorougher the more samples are taken: each of its steps is taken on as many noisy points. So the
    last look is as thorough as the re-check's attack, which takes eight of both.

    `targets` are the ids of the bank's targets, in their order. `first` is a step that no earlier validation of the
    monitor was at.
    """

    monitor: Monitor
    adversary: Adversary
    targets: Sequence[str]
    first: int

    def __call__(self, step: int, looked: Sequence[str], each: int) -> Validation:
        """What can be seen after a step; copies are counted under both."""
        started, number = time.monotonic(), self.first + 2 * step
        plain = self.monitor(number, looked, each)
        places = [self.targets.index(i) for i in looked]
        found = self.adversary.attack(places, Draw(number=number, purpose="validations under attack"), each)
        copies, _ = self.monitor.sampled(number + 1, looked, each, dict(zip(looked, found, strict=True)))
        both = {i: n + copies[i] for i, n in plain.copies.items()}
        seconds = round(time.monotonic() - started, 3)
        return plain.model_copy(update={"step": step, "copies": both, "samples": 2 * each, "seconds": seconds})

    def evaluations(self, targets: int, each: int) -> int:
        """How often a validation asks the network about an item, for so many targets."""
        attack = SHORT_STEPS * each * (1 + BACKWARD)
        return self.monitor.evaluations(targets, 2 * each) + targets * attack
