"""When to stop sampling a prompt, and what the samples then say. Pure arithmetic: knows nothing of images or models.

Samples of a prompt come in groups. At each look at their cumulated number n, of which k are copies, the prompt is
called memorized, or clean, or is sampled further. A plan with one look is the ordinary fixed number of samples.

Two errors are held for each prompt, whatever the number of looks, with ε = 1 - confidence:

- share of copies at most `chance`: called memorized with probability at most ε;
- share of copies at least `tolerance`: called clean with probability at most ε/2, so that what is called clean shows
  a two-sided interval that ends at or below `tolerance`.

All probabilities are exact. Samples are exchangeable, so it is enough to count the orders of k copies among n samples
that pass all earlier looks, in whole numbers; each has probability p^k (1 - p)^(n - k) at a true share p. Sequential
tests of binary data and the stage-wise order of their outcomes: Jennison and Turnbull, Group Sequential Methods with
Applications to Clinical Trials (2000), chapters 8 and 12.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import comb, exp, fsum, log, log1p
from typing import NamedTuple

from memfix.errors import ExitCode, MemfixError
from memfix.findings import DesignRecord
from memfix.records import Label
from memfix.stats import clopper_pearson

MATCHES = 2
"""Other samples that one must be near-identical to where there are no references; two alike may be chance."""


class Operating(NamedTuple):
    """What a design does at one true share of copies: probabilities of the three verdicts, mean number of samples."""

    memorized: float
    clean: float
    undecided: float
    samples: float


class Look(NamedTuple):
    """One look. `orders[k]` counts the orders of k copies among `samples` that no earlier look has stopped."""

    samples: int
    orders: tuple[int, ...]
    memorized_from: int
    """Least k that is called memorized; `samples` + 1 if none is."""
    clean: bool
    """Whether k = 0 is called clean."""

    def mass(self, p: float, first: int, last: int) -> float:
        """Probability at share p to reach this look with `first` to `last` copies, both included."""
        return fsum(_probability(self.orders[k], k, self.samples, p) for k in range(first, last + 1))

    def memorized(self, p: float) -> float:
        """Probability at share p to be called memorized at this look."""
        return self.mass(p, self.memorized_from, self.samples)

    def cleared(self, p: float) -> float:
        """Probability at share p to be called clean at this look."""
        return self.mass(p, 0, 0) if self.clean else 0.0

    def going_on(self) -> list[int]:
        """Orders that this look does not stop, by number of copies."""
        first = 1 if self.clean else 0
        return [c if first <= k < self.memorized_from else 0 for k, c in enumerate(self.orders)]


@dataclass(frozen=True)
class Design:
    """Looks at cumulated sample numbers, and the two shares of copies between which a prompt may stay undecided.

    `looks` ascend; `chance` bounds the share of samples that pass the threshold though the prompt is not memorized; a
    prompt with a share of `tolerance` or more must not be called clean. Raises MemfixError for a plan without sense.
    """

    looks: tuple[int, ...]
    chance: float = 0.001
    tolerance: float = 0.25
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if not self.looks or any(a >= b for a, b in zip((0, *self.looks), self.looks, strict=False)):
            raise MemfixError(
                f"Interim looks must be ascending numbers of samples; got {self.looks}.", "For instance 4, 8, 16.",
                ExitCode.USAGE,
            )  # fmt: skip
        if not 0 <= self.chance < self.tolerance <= 1:
            raise MemfixError(
                f"The share of copies that chance explains ({self.chance:g}) is not below the tolerated one "
                f"({self.tolerance:g}), so no verdict can tell them apart.",
                "Lower --chance or --false-alarm-rate, or raise --tolerance.", ExitCode.USAGE,
            )  # fmt: skip
        if not 0 < self.confidence < 1:
            raise MemfixError(f"A confidence of {self.confidence:g} is not between 0 and 1.", "", ExitCode.USAGE)

    @classmethod
    def fixed(cls, samples: int, *, chance: float = 0.001, tolerance: float = 0.25, confidence: float = 0.95) -> Design:
        """One look, after all samples."""
        return cls((samples,), chance, tolerance, confidence)

    @classmethod
    def doubling(
        cls, first: int, last: int, *, chance: float = 0.001, tolerance: float = 0.25, confidence: float = 0.95
    ) -> Design:
        """Looks at `first`, twice that, and so on, and at `last`."""
        looks, n = [], first
        while 0 < n < last:
            looks.append(n)
            n *= 2
        return cls((*looks, last), chance, tolerance, confidence)

    @property
    def error(self) -> float:
        """ε, the probability to call a prompt memorized that is not."""
        return 1 - self.confidence

    def budget(self, look: int) -> float:
        """How much of ε may be spent by the end of a look, counted from 0: all of it, from the first one on.

        So the boundary is the least k whose stage-wise p-value is at most ε. It never falls from one look to the next,
        and depends on no later look: looks may be appended to a plan without a change to any decision before them.
        Budgets that grow with the number of samples stop later (research/sequential.py).
        """
        return self.error

    def decide(self, k: int, n: int) -> Label | None:
        """The verdict on k copies in n samples, n being a look; None: sample on.

        Memorized wins over clean; a single copy rules clean out. Raises ValueError if an earlier look had stopped.
        """
        stage = self._stage(k, n)
        if k >= stage.memorized_from:
            return Label.MEMORIZED
        if k == 0 and stage.clean:
            return Label.CLEAN
        return Label.UNDECIDED if n == self.looks[-1] else None

    def interval(self, k: int, n: int) -> tuple[float, float]:
        """Exact interval of the true share of copies, given that sampling ended at n with k copies.

        Outcomes are ordered by when and how they stopped, from clean at the first look to memorized at the first look,
        and by k within a look; both tails of 1 - confidence are equal. Holds the true share at least as often as
        `confidence` says. With one look, or without copies, it is that of Clopper and Pearson. Sampling that was broken
        off at a look for other reasons counts as a plan that ended there. Raises ValueError as `decide` does.
        """
        self._stage(k, n)
        return _interval(self, k, n)

    def operating(self, p: float) -> Operating:
        """What happens, exactly, to a prompt whose true share of copies is p."""
        stages = _stages(self)
        memorized, clean = [s.memorized(p) for s in stages], [s.cleared(p) for s in stages]
        undecided = fsum(_probability(c, k, self.looks[-1], p) for k, c in enumerate(stages[-1].going_on()))
        ended = [m + c for m, c in zip(memorized, clean, strict=True)]
        ended[-1] += undecided
        samples = fsum(n * share for n, share in zip(self.looks, ended, strict=True))
        return Operating(fsum(memorized), fsum(clean), undecided, samples)

    def boundaries(self) -> tuple[int | None, ...]:
        """For each look the least number of copies that is called memorized; None where no number is."""
        return tuple(s.memorized_from if s.memorized_from <= s.samples else None for s in _stages(self))

    def summary(self) -> DesignRecord:
        """For the run's header and the report: what the looks decide, and how often chance alone makes memorized."""
        return DesignRecord(
            looks=list(self.looks), memorized_from=list(self.boundaries()),
            clean_from=next((stage.samples for stage in _stages(self) if stage.clean), None),
            chance=self.chance, chance_memorized=self.operating(self.chance).memorized,
        )  # fmt: skip

    def _stage(self, k: int, n: int) -> Look:
        if n not in self.looks or not 0 <= k <= n:
            raise ValueError(f"{k} copies in {n} samples are no outcome of looks at {self.looks}")
        stage = _stages(self)[self.looks.index(n)]
        if not stage.orders[k]:
            raise ValueError(f"{k} copies in {n} samples cannot come up: an earlier look of {self.looks} had stopped")
        return stage


def _probability(orders: int, k: int, n: int, p: float) -> float:
    """`orders` · p^k · (1 - p)^(n - k), by logarithms: the count may exceed what a float holds."""
    if not orders or (k and p == 0) or (k < n and p == 1):
        return 0.0
    copies = k * log(p) if k else 0.0
    others = (n - k) * log1p(-p) if k < n else 0.0
    return exp(log(orders) + copies + others)


@lru_cache(maxsize=256)
def _stages(design: Design) -> tuple[Look, ...]:
    """All looks of a design, with the orders that reach each and its boundaries."""
    stages: list[Look] = []
    before, drawn, spent = [1], 0, 0.0
    for look, n in enumerate(design.looks):
        orders = _drawn_on(before, n - drawn)
        clean = clopper_pearson(0, n, design.confidence)[1] <= design.tolerance
        left = design.budget(look) - spent
        stage = Look(n, orders, _boundary(orders, n, design.chance, left), clean)
        spent += stage.memorized(design.chance)
        stages.append(stage)
        before, drawn = stage.going_on(), n
    return tuple(stages)


def _drawn_on(before: Sequence[int], more: int) -> tuple[int, ...]:
    """Orders by number of copies after `more` samples, from those before."""
    after = [0] * (len(before) + more)
    ways = [comb(more, i) for i in range(more + 1)]
    for j, count in enumerate(before):
        if count:
            for i, way in enumerate(ways):
                after[j + i] += count * way
    return tuple(after)


def _boundary(orders: Sequence[int], n: int, chance: float, left: float) -> int:
    """Least k ≥ 1 for which k or more copies have probability at most `left` at share `chance`; n + 1 if none."""
    k, tail = n + 1, 0.0
    while k > 1:
        tail += _probability(orders[k - 1], k - 1, n, chance)
        if tail > left:
            break
        k -= 1
    return k


@lru_cache(maxsize=4096)
def _interval(design: Design, k: int, n: int) -> tuple[float, float]:
    if k == 0 or n == design.looks[0]:
        # No look lies before, or the only way here is to have no copy at every look: the plain binomial tails.
        return clopper_pearson(k, n, design.confidence)
    look, tail = design.looks.index(n), design.error / 2
    *earlier, stage = _stages(design)[: look + 1]

    def at_least(p: float) -> float:
        return fsum([*(s.memorized(p) for s in earlier), stage.mass(p, k, n)])

    def at_most(p: float) -> float:
        return fsum([*(s.cleared(p) for s in earlier), stage.mass(p, 0, k)])

    # The outer of two neighbouring floats, so that rounding never narrows the interval.
    return _turn(lambda p: at_least(p) > tail)[0], _turn(lambda p: at_most(p) <= tail)[1]


def _turn(holds: Callable[[float], bool]) -> tuple[float, float]:
    """Neighbouring floats from 0 to 1 between which a statement turns from false to true."""
    below, above = 0.0, 1.0
    while below < (middle := (below + above) / 2) < above:
        below, above = (below, middle) if holds(middle) else (middle, above)
    return below, above
