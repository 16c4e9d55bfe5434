"""From the scores of a prompt's samples to a verdict with an interval. Pure: scores in, verdict out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from memfix.measures.base import Measure
from memfix.records import Label, Score, Verdict
from memfix.stats import clopper_pearson


def judge(
    scores: Sequence[Score], measure: Measure, threshold: float, *, confidence: float, tolerance: float
) -> Verdict:
    """The verdict on one prompt.

    `memorized` if any sample is a copy; `clean` if none is and the interval of the share of copies ends at or below
    `tolerance`; otherwise `undecided`: too few samples to rule out that a tolerable share of copies is exceeded.
    """
    copies = [s for s in scores if s.copy_]
    k, n = len(copies), len(scores)
    low, high = clopper_pearson(k, n, confidence)
    pick = max if measure.higher_is_closer else min
    closest = pick(scores, key=lambda s: s.measures[measure.name])
    if copies:
        verdict, reference = Label.MEMORIZED, Counter(s.reference for s in copies).most_common(1)[0][0]
        reason = f"{k} of {n} samples reproduce a reference"
    else:
        reference = closest.reference
        verdict = Label.CLEAN if high <= tolerance else Label.UNDECIDED
        reason = f"none of {n} samples reproduces a reference"
        if verdict is Label.UNDECIDED:
            reason += f", but {n} are too few to bound the share of copies at {tolerance:.0%}"
    return Verdict(
        prompt_id=scores[0].prompt_id, verdict=verdict, copies=k, samples=n, share=k / n,
        interval=(round(low, 4), round(high, 4)), confidence=confidence, measure=measure.name, threshold=threshold,
        score=closest.measures[measure.name], reference=reference, reason=reason,
    )  # fmt: skip
