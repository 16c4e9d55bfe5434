"""The range of detail that counts as intact."""

import pytest

from memfix.quality import BLANK, broken_share, detail_of_references, detail_range
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


def test_samples_may_be_as_plain_and_as_rich_as_training_images() -> None:
    """Two prompts that copy their images say little of what else is a picture; twenty images do, without the blank."""
    few = scores(0.1, 0.11)
    assert detail_range(few, None) == detail_range(few) and detail_range(few)[0] == pytest.approx(0.1001 / 1.5)
    images = [d / 100 for d in range(3, 24)]  # percentiles 1 and 99 are 0.032 and 0.228
    told = detail_of_references([*images, 0.0, BLANK / 2])
    assert told == pytest.approx((0.032, 0.228))
    assert detail_range(few, told) == pytest.approx((0.032, 0.228))
    assert detail_range(few, (0.105, 0.106)) == detail_range(few)
    assert detail_of_references(images[:19]) is None


def test_what_is_plainer_than_all_training_images_is_broken_though_they_are_plain() -> None:
    """Drawings of a line or two, and a model that gives flat colours since it was unlearned: that mitigates nothing."""
    drawings = detail_of_references([0.0060 + i / 1e5 for i in range(30)])
    assert broken_share(scores(*[0.0045] * 16), detail_range(scores(*[0.01] * 16), drawings)) == 1.0
