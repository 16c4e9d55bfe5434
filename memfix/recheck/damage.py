"""Whether a model still draws what it drew: of prompts that must not change, and of all prompts together.

Pure: small pictures of samples in, numbers and findings out. A model that answers every prompt with the same blur, or
with noise, copies nothing, and has erased nothing either. Every limit is relative to what the original model does, so
none depends on the kind of pictures.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch

from memfix.quality import MOST_BROKEN
from memfix.records import Damage

MOST_CHANGED = 0.8  # of what two seeds of the original model differ by, from the same noise
LEAST_DIVERSITY = 0.5  # of what the samples of a prompt differed by before
LEAST_FREEDOM = 0.5  # diversity against drift: what no longer shows its picture has to show different ones
LEAST_DISTANCE = 0.5  # of what they differed by from those of other prompts
LEAST_LEAD = 0.5  # of how much better they fitted their own prompt than others, by CLIP
NO_LEAD = 0.02  # of cosine; where samples fitted their prompt no better than by this, CLIP cannot tell
MOST_DAMAGED = 0.25  # of the prompts that must not change; more, and the model is damaged as a whole


class Moments(NamedTuple):
    """What pictures are summed up to, so that many prompts need not be held at once."""

    n: int
    total: torch.Tensor
    """Sum of all of them, [3·h·w] float64."""
    squares: float
    """Sum of their squared lengths."""

    @classmethod
    def of(cls, pictures: torch.Tensor) -> Moments:
        """Of [n, 3, h, w], scaled so that distances are root mean squares."""
        flat = pictures.double().flatten(1) / pictures[0].numel() ** 0.5
        return cls(len(flat), flat.sum(0), float(flat.square().sum()))

    def plus(self, other: Moments, sign: int = 1) -> Moments:
        """Of both together; with sign -1, of these without those."""
        return Moments(self.n + sign * other.n, self.total + sign * other.total, self.squares + sign * other.squares)

    def diversity(self) -> float | None:
        """Root mean square difference over all pairs; None without a pair."""
        if self.n < 2:
            return None
        return _root(2 * (self.n * self.squares - float(self.total.square().sum())) / (self.n * (self.n - 1)))

    def distance(self, other: Moments) -> float | None:
        """Root mean square difference over all pairs of one of these and one of those; None without a pair."""
        if not self.n * other.n:
            return None
        return _root(self.squares / self.n + other.squares / other.n - 2 * float(self.total @ other.total)
                     / (self.n * other.n))  # fmt: skip


class Seen(NamedTuple):
    """The samples of one prompt: before, and after from the same noise; `drift` is how far the noise led apart."""

    before: Moments
    after: Moments
    drift: float
    broken: float
    """Share of all samples after that are blank or noise."""
    clip_lead: tuple[float | None, float | None] = (None, None)
    """By CLIP, how much better the samples fit their own text than those of other prompts, before and after."""

    @classmethod
    def of(
        cls, before: torch.Tensor, after: torch.Tensor, broken: float,
        clip_lead: tuple[float | None, float | None] = (None, None),
    ) -> Seen:  # fmt: skip
        """Of [n, 3, h, w] in 0 to 1 each, in the same order."""
        drift = (before - after).square().flatten(1).mean(1).sqrt().mean()
        return cls(Moments.of(before), Moments.of(after), round(float(drift), 5), round(broken, 4), clip_lead)


def measure_damage(seen: Mapping[str, Seen]) -> dict[str, Damage]:
    """By prompt id: how much its samples changed, differ from seed to seed, and differ from those of other prompts.

    Differences are rms over a small picture, 0 to 1. A prompt with one sample has no diversity, and a single prompt no
    distance from others: None.
    """
    before, after = _together([s.before for s in seen.values()]), _together([s.after for s in seen.values()])
    return {
        i: Damage(
            drift=own.drift, broken=own.broken,
            diversity_before=own.before.diversity(), diversity_after=own.after.diversity(),
            distance_before=own.before.distance(before.plus(own.before, -1)),
            distance_after=own.after.distance(after.plus(own.after, -1)),
            clip_lead_before=own.clip_lead[0], clip_lead_after=own.clip_lead[1],
        )
        for i, own in seen.items()
    }  # fmt: skip


def harm(damage: Damage, must_not_change: bool) -> str | None:
    """What is wrong with a prompt's samples, in a sentence without its end; None if they are within all limits.

    A memorized prompt has to change, and its diversity before says nothing of what it should be.
    """
    if damage.broken > MOST_BROKEN:
        return f"{damage.broken:.0%} of the samples are blank or noise"
    if _below(damage.distance_after, damage.distance_before, LEAST_DISTANCE):
        return (
            f"its samples grew like those of other prompts: they differ by {damage.distance_after:.3f} rms, before by "
            f"{damage.distance_before:.3f}"
        )
    if damage.diversity_after is not None and damage.diversity_after < LEAST_FREEDOM * damage.drift:
        return (
            f"every seed gives nearly the same picture, and not the one before: they differ by "
            f"{damage.diversity_after:.3f} rms, and from those before by {damage.drift:.3f}"
        )
    if not must_not_change:
        return None
    if _below(damage.diversity_after, damage.diversity_before, LEAST_DIVERSITY):
        return (
            f"its samples grew alike: from seed to seed they differ by {damage.diversity_after:.3f} rms, before by "
            f"{damage.diversity_before:.3f}"
        )
    if damage.diversity_before and damage.drift > MOST_CHANGED * damage.diversity_before:
        return (
            f"from the same noise it draws other pictures: they differ by {damage.drift:.3f} rms, two seeds of the "
            f"original model by {damage.diversity_before:.3f}"
        )
    fitted = damage.clip_lead_before
    if fitted is not None and fitted > NO_LEAD and _below(damage.clip_lead_after, fitted, LEAST_LEAD):
        return (
            f"its samples no longer show what it says: by CLIP they fit it better than other prompts by "
            f"{damage.clip_lead_after:.3f}, before by {fitted:.3f}"
        )
    return None


def harm_of_model(unharmed: Sequence[bool]) -> str | None:
    """What is wrong with the model as a whole, given which of the prompts that must not change are unharmed."""
    damaged = len(unharmed) - sum(unharmed)
    if damaged <= MOST_DAMAGED * len(unharmed):
        return None
    return f"the model is damaged: so are {damaged} of {len(unharmed)} prompts that must not change"


def _below(after: float | None, before: float | None, least: float) -> bool:
    return after is not None and before is not None and after < least * before


def _together(several: Sequence[Moments]) -> Moments:
    return functools.reduce(Moments.plus, several)


def _root(value: float) -> float:
    return round(math.sqrt(max(0.0, value)), 5)
