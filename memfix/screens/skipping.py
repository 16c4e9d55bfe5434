"""Which prompts a cheap screen shows to be so surely clean that their samples need not be generated.

Scores in, plan out: knows nothing of models, files or runs. Two groups (Efron, Large-Scale Inference, 2010, chapters 5
and 6): clean prompts and controls share one normal distribution of log-scores, memorized prompts have another with a
higher mean and no smaller spread. Nobody has labelled a memorized prompt, and a list may hold three of them, so that
no single fit is trusted: expectations are averaged over the posterior of the five parameters, drawn by Gibbs sampling
(Diebolt and Robert, JRSS B 56, 1994). research/cascade.md has what it was measured to do.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.special import expit, gammainc, gammaincinv, ndtr, ndtri

from memfix.errors import ExitCode, MemfixError
from memfix.records import Record
from memfix.stats import clopper_pearson

Array = NDArray[np.float64]

MIN_CONTROLS = 20
ODD_CONTROLS = 0.1
"""Share of controls that may look memorized; more, and they calibrate nothing."""
LEAST_AWAY = 0.5
"""Standard deviations that controls may always differ from the list's clean prompts by; three standard errors else."""
ALWAYS_GENERATED = 0.1
"""The share of clean prompts with the highest scores, which is never skipped. Where clean and memorized scores meet,
the answer hangs on the shape that the model assumes."""
ODD_EXPECTED = 0.5
"""Controls, of any number, that are expected to be memorized after all: one odd one must not widen the clean group."""
SHARE_PRIOR = (0.2, 1.0)
"""Beta: most lists hold few memorized prompts or none."""
MEAN, WEIGHT, SHAPE, RATE = 6.0, 1.0, 3.0, 8.0
"""What is believed of memorized scores before any is seen, in units of the controls' spread: normal inverse gamma,
worth one prompt. It puts 92 % above the 1 % highest clean ones; published for `magnitude` on Stable Diffusion 1.4 are
89 to 98 % (Wen et al., ICLR 2024)."""
CLEAN_WEIGHT, CLEAN_SHAPE, CLEAN_RATE = 0.1, 1.0, 1.0
WARM_UP, DRAWS = 500, 3000
DECIMALS = 2
"""Decimals that standardised scores are rounded to: lists of any length become some hundred distinct values."""


class Skipping(Record):
    """What `plan_skipping` decides. A prompt is skipped if its score lies below `threshold`."""

    screen: str
    miss_rate: float = Field(description="the share of memorized prompts that may be missed, as asked")
    threshold: float
    scores: dict[str, float] = Field(description="of the prompts of the list, in its order")
    skipped: tuple[str, ...] = Field(description="lowest score first; the audited ones are among them")
    audited: tuple[str, ...] = Field(description="skipped, and drawn to be generated all the same")
    expected_memorized: float = Field(description="memorized prompts in the list, posterior mean")
    expected_missed: float = Field(description="memorized prompts below the threshold, posterior mean")
    odd_controls: tuple[int, ...] = Field(description="places, from 0, of controls that score like memorized prompts")

    @property
    def not_generated(self) -> tuple[str, ...]:
        """Skipped and not audited."""
        drawn = set(self.audited)
        return tuple(i for i in self.skipped if i not in drawn)

    @property
    def expected_miss_rate(self) -> float:
        """Expected missed of expected memorized prompts, of one where less than one is expected."""
        return self.expected_missed / max(1.0, self.expected_memorized)

    def reason(self, prompt_id: str) -> str:
        """Why a prompt is skipped or generated, in a sentence for the report."""
        score = f"screen {self.screen} {self.scores[prompt_id]:.4g}"
        if self.scores[prompt_id] >= self.threshold:
            return f"{score} does not lie below {self.threshold:.4g}; generated"
        rate = f"{score} lies below {self.threshold:.4g}; expected miss rate {100 * self.expected_miss_rate:.2g} %"
        return rate + "; drawn for the audit, generated" if prompt_id in self.audited else rate


class Groups(NamedTuple):
    """Draws of the two groups' parameters, each [D], in units where controls have about mean 0 and deviation 1."""

    clean_mean: Array
    clean_sd: Array
    mean: Array
    sd: Array
    share: Array

    def below(self, x: Array) -> Array:
        """Share of a list that is memorized and lies below each x [L], averaged over the draws, [L]."""
        return np.array([np.mean(self.share * ndtr((value - self.mean) / self.sd)) for value in x])


class Expected(NamedTuple):
    """What scores and controls let expect of a list."""

    scores: dict[str, float]
    missed: Array
    """Memorized prompts that score at most as high as each prompt of the list, [N], posterior mean."""
    memorized: float
    """Memorized prompts in the list, posterior mean."""
    limit: float
    """No prompt that scores as high is ever skipped."""
    odd_controls: tuple[int, ...]


def plan_skipping(
    scores: Mapping[str, float], controls: Sequence[float], miss_rate: float, audit: int, seed: int, *, screen: str
) -> Skipping:
    """Skip prompts from the lowest score up, as long as few enough memorized prompts are expected among them.

    `controls` are scores, by the same screen, of prompts known to be clean. `audit` of the skipped prompts are drawn
    with `seed`. The same input gives the same plan. Raises MemfixError where controls are too few or calibrate nothing.
    """
    return lowest_skipped(expect(scores, controls), miss_rate, audit, seed, screen=screen)


def expect(scores: Mapping[str, float], controls: Sequence[float]) -> Expected:
    """What is expected of a list, whatever miss rate is asked. Raises MemfixError as `plan_skipping` does."""
    x, known, unit = _standardised(np.array(list(scores.values()), float), np.array(controls, float))
    values, place, counts = np.unique(np.round(x, DECIMALS), return_inverse=True, return_counts=True)
    groups, odds = posterior(values, counts, known)
    odd = np.flatnonzero(odds > 0.5)
    if len(odd) > ODD_CONTROLS * len(known):
        raise MemfixError(
            f"{len(odd)} of {len(known)} controls score like memorized prompts: no. {', '.join(map(str, odd + 1))}.",
            "Check them with 'memfix detect' and give only controls that are clean.",
        )
    _compare(known[odds <= 0.5], groups)
    highest = float(np.mean(groups.clean_mean - groups.clean_sd * ndtri(ALWAYS_GENERATED)))
    return Expected(
        dict(scores), len(x) * groups.below(values)[place], float(len(x) * groups.share.mean()),
        unit(min(float(known.max()), highest)), tuple(odd.tolist()),
    )  # fmt: skip


def _compare(controls: Array, groups: Groups) -> None:
    """Refuse controls whose mean is not that of the clean group, which the list has its say in."""
    away = (float(controls.mean()) - float(groups.clean_mean.mean())) / float(groups.clean_sd.mean())
    if abs(away) > max(LEAST_AWAY, 3 / math.sqrt(len(controls))):
        raise MemfixError(
            f"The controls score {'higher' if away > 0 else 'lower'} than the prompts of the list that look clean, "
            f"by {abs(away):.1f} standard deviations.",
            "Give controls of the same kind as the prompts of the list, or leave out --screen to sample all of it.",
        )


def lowest_skipped(expected: Expected, miss_rate: float, audit: int, seed: int, *, screen: str) -> Skipping:
    """Skip while the expected number of missed prompts is at most `miss_rate` of the memorized ones expected.

    With less than one expected, a share of them means nothing: then `miss_rate` bounds the expected number of missed
    prompts, and with it the probability that any is missed.
    """
    if not 0 < miss_rate < 1:
        raise MemfixError(
            f"The miss rate {miss_rate} is not between 0 and 1.",
            "Give --miss-rate a number such as 0.02.",
            ExitCode.USAGE,
        )
    scores, missed = expected.scores, dict(zip(expected.scores, expected.missed.tolist(), strict=True))
    most = miss_rate * max(1.0, expected.memorized)
    threshold = min((score for i, score in scores.items() if missed[i] > most), default=math.inf)
    threshold = min(threshold, expected.limit)
    skipped = tuple(sorted((i for i, score in scores.items() if score < threshold), key=scores.__getitem__))
    return Skipping(
        screen=screen, miss_rate=miss_rate, threshold=threshold, scores=scores, skipped=skipped,
        audited=draw_audit(skipped, audit, seed), expected_memorized=expected.memorized,
        expected_missed=missed[skipped[-1]] if skipped else 0.0, odd_controls=expected.odd_controls,
    )  # fmt: skip


def draw_audit(skipped: Sequence[str], audit: int, seed: int) -> tuple[str, ...]:
    """So many of the skipped prompts at random, all of them where they are fewer; in the order of `skipped`."""
    if audit < 0:
        raise MemfixError(f"An audit of {audit} prompts is not possible.", "Give --audit 0 or more.", ExitCode.USAGE)
    drawn = set(random.Random(seed).sample(range(len(skipped)), min(audit, len(skipped))))
    return tuple(prompt for place, prompt in enumerate(skipped) if place in drawn)


def audit_bound(memorized: int, audited: int, skipped: int, confidence: float = 0.95) -> float:
    """The largest share of memorized prompts among the skipped ones that the audit leaves possible.

    One-sided bound by Clopper and Pearson (Biometrika 26, 1934); it assumes nothing about scores. Safe also for a draw
    without replacement from few. 1 without an audit; the share itself where all are audited.
    """
    if audited >= skipped:
        return memorized / audited if audited else 0.0
    return clopper_pearson(memorized, audited, 2 * confidence - 1)[1] if audited else 1.0


def posterior(values: Array, counts: NDArray[np.int64], controls: Array) -> tuple[Groups, Array]:
    """Draws of the two groups, and each control's probability of belonging to the memorized one.

    `values` [L] are the distinct scores of the list, `counts` [L] how many prompts have each, `controls` [n]; all in
    units where controls have about mean 0 and deviation 1. The chain's own seed is fixed.
    """
    rng, length, contamination = np.random.default_rng(0), int(counts.sum()), ODD_EXPECTED / len(controls)
    x, many = np.concatenate([values, controls]), np.concatenate([counts, np.ones(len(controls), np.int64)])
    listed = np.arange(len(x)) < len(values)
    mean, variance = (0.0, MEAN), (1.0, RATE / (SHAPE - 1))
    share, draws, odds = 0.05, [], np.zeros(len(controls))
    for turn in range(WARM_UP + DRAWS):
        prior = np.where(listed, math.log(share) - math.log1p(-share), math.log(contamination / (1 - contamination)))
        probability = expit(prior + _log_normal(x, mean[1], variance[1]) - _log_normal(x, mean[0], variance[0]))
        if turn >= WARM_UP:
            draws.append((mean[0], variance[0] ** 0.5, mean[1], variance[1] ** 0.5, share))
            odds += probability[~listed] / DRAWS
        memorized = rng.binomial(many, probability)
        found = int(memorized[listed].sum())
        share = float(np.clip(rng.beta(SHARE_PRIOR[0] + found, SHARE_PRIOR[1] + length - found), 1e-12, 1 - 1e-12))
        mean, variance = _draw_normals(rng, x, many - memorized, memorized, mean[1], variance[1])
    return Groups(*np.array(draws).T), odds


def _draw_normals(
    rng: np.random.Generator,
    x: Array,
    clean: NDArray[np.int64],
    memorized: NDArray[np.int64],
    mean: float,
    variance: float,
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Means and variances (clean, memorized) given how many prompts of each score belong to which group.

    The memorized group keeps the higher mean and no smaller variance: otherwise the groups could swap their names.
    """
    weight, middle, shape, rate = _update(x, clean, 0.0, CLEAN_WEIGHT, CLEAN_SHAPE, CLEAN_RATE)
    clean_variance = 1 / _truncated_gamma(rng, shape, rate, 1 / variance, math.inf)
    clean_mean = _truncated_normal(rng, middle, (clean_variance / weight) ** 0.5, -math.inf, mean)
    weight, middle, shape, rate = _update(x, memorized, MEAN, WEIGHT, SHAPE, RATE)
    variance = 1 / _truncated_gamma(rng, shape, rate, 1e-12, 1 / clean_variance)
    mean = _truncated_normal(rng, middle, (variance / weight) ** 0.5, clean_mean, math.inf)
    return (clean_mean, mean), (clean_variance, variance)


def _update(
    x: Array, many: NDArray[np.int64], mean: float, weight: float, shape: float, rate: float
) -> tuple[float, float, float, float]:
    """A normal inverse gamma prior after `many` [L] observations of each x [L]: weight, mean, shape, rate."""
    n = int(many.sum())
    centre = float(many @ x) / n if n else mean
    spread = float(many @ (x - centre) ** 2) + weight * n / (weight + n) * (centre - mean) ** 2
    return weight + n, (weight * mean + n * centre) / (weight + n), shape + n / 2, rate + spread / 2


def _log_normal(x: Array, mean: float, variance: float) -> Array:
    return np.asarray(-((x - mean) ** 2) / (2 * variance) - 0.5 * math.log(variance))


def _truncated_gamma(rng: np.random.Generator, shape: float, rate: float, low: float, high: float) -> float:
    """By inversion; the nearer end where rounding leaves nothing between the ends."""
    start, end = gammainc(shape, low * rate), gammainc(shape, high * rate)
    return float(np.clip(gammaincinv(shape, start + (end - start) * rng.random()) / rate, low, min(high, 1e12)))


def _truncated_normal(rng: np.random.Generator, mean: float, sd: float, low: float, high: float) -> float:
    """By inversion; the nearer end where rounding leaves nothing between the ends."""
    start, end = ndtr((low - mean) / sd), ndtr((high - mean) / sd)
    return float(np.clip(mean + sd * ndtri(start + (end - start) * rng.random()), low, high))


def _standardised(scores: Array, controls: Array) -> tuple[Array, Array, Callable[[float], float]]:
    """Scores and controls in units of the controls' median and spread, and the way back.

    Logarithms where all are positive, as norms are: their spread is a factor. The spread is the median absolute
    deviation, which single hard controls do not move.
    """
    if len(controls) < MIN_CONTROLS:
        raise MemfixError(
            f"Skipping prompts needs at least {MIN_CONTROLS} controls; there are {len(controls)}.",
            f"Give --controls FILE with {MIN_CONTROLS} or more prompts that are known to be clean.",
            ExitCode.USAGE,
        )
    if not (np.isfinite(scores).all() and np.isfinite(controls).all()):
        raise MemfixError("The screen gave a score that is not a finite number.", "Try --mixed-precision no.")
    positive = min(scores.min(initial=math.inf), controls.min()) > 0
    if positive:
        scores, controls = np.log(scores), np.log(controls)
    middle = float(np.median(controls))
    spread = 1.4826 * float(np.median(np.abs(controls - middle)))
    if spread == 0:
        raise MemfixError(
            "More than half of the controls have the same score.", "Give controls that differ, or another --screen."
        )

    def unit(value: float) -> float:
        return math.exp(middle + spread * value) if positive else middle + spread * value

    return (scores - middle) / spread, (controls - middle) / spread, unit
