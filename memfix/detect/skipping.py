"""Which prompts a cheap screen shows to be so surely clean that their samples need not be generated.

Scores in, plan out: knows nothing of models, files or runs. Two groups (Efron, Large-Scale Inference, 2010, chapters 5
and 6): clean prompts and controls share one normal distribution of log-scores, memorized prompts have another with a
higher mean and no smaller spread. Nobody has labelled a memorized prompt, and a list may hold three of them, so that
no single fit is trusted: expectations are averaged over the posterior of the five parameters, drawn by Gibbs sampling
(Diebolt and Robert, JRSS B 56, 1994). docs/cascade.md has what it was measured to do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.special import ndtr, ndtri

from memfix.errors import ExitCode, MemfixError
from memfix.records import Record

Array = NDArray[np.float64]

MIN_CONTROLS = 20
ODD_CONTROLS = 0.1
"""Share of controls that may look memorized; more, and they calibrate nothing."""
ALWAYS_GENERATED = 0.1
"""The share of clean prompts with the highest scores, which is never skipped. Where clean and memorized scores meet,
the answer hangs on the shape that the model assumes."""
CONTAMINATION = 0.02
"""Prior share of controls that are memorized after all, so that one odd control does not widen the clean group."""
SHARE_PRIOR = (0.2, 1.0)
"""Beta: most lists hold few memorized prompts or none."""
MEAN, WEIGHT, SHAPE, RATE = 6.0, 1.0, 3.0, 8.0
"""What is believed of memorized scores before any is seen, in units of the controls' spread: normal inverse gamma,
worth one prompt. It finds 92 % at 1 % false alarms, as `magnitude` is published to do on Stable Diffusion (Wen 2024)."""
CLEAN_WEIGHT, CLEAN_SHAPE, CLEAN_RATE = 0.1, 1.0, 1.0
WARM_UP, DRAWS = 200, 1000
GRID = 2
"""Decimals that standardised scores are rounded to: lists of any length become some hundred distinct values."""


class Skipping(Record):
    """What `plan` decides. A prompt is skipped if its score lies below `threshold`."""

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


def plan(
    scores: Mapping[str, float], controls: Sequence[float], miss_rate: float, audit: int, seed: int, *, screen: str
) -> Skipping:
    """Skip prompts from the lowest score up, as long as few enough memorized prompts are expected among them.

    Few enough: `miss_rate` of the memorized prompts expected in the list, and of one prompt where less than one is.
    `controls` are scores, by the same screen, of prompts known to be clean. `audit` of the skipped prompts are drawn
    with `seed`. The same input gives the same plan. Raises MemfixError where controls are too few or calibrate nothing.
    """
    if not 0 < miss_rate < 1:
        raise MemfixError(f"No miss rate: {miss_rate}.", "Give --miss-rate a number such as 0.01.", ExitCode.USAGE)
    x, known, unit = _standardised(np.array(list(scores.values()), float), np.array(controls, float))
    groups, odds = posterior(x, known)
    odd = np.flatnonzero(odds > 0.5)
    if len(odd) > ODD_CONTROLS * len(known):
        raise MemfixError(
            f"{len(odd)} of {len(known)} controls score like memorized prompts: number {', '.join(map(str, odd + 1))}.",
            "Check them with 'memfix detect', and give controls that are clean.",
        )
    values, place = np.unique(np.round(x, GRID), return_inverse=True)
    missed, memorized = len(x) * groups.below(values), float(len(x) * groups.share.mean())
    limit = min(float(known.max()), float(np.mean(groups.clean_mean - groups.clean_sd * ndtri(ALWAYS_GENERATED))))
    below = affordable(missed, memorized, miss_rate)[place] & (x < limit)
    threshold = min((s for s, low in zip(scores.values(), below, strict=True) if not low), default=unit(limit))
    skipped = tuple(sorted((i for i, s in scores.items() if s < threshold), key=scores.__getitem__))
    return Skipping(
        screen=screen, miss_rate=miss_rate, threshold=threshold, scores=dict(scores), skipped=skipped,
        audited=draw_audit(skipped, audit, seed), expected_memorized=memorized,
        expected_missed=float(missed[place][below].max(initial=0.0)), odd_controls=tuple(odd.tolist()),
    )  # fmt: skip
