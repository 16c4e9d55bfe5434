"""Whether pictures are intact: an unlearned model that answers with blanks or noise has mitigated nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from memfix.records import Score

MOST_BROKEN = 0.25  # of a prompt's samples are blank or noise; with more, nothing can be said of what it copies
LOOSE = 1.5  # a picture is broken when its detail is this many times outside the range of the original model
BLANK = 1 / 255  # mean difference of neighbouring pixels: less than one grey level
ENOUGH_REFERENCES = 20  # that say what detail pictures have


def detail_of_references(details: Sequence[float]) -> tuple[float, float] | None:
    """1st to 99th percentile of the detail of training images that are not blank; None where they are too few to
    tell."""
    told = [d for d in details if d >= BLANK]
    if len(told) < ENOUGH_REFERENCES:
        return None
    low, high = np.percentile(told, [1, 99])
    return float(low), float(high)


def detail_range(before: Sequence[Score], references: tuple[float, float] | None = None) -> tuple[float, float]:
    """The detail that pictures of this model may have: 1st to 99th percentile of all samples before, widened by LOOSE,
    and what `detail_of_references` gives, as it is. Samples of few prompts alone would call pictures broken that are
    none of theirs; plain training images, widened, would let blank ones pass."""
    low, high = (float(x) for x in np.percentile([s.detail for s in before], [1, 99]))
    lowest, highest = references or (low, high)
    return min(low / LOOSE, lowest), max(high * LOOSE, highest)


def broken_share(scores: Sequence[Score], detail: tuple[float, float]) -> float:
    """Share of samples whose detail is outside `detail`, the range of `detail_range`."""
    low, high = detail
    return sum(not low <= s.detail <= high for s in scores) / len(scores)
