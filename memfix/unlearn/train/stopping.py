"""When training ends, and with which weights, as looks at it say. Pure: looks in, a decision out.

What a clean look proves is little. With n samples a target, one that still gives copies half of the time passes a
look with a chance of 1/2^n, so one look of two samples says next to nothing of one target. Three things make up for
that. Each look draws from noise that no look before has seen, so `clean_looks` of them count as that many times n
samples. All targets must be clean at once, which bounds the mean share of copies of T targets by
3 / (T · n · clean_looks) at 95 %. And training does not stop there but goes on for a quarter of the steps so far, while
its rate falls to 0, and takes all back if a copy shows up. What is proven is for the re-check to say.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from memfix.config import UnlearnSettings
from memfix.errors import MemfixError
from memfix.records import Ending, Look

COOL_DOWN = 0.25  # of the steps so far: a rate cut off at its height leaves the noise of the last steps in the weights


class Decision(NamedTuple):
    """Train on when all is None. `cooling`: the rate falls to 0 between these steps, and there training ends."""

    cooling: tuple[int, int] | None = None
    ending: Ending | None = None


def decide(looks: Sequence[Look], settings: UnlearnSettings, reached: bool = False) -> Decision:
    """What the looks so far, in order of their steps, mean for the training.

    `reached`: the method has done its work at the last of them, as its forget term says; there is nothing to cool then,
    since a bounded term has all but no gradient there.
    """
    if not looks:
        return Decision()
    last, most = looks[-1], settings.max_train_steps
    if not intact(last, settings):
        return Decision(ending=_ending("rolled back", best(looks, settings), last.step))
    if reached:
        return Decision(ending=_ending("forgotten", last, last.step))
    cooling = _cooling(looks, settings)
    if last.step < (cooling[1] if cooling else most):
        return Decision(cooling)
    return Decision(cooling, _ending("clean" if cooling else "all steps", last, last.step))


def diverged(looks: Sequence[Look], settings: UnlearnSettings, step: int) -> Ending:
    """The ending of a training whose loss is no number any more. Raises MemfixError where no look has kept weights."""
    if not looks:
        raise MemfixError(
            f"Training diverged: the loss of step {step} is not a number.",
            "Give --overwrite with a lower --learning-rate, or give --validation-steps, which returns to "
            "weights that still work.",
        )
    return _ending("rolled back", best(looks, settings), step)


def intact(look: Look, settings: UnlearnSettings) -> bool:
    """Whether pictures are within the floor of quality. The original model is, whatever its look says."""
    broken = max(look.broken_targets, look.broken or 0)
    return look.step == 0 or ((look.drift or 0) <= settings.max_drift and broken <= settings.max_broken)


def best(looks: Sequence[Look], settings: UnlearnSettings) -> Look:
    """The look within the floor that saw the fewest copies; of equals the last. The first is always within it."""
    return min((look for look in looks if intact(look, settings)), key=lambda look: (look.total, -look.step))


def _ending(reason: Literal["clean", "forgotten", "all steps", "rolled back"], kept: Look, taken: int) -> Ending:
    return Ending(reason=reason, step=kept.step, taken=taken, copies=kept.total, samples=kept.drawn)


def _cooling(looks: Sequence[Look], settings: UnlearnSettings) -> tuple[int, int] | None:
    """From which step to which the rate falls: after as many clean looks as wanted, all later ones clean too.

    The look at the original weights does not count. Where the end lies past the last step, the rate goes on as planned.
    """
    streak, begun = 0, 0
    for look in looks[1:]:
        streak = streak + 1 if look.total == 0 else 0
        if streak == settings.clean_looks:
            begun = look.step
    if streak < settings.clean_looks:
        return None
    end = begun + max(1, math.ceil(COOL_DOWN * begun))
    return (begun, end) if end < settings.max_train_steps else None
