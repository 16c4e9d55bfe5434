"""When training ends, and with which weights, as validations at it say. Pure: validations in, a decision out.

What a clean validation proves is little. With n samples per target, one that still gives copies half of the time passes
a validation with a chance of 1/2^n, so one validation of two samples says next to nothing of one target. Three things
make up for that. Each validation draws from noise that none before has seen, so `clean_validations` of them count as
that many times n samples. All targets must be clean at once, which bounds the mean share of copies of T targets by
3 / (T · n · clean_validations) at 95 %. And training does not stop there but goes on for a quarter of the steps so far,
while its rate falls to 0, and takes all back if a copy shows up. What is proven is for the re-check to say.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from memfix.config.unlearn import UnlearnSettings
from memfix.errors import MemfixError
from memfix.records import Ending, Validation

COOL_DOWN = 0.25  # of the steps so far: a rate cut off at its height leaves the noise of the last steps in the weights


class Decision(NamedTuple):
    """Train on when all is None. `cooling`: the rate falls to 0 between these steps, and there training ends."""

    cooling: tuple[int, int] | None = None
    ending: Ending | None = None


def decide(validations: Sequence[Validation], settings: UnlearnSettings, reached: bool = False) -> Decision:
    """What the validations so far, in order of their steps, mean for the training.

    `reached`: the method has done its work at the last of them, as its forget term says; there is nothing to cool then,
    since a bounded term has all but no gradient there.
    """
    if not validations:
        return Decision()
    last, most = validations[-1], settings.max_train_steps
    if not intact(last, settings):
        return Decision(ending=_ending("rolled back", best(validations, settings), last.step))
    if reached:
        return Decision(ending=_ending("forgotten", last, last.step))
    cooling = _cooling(validations, settings)
    if last.step < (cooling[1] if cooling else most):
        return Decision(cooling)
    return Decision(cooling, _ending("clean" if cooling else "all steps", last, last.step))


def diverged(
    validations: Sequence[Validation], settings: UnlearnSettings, step: int, where: str | None = None
) -> Ending:
    """The ending of a training whose loss or gradient is no number any more; `where`: the first weight that is none.

    Raises MemfixError where no validation has kept weights.
    """
    if not validations:
        first = f"The first weight that is not is {where}." if where else "All weights still are."
        raise MemfixError(
            f"Training diverged: the loss or the gradient of step {step} is not a number. {first}",
            "Give --overwrite with a lower --learning-rate, or give --validation-steps, which returns to "
            "weights that still work.",
        )
    return _ending("rolled back", best(validations, settings), step)


def intact(validation: Validation, settings: UnlearnSettings) -> bool:
    """Whether pictures are within the floor of quality. The original model is, whatever its validation says; weights
    that gave no picture of any target are not."""
    broken = validation.broken_targets > settings.max_broken
    return validation.step == 0 or (unharmed(validation, settings) and not broken)


def unharmed(validation: Validation, settings: UnlearnSettings) -> bool:
    """The same of controls alone."""
    most = settings.max_drift * (validation.diversity or 0)
    held = (validation.drift or 0) <= most and (validation.broken or 0) <= settings.max_broken
    return validation.step == 0 or (bool(validation.copies) and held)


def best(validations: Sequence[Validation], settings: UnlearnSettings) -> Validation:
    """The validation within the floor that saw the fewest copies; of equals the last. The first is always within it."""
    return min(
        (validation for validation in validations if intact(validation, settings)),
        key=lambda v: (v.total, -v.step),
    )


def _ending(reason: Literal["clean", "forgotten", "all steps", "rolled back"], kept: Validation, taken: int) -> Ending:
    return Ending(reason=reason, step=kept.step, taken=taken, copies=kept.total, samples=kept.drawn)


def _cooling(validations: Sequence[Validation], settings: UnlearnSettings) -> tuple[int, int] | None:
    """From which step to which the rate falls: after as many clean validations as wanted, all later ones clean too.

    The validation at the original weights does not count. Where the end lies past the last step, the rate goes on as
    planned.
    """
    streak, begun = 0, 0
    for validation in validations[1:]:
        streak = streak + 1 if validation.total == 0 else 0
        if streak == settings.clean_validations:
            begun = validation.step
    if streak < settings.clean_validations:
        return None
    end = begun + max(1, math.ceil(COOL_DOWN * begun))
    return (begun, end) if end < settings.max_train_steps else None
