"""From the scores of a prompt's samples to a verdict with an interval. Pure: scores in, verdict out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from memfix.console import are
from memfix.detect.design import Design
from memfix.measures.copy_rule import CopyRule
from memfix.records import Label, Score, Verdict
from memfix.stats import clopper_pearson

PAIR = "two samples are near-identical, which is too few to be called copies and too many to call the prompt clean"


def verdict_on(
    scores: Sequence[Score], rule: CopyRule, design: Design, groups: Mapping[str, str] | None = None,
    shown: str = "a reference",
) -> Verdict:  # fmt: skip
    """The verdict on one prompt, by the design that its samples were drawn under and the rule they were judged by.

    A prompt that the design would have sampled further is `undecided`, and so is one without copies of which a witness
    disputes a sample; the interval then ends where the disputed ones would end it if they were copies. `groups` maps
    references to the one that stands for all their near-copies; `shown` is what copies are said to reproduce. Raises
    ValueError if the number of samples is no look of the design.
    """
    n, measure = len(scores), rule.measure
    copies = [s for s in scores if s.copy_]
    k = len(copies)
    label = design.decide(k, n)
    low, high = design.interval(k, n)
    disputed = [s for s in scores if s.accused]
    reason = _reason(label, k, n, design, shown)
    if disputed:
        high = max(high, clopper_pearson(k + len(disputed), n, design.confidence)[1])
    if disputed and label is Label.CLEAN:
        label, reason = Label.UNDECIDED, dispute(disputed, n, rule)
    pick = max if measure.higher_is_closer else min
    closest = pick(scores, key=lambda s: s.measures[measure.name])
    groups = groups or {}
    common = Counter(groups.get(s.shows, s.shows) for s in copies).most_common(1)
    return Verdict(
        prompt_id=scores[0].prompt_id, verdict=label or Label.UNDECIDED, copies=k, samples=n, share=k / n,
        interval=(round(low, 4), round(high, 4)), confidence=design.confidence, measure=measure.name,
        threshold=rule.threshold, score=closest.measures[measure.name],
        reference=common[0][0] if common else closest.reference, reason=reason, disputed=len(disputed),
    )  # fmt: skip


def dispute(disputed: Sequence[Score], n: int, rule: CopyRule) -> str:
    """One sentence on samples that are no copies by the rule of a run and are by a witness, with the first of them."""
    name, told = next(iter(disputed[0].accused.items()))
    own = disputed[0].measures[rule.measure.name]
    return (
        f"{len(disputed)} of {n} samples {are(len(disputed))} disputed: {name} calls {disputed[0].file_name} a copy of "
        f"{told.reference} by {told.value:.3f}, though its {rule.measure.name} of {own:.3f} does not pass "
        f"{rule.threshold:.3g}"
    )


def verdict_on_pair(verdict: Verdict) -> Verdict:
    """The verdict on a prompt with two samples that are near-identical, where two are too few to be called copies.

    `verdict` is the one without copies. Its interval is widened to where two copies would end it: they may be copies.
    """
    high = clopper_pearson(2, verdict.samples, verdict.confidence)[1]
    return verdict.model_copy(
        update={"verdict": Label.UNDECIDED, "interval": (verdict.interval[0], round(high, 4)), "reason": PAIR}
    )


def _reason(label: Label | None, k: int, n: int, design: Design, shown: str) -> str:
    """One sentence: what was seen, and what it lacks where that does not decide."""
    samples = f"{k or 'none'} of {n} samples"
    seen = f"{samples} reproduce{'' if k > 1 else 's'} {shown}"
    if label is None:
        return f"{seen}; sampling was interrupted, up to {design.looks[-1]} samples were planned"
    if label is not Label.UNDECIDED:
        return seen
    if k:
        passes = f"{samples} pass{'' if k > 1 else 'es'} the threshold"
        return f"{passes}, which may be due to chance ({_percent(design.chance)} per sample)"
    return f"{seen}, but {n} samples are too few to show that at most {_percent(design.tolerance)} are copies"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
