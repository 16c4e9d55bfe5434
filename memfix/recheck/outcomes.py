"""Before and after → what became of each prompt. Pure: records and pictures in, records out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from memfix.measures import pixels
from memfix.measures.quality import broken_share
from memfix.records import FRESH, SAME, Change, Condition, Label, Outcome, Prompt, Role, Score, Verdict

MOST_BROKEN = 0.25  # a prompt is damaged when more than this share of its samples is broken


def file_difference(a: Path, b: Path) -> float:
    """Root mean square difference of two picture files of one size, 0 to 1."""
    return pixels.rms_difference(Image.open(a), Image.open(b))


def change(
    prompt: Prompt, before: Verdict, after: Verdict, scores: Sequence[Score], drift: float, detail: tuple[float, float]
) -> Change:
    """The change of one prompt; `scores` are those after unlearning, of both conditions."""
    counts = {
        condition: (sum(s.copy_ for s in own), len(own))
        for condition in (SAME, FRESH)
        for own in [[s for s in scores if s.condition == condition]]
    }
    broken = broken_share(scores, detail)
    outcome, reason = _outcome(prompt, before, after, counts, broken)
    (copies_same, samples_same), (copies_fresh, samples_fresh) = counts[SAME], counts[FRESH]
    return Change(
        prompt_id=prompt.id, role=prompt.role, before=before.verdict, after=after.verdict, outcome=outcome,
        copies_same=copies_same, samples_same=samples_same, copies_fresh=copies_fresh, samples_fresh=samples_fresh,
        drift=round(drift, 5), broken=round(broken, 4), reason=reason,
    )  # fmt: skip


def _outcome(
    prompt: Prompt, before: Verdict, after: Verdict, counts: dict[Condition, tuple[int, int]], broken: float
) -> tuple[Outcome, str]:
    found = ", ".join(f"{k} of {n} with {condition} seeds" for condition, (k, n) in counts.items() if n)
    target = before.verdict is Label.MEMORIZED and prompt.role is Role.PROMPT
    if target and after.verdict is Label.MEMORIZED:
        return Outcome.PERSISTENT, f"still reproduces a reference: {found}"
    if broken > MOST_BROKEN:
        return Outcome.DAMAGED, f"{broken:.0%} of the samples are blank or noise"
    if target:
        if after.verdict is Label.UNDECIDED:
            return Outcome.UNDECIDED, after.reason
        return Outcome.MITIGATED, f"no copy is left: {found}"
    if before.verdict is Label.UNDECIDED and prompt.role is Role.PROMPT:
        return Outcome.UNDECIDED, f"undecided before unlearning: {before.reason}"
    if before.verdict is Label.UNDECIDED and after.verdict is Label.CLEAN:
        return Outcome.UNCHANGED, "clean by more samples; undecided before"
    if before.verdict is not after.verdict:
        return Outcome.CHANGED, f"was {before.verdict}, is {after.verdict}: {found}"
    return Outcome.UNCHANGED, f"{before.verdict} before and after"
