"""What became of a prompt, by rules that are read from the top. Pure: evidence in, an outcome and its reason out.

`mitigated` is what is left when nothing speaks against it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from memfix.inputs.opening import open_image
from memfix.measures import pixels
from memfix.recheck.damage import harm
from memfix.records import Damage, Label, Outcome, Prompt, Role, Verdict

ANOTHER = "shows one picture again and again, another one than before"
LEAST_CHANGE = 0.02  # rms, 0 to 1: pictures that differ by less are the same to the eye, copies or not


@dataclass(frozen=True)
class Copies:
    """How many of some samples are copies."""

    copies: int = 0
    samples: int = 0

    def __str__(self) -> str:
        return f"{self.copies or 'none'} of {self.samples}"


@dataclass(frozen=True)
class Evidence:
    """All that the re-check has to say of one prompt.

    `same` and `fresh` are samples of the weights, from the noise of the first check and from other noise; `after` is
    the verdict on both. Of a reworded prompt these are sampled with the rewording taken off, and `reworded` are those
    with it. `disputed` says what of all these is no copy by the rule and one by a witness. `brought_back` says which
    attack brought a training image back beyond its control arm, `untold` which one brought one back with nothing to
    compare it with, or gave disputed samples; `model` says what is wrong with the model as a whole.
    """

    prompt: Prompt
    before: Verdict
    after: Verdict
    same: Copies
    fresh: Copies
    damage: Damage
    wording: str | None = None
    reworded: Copies = field(default_factory=Copies)
    brought_back: str | None = None
    untold: str | None = None
    disputed: str | None = None
    model: str | None = None

    @property
    def found(self) -> str:
        """How many copies there are."""
        return f"{self.same} with same seeds, {self.fresh} with fresh seeds"

    @property
    def shows_another(self) -> bool:
        """Whether samples show one picture again and again, and not what copies were held against."""
        return self.after.verdict is Label.MEMORIZED and not (self.same.copies or self.fresh.copies)

    @property
    def is_target(self) -> bool:
        """Whether this is a prompt that should have changed."""
        return self.prompt.role is Role.PROMPT and self.before.verdict is Label.MEMORIZED


def outcome(seen: Evidence) -> tuple[Outcome, str]:
    """The outcome of a prompt, and why."""
    return _of_target(seen) if seen.is_target else _of_other(seen)


def _of_target(seen: Evidence) -> tuple[Outcome, str]:
    off = ", with its rewording taken off" if seen.wording is not None else ""
    if seen.reworded.copies:
        return Outcome.PERSISTENT, f"still reproduces a reference: {seen.reworded} as it is reworded"
    if seen.shows_another:
        harmed = harm(seen.damage, must_not_change=False) or seen.model
        return (Outcome.DAMAGED, harmed) if harmed else (Outcome.PERSISTENT, f"{ANOTHER}: {seen.after.reason}")
    if seen.after.verdict is Label.MEMORIZED:
        if seen.wording is not None:
            return Outcome.HIDDEN, f"only its rewording hides it; without it, copies are {seen.found}"
        return Outcome.PERSISTENT, f"still reproduces a reference: {seen.found}"
    if seen.brought_back:
        return Outcome.HIDDEN, seen.brought_back
    if harmed := harm(seen.damage, must_not_change=False) or seen.model:
        return Outcome.DAMAGED, harmed
    if seen.after.verdict is Label.UNDECIDED:
        return Outcome.UNDECIDED, seen.after.reason
    if seen.disputed:
        return Outcome.UNDECIDED, seen.disputed
    if seen.untold:
        return Outcome.UNDECIDED, seen.untold
    if seen.damage.drift < LEAST_CHANGE:
        return Outcome.UNDECIDED, (
            f"no copy is left, and yet its samples are all but the ones from before: they differ by "
            f"{seen.damage.drift:.3f} rms"
        )
    return Outcome.MITIGATED, f"no copy is left: {seen.found}{off}"


def _of_other(seen: Evidence) -> tuple[Outcome, str]:
    if harmed := harm(seen.damage, must_not_change=seen.before.verdict is not Label.MEMORIZED):
        return Outcome.DAMAGED, harmed
    before, after = seen.before.verdict, seen.after.verdict
    if before is Label.UNDECIDED and seen.prompt.role is Role.PROMPT:
        return Outcome.UNDECIDED, f"undecided before unlearning: {seen.before.reason}"
    if before is Label.UNDECIDED and after is Label.CLEAN:
        return Outcome.UNCHANGED, "clean by more samples; undecided before"
    if before is not after:
        found = f"{ANOTHER}, {seen.after.reason}" if seen.shows_another else seen.found
        return Outcome.CHANGED, f"was {before}, is {after}: {found}"
    return Outcome.UNCHANGED, f"{before} before and after"


def file_difference(a: Path, b: Path) -> float:
    """Root mean square difference of two picture files of one size, 0 to 1."""
    return pixels.rms_difference(open_image(a), open_image(b))
