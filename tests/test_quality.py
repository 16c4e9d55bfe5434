"""The range of detail that counts as intact."""

import pytest

from memfix.quality import broken_share, detail_range
from memfix.records import Score


def scores(*details: float) -> list[Score]:
    return [
        Score(file_name="x.png", prompt_id="p", seed=0, reference="r", measures={}, copy_=False, detail=d)
        for d in details
    ]


def test_by_hand() -> None:
    # percentiles 1 and 99 of 0.10, 0.11 … 0.20 are 0.101 and 0.199
    low, high = detail_range(scores(*(d / 100 for d in range(10, 21))))
    assert low == pytest.approx(0.101 / 1.5)
    assert high == pytest.approx(0.199 * 1.5)
    assert broken_share(scores(0.0, 0.07, 0.29, 0.5), (low, high)) == 0.5
