"""A closed loop: how training goes on after each validation. Pure: validations in, a heading out.

The right learning rate differs from model to model by more than a factor of ten, and prompts of one model need
different numbers of steps. So training begins at a low rate, and validations tell what follows:

- While copies do not become fewer the rate rises, and where other pictures suffer training goes back to weights that
  still were good and goes on at a lower one. After `MOST_SETBACKS` of these without a further target that is forgotten
  it ends there.
- A target of which a number of samples in a row are no copies is left alone: its images are not forgotten further, and
  it is not looked at either, until no other target is left.
- Then the rate falls to 0 over some more steps of all targets, since a rate cut off at its height leaves the noise of
  the last steps in the weights; how many follows from the steps since it fell the last time. All targets are looked at
  again, with more samples; those that copy are taken up again, at half the rate, since little is left. Only now the
  samples of each target have to be pictures: on the way they may be shapeless for a while. Where they are not, that
  counts as a setback, and as many steps follow that forget nothing and keep what all targets are to show, which lets
  their samples take shape again.

Where adversarial steps follow, none of this last part is done before them: they begin with a look at all targets, and
end with it. In these, a target that gives no copies is not left alone but held, for what one embedding no longer brings
back the next one may: half of the draws are of those that copy, half of the others.

The heading follows from the validations alone, so that an interrupted training goes on as if it had not been.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from memfix.config.unlearn import UnlearnSettings
from memfix.records import Ending, Validation
from memfix.unlearn.train.stopping import COOL_DOWN, unharmed

RISE, FALL = 2.0, 0.5  # of the rate: where copies stay, and after a setback or where a last look still sees copies
STAY = 0.75  # of the share of copies before; with less, the rate is high enough
MOST_SETBACKS = 3
CONFIRMING = 4  # times as many samples, once all targets seem to be forgotten
LEAST_FALL = 5  # steps in which the rate falls to 0

Reason = Literal["forgotten", "no pictures", "damage limit", "all steps"]


class Heading(NamedTuple):
    """How training goes on after a validation.

    `rate` is a factor of the learning rate, `active` are the ids of the targets that are unlearned further, one that
    has more turns than others as many times, none where steps only keep, `looked` of those that the next validation
    looks at, with `each` samples, a single one while nearly all copy. `back` is the step whose weights are taken up
    again first, since those of now are damaged. Between the steps of `cooling` the rate falls to 0.
    """

    rate: float
    active: tuple[str, ...]
    looked: tuple[str, ...]
    each: int
    back: int | None = None
    cooling: tuple[int, int] | None = None
    kept: int = 0
    """The step whose weights are the best so far."""
    ending: Ending | None = None


@dataclass
class _State:
    """What is known after some validations. `clean` counts a target's samples in a row that are no copies."""

    rate: float
    clean: dict[str, int]
    setbacks: int = 0
    highest: float = math.inf
    cooling: tuple[int, int] | None = None
    cooled: int = 0
    """The step at which the rate had fallen to 0 the last time; below 0 where it has not since steps before these."""
    keeping: bool = False
    """Nothing is forgotten while it falls."""
    shares: dict[str, float] = field(default_factory=dict)
    """Of copies among the samples of each target, when it was last looked at."""
    confirmed: bool = False
    lost: tuple[str, ...] = ()
    """Targets that gave no pictures, when all were looked at."""


@dataclass(frozen=True)
class _Kept:
    """Weights that were within the limits, and what was known of them."""

    validation: Validation
    clean: dict[str, int]
    confirmed: bool

    def forgotten(self, enough: int) -> int:
        """How many targets."""
        return sum(n >= enough for n in self.clean.values())

    def rank(self, enough: int) -> tuple[bool, int, int]:
        """Higher is better."""
        return self.confirmed, self.forgotten(enough), self.validation.step


def steer(
    validations: Sequence[Validation], settings: UnlearnSettings, targets: Sequence[str], before: int = 0
) -> Heading:
    """The heading after validations, in order of their steps. The first is of the weights that training begins with,
    which may have taken steps `before` at a rate that has not fallen."""
    each, most = settings.num_validation_images, settings.max_train_steps
    enough = settings.clean_validations * each
    state, best, back = _begun(targets, before), None, None
    for v in validations:
        back, fall = None, state.cooling
        if not unharmed(v, settings):
            assert best is not None  # the weights that training begins with count as unharmed
            state, back = _set_back(state, best), best.validation.step
            continue
        _take_in(state, v, enough, most)
        if fall and v.step >= fall[1]:
            _require_pictures(state, v, settings, fall)
        now = _Kept(v, dict(state.clean), state.confirmed)
        again = best is not None and v.step == best.validation.step  # of the same weights, the last look holds
        if best is None or again or now.rank(enough) >= best.rank(enough):
            if best is not None and now.forgotten(enough) > best.forgotten(enough):
                state.setbacks = 0
            best = now
    if best is None:
        raise ValueError("no validation of the weights that training begins with")
    left = tuple(i for i in targets if state.clean[i] < enough)
    last = validations[-1].step
    ending = None
    handed_over = bool(settings.adversarial_steps) and not left
    if (state.confirmed or handed_over) and back is None:
        ending = _ending("clean", best, last, targets, enough, ())
    elif state.setbacks >= MOST_SETBACKS:
        ending = _ending("rolled back", best, last, targets, enough, state.lost)
    elif last >= most:
        ending = _ending("all steps", best, last, targets, enough, state.lost)
    copying = sum(state.shares[i] for i in left) > STAY * len(left)
    held = tuple(i for i in targets if i not in left) if before else ()
    few = 1 if copying or before else each  # that nearly all still copy is seen with fewer, and an attack is a search
    return Heading(
        rate=state.rate, active=_in_turns(left, held) or (() if state.keeping else tuple(targets)),
        looked=left or _likeliest_first(validations, targets), each=few if left else CONFIRMING * each, back=back,
        cooling=None if left else state.cooling,
        kept=best.validation.step, ending=ending,
    )  # fmt: skip


def _in_turns(left: tuple[str, ...], held: tuple[str, ...]) -> tuple[str, ...]:
    """Targets that are `left` to forget, and those that are `held` meanwhile, about as many turns for either."""
    return (*held, *left * max(1, round(len(held) / len(left)))) if left else ()


def _likeliest_first(validations: Sequence[Validation], targets: Sequence[str]) -> tuple[str, ...]:
    """Targets in the order in which copies are expected of them: those that gave some last come first."""
    seen = {i: v.step for v in validations for i, n in v.copies.items() if n}
    return tuple(sorted(targets, key=lambda i: -seen.get(i, -1)))


def _begun(targets: Sequence[str], before: int) -> _State:
    """The state at the start: nothing is known, and all targets may copy."""
    return _State(1.0, dict.fromkeys(targets, 0), cooled=-before, shares=dict.fromkeys(targets, 1.0))


def _take_in(state: _State, v: Validation, enough: int, most: int) -> None:
    """What a validation within the limits says."""
    shares = {i: n / v.samples for i, n in v.copies.items()}
    last = state.cooling is not None and v.step >= state.cooling[1]
    for i, share in shares.items():
        state.clean[i] = 0 if share else state.clean[i] + v.samples
    left = [i for i, n in state.clean.items() if n < enough]
    before, now = sum(state.shares[i] for i in shares), sum(shares.values())
    state.shares |= shares
    state.confirmed = state.confirmed and not left
    if last:
        state.keeping = False
        state.cooling, state.cooled, state.confirmed, state.lost = None, v.step, not left, ()
        if left:
            state.rate *= FALL
        return
    if before and now > STAY * before:
        state.rate = min(state.rate * RISE, state.highest)
    if not left:
        length = max(LEAST_FALL, math.ceil(COOL_DOWN * (v.step - state.cooled)))
        state.cooling = (v.step, min(v.step + length, most))


def _require_pictures(state: _State, v: Validation, settings: UnlearnSettings, fall: tuple[int, int]) -> None:
    """Targets of which more than `max_broken` of the plain samples are no pictures confirm nothing, after a `fall`."""
    plain = v.samples if v.plain is None else v.plain
    state.lost = tuple(i for i, n in v.shapeless.items() if n > settings.max_broken * plain)
    if not state.lost:
        return
    if state.confirmed:
        state.keeping = True
        state.cooling = (v.step, min(v.step + fall[1] - fall[0], settings.max_train_steps))
    state.confirmed, state.setbacks = False, state.setbacks + 1


def _set_back(state: _State, best: _Kept) -> _State:
    """The state after a damaged validation: that of the weights that are taken up again, at a lower rate."""
    rate = state.rate * FALL
    return _State(
        rate, dict(best.clean), state.setbacks + 1, highest=rate, cooled=state.cooled, shares=dict(state.shares),
        lost=state.lost,
    )  # fmt: skip


def _ending(
    reason: Literal["clean", "all steps", "rolled back"], kept: _Kept, taken: int, targets: Sequence[str], enough: int,
    lost: Sequence[str],
) -> Ending:  # fmt: skip
    """How it ended. `lost` targets gave no pictures, so that no copies among their samples say nothing."""
    missed: Reason = "damage limit" if reason == "rolled back" else "all steps"
    told: dict[str, Reason] = {i: "forgotten" if kept.clean[i] >= enough else missed for i in targets}
    for i in lost:
        told[i] = "no pictures"
    v = kept.validation
    return Ending(reason=reason, step=v.step, taken=taken, copies=v.total, samples=v.drawn, targets=told)
