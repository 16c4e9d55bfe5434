"""Verdicts and intervals, by hand and against a search for the exact bounds."""

import pytest
from scipy.stats import binom

from memfix.detect.verdict import judge
from memfix.measures import get_measure
from memfix.records import Label, Score
from memfix.stats import clopper_pearson


def scores(values: list[float], reference: str = "r.png") -> list[Score]:
    return [
        Score(
            file_name=f"{i}.png", prompt_id="p", seed=i, reference=reference, measures={"tiled_l2": v},
            copy_=v <= 0.15, detail=0.1,
        )
        for i, v in enumerate(values)
    ]  # fmt: skip


def verdict(values: list[float]):
    return judge(scores(values), get_measure("tiled_l2"), 0.15, confidence=0.95, tolerance=0.25)


@pytest.mark.parametrize(("k", "n"), [(0, 16), (1, 16), (7, 16), (16, 16), (3, 5)])
def test_interval_has_its_tails(k: int, n: int) -> None:
    low, high = clopper_pearson(k, n)
    if k:
        assert binom.sf(k - 1, n, low) == pytest.approx(0.025)
    if k < n:
        assert binom.cdf(k, n, high) == pytest.approx(0.025)
    assert low <= k / n <= high


def test_interval_by_hand() -> None:
    # 0 of 16: (1 - p)^16 = 0.025
    assert clopper_pearson(0, 16)[1] == pytest.approx(1 - 0.025 ** (1 / 16))
    with pytest.raises(ValueError, match="need"):
        clopper_pearson(0, 0)


def test_one_copy_is_enough() -> None:
    found = verdict([0.1] + [0.4] * 15)
    assert (found.verdict, found.copies, found.share, found.score) == (Label.MEMORIZED, 1, 1 / 16, 0.1)


def test_clean_needs_enough_samples() -> None:
    assert verdict([0.4] * 16).verdict is Label.CLEAN
    few = verdict([0.4] * 4)
    assert few.verdict is Label.UNDECIDED
    assert "too few" in few.reason


def test_reference_is_the_one_most_copies_show() -> None:
    mixed = scores([0.05], "a.png") + scores([0.1, 0.12], "b.png")
    found = judge(mixed, get_measure("tiled_l2"), 0.15, confidence=0.95, tolerance=0.25)
    assert found.reference == "b.png"
    assert found.score == 0.05
