"""Whether pictures are intact: an unlearned model that answers with blanks or noise has mitigated nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from memfix.records import Score

MOST_BROKEN = 0.25  # of a prompt's samples are blank or noise; with more, nothing can be said of what it copies
LOOSE = 1.5  # a picture is broken when its detail is this many times outside the range of the original model


def detail_range(before: Sequence[Score]) -> tuple[float, float]:
    """The detail that pictures of this model have: 1st to 99th percentile of all samples before, widened by LOOSE."""
    low, high = np.percentile([s.detail for s in before], [1, 99])
    return float(low) / LOOSE, float(high) * LOOSE


def broken_share(scores: Sequence[Score], detail: tuple[float, float]) -> float:
    """Share of samples whose detail is outside `detail`, the range of `detail_range`."""
    low, high = detail
    return sum(not low <= s.detail <= high for s in scores) / len(scores)
