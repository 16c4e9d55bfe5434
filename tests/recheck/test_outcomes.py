"""Every way a prompt can end."""

from pathlib import Path

import pytest
from PIL import Image

from memfix.recheck.outcomes import change, file_difference
from memfix.records import FRESH, SAME, Label, Outcome, Prompt, Role, Score, Verdict


def score(copy: bool = False, condition: str = FRESH, detail: float = 0.1) -> Score:
    return Score(
        file_name="x.png",
        prompt_id="p",
        seed=0,
        condition=condition,
        reference="r",
        measures={},
        copy_=copy,
        detail=detail,
    )


def verdict(label: Label, copies: int = 0) -> Verdict:
    return Verdict(
        prompt_id="p", verdict=label, copies=copies, samples=16, share=copies / 16, interval=(0, 1), confidence=0.95,
        measure="tiled_l2", threshold=0.15, score=0.2, reference="r", reason="because",
    )  # fmt: skip


OLD_NOISE, NEW_NOISE = [score(condition=SAME)] * 4, [score()] * 4
BLANK = [score(detail=0.0)] * 8
COPY = [score(copy=True)]
MEMORIZED, CLEAN, UNDECIDED = verdict(Label.MEMORIZED, 3), verdict(Label.CLEAN), verdict(Label.UNDECIDED)


@pytest.mark.parametrize(
    ("role", "before", "after", "scores", "outcome"),
    [
        (Role.PROMPT, MEMORIZED, CLEAN, OLD_NOISE + NEW_NOISE, Outcome.MITIGATED),
        (Role.PROMPT, MEMORIZED, verdict(Label.MEMORIZED, 1), OLD_NOISE + NEW_NOISE + COPY, Outcome.PERSISTENT),
        (Role.PROMPT, MEMORIZED, CLEAN, OLD_NOISE + BLANK, Outcome.DAMAGED),
        (Role.PROMPT, MEMORIZED, UNDECIDED, OLD_NOISE + NEW_NOISE, Outcome.UNDECIDED),
        (Role.PROMPT, UNDECIDED, CLEAN, OLD_NOISE + NEW_NOISE, Outcome.UNDECIDED),
        (Role.PROMPT, CLEAN, CLEAN, OLD_NOISE + NEW_NOISE, Outcome.UNCHANGED),
        (Role.PROMPT, CLEAN, verdict(Label.MEMORIZED, 1), OLD_NOISE + COPY, Outcome.CHANGED),
        (Role.CONTROL, CLEAN, CLEAN, OLD_NOISE + NEW_NOISE, Outcome.UNCHANGED),
        (Role.CONTROL, CLEAN, verdict(Label.MEMORIZED, 1), OLD_NOISE + COPY, Outcome.CHANGED),
        (Role.CONTROL, UNDECIDED, CLEAN, OLD_NOISE + NEW_NOISE, Outcome.UNCHANGED),
        (Role.CONTROL, UNDECIDED, verdict(Label.MEMORIZED, 1), OLD_NOISE + COPY, Outcome.CHANGED),
        (Role.CONTROL, CLEAN, CLEAN, BLANK, Outcome.DAMAGED),
        (Role.CONTROL, MEMORIZED, verdict(Label.MEMORIZED, 2), OLD_NOISE + COPY, Outcome.UNCHANGED),
    ],
)
def test_outcomes(role: Role, before: Verdict, after: Verdict, scores: list[Score], outcome: Outcome) -> None:
    result = change(Prompt(id="p", text="t", role=role), before, after, scores, 0.1, (0.05, 0.2))
    assert result.outcome is outcome
    assert result.reason
    assert result.samples_same + result.samples_fresh == len(scores)
    assert result.copies_same + result.copies_fresh == sum(s.copy_ for s in scores)


def test_rms_difference_by_hand(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4), (0, 0, 0)).save(tmp_path / "a.png")
    Image.new("RGB", (4, 4), (255, 0, 0)).save(tmp_path / "b.png")
    assert file_difference(tmp_path / "a.png", tmp_path / "b.png") == pytest.approx((1 / 3) ** 0.5)
