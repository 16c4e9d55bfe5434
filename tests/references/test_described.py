"""Features on demand: the right ones, each taken once while it is kept."""

from collections.abc import Sequence

import torch
from PIL import Image

from memfix.measures import PIXEL_MEASURES
from memfix.references.appearance import Appearance
from memfix.references.described import CHUNK, Described
from tests.conftest import picture


class Opened:
    """Pictures by number, and the numbers that were opened."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []

    def __call__(self, ids: Sequence[int]) -> list[Image.Image]:
        self.calls.append(list(ids))
        return [picture(i) for i in ids]


def test_features_in_the_order_asked_for() -> None:
    described, opened = Described(Opened(), Appearance(PIXEL_MEASURES)), [picture(i) for i in (5, 2, 5, 9)]
    for _ in range(2):
        found = described([5, 2, 5, 9])
        assert found.keys() == PIXEL_MEASURES.keys()
        for name, measure in PIXEL_MEASURES.items():
            torch.testing.assert_close(found[name], measure.features(opened), atol=0, rtol=0)


def test_the_least_recent_is_dropped() -> None:
    opened = Opened()
    described = Described(opened, Appearance(PIXEL_MEASURES), kept=2)
    for ids in ([1, 2], [1], [3], [1, 3], [2], [3, 3], [1]):
        described(ids)
    assert opened.calls == [[1, 2], [3], [2], [1]]


def test_more_at_once_than_are_kept() -> None:
    opened = Opened()
    described = Described(opened, Appearance({"ssim": PIXEL_MEASURES["ssim"]}), kept=3)
    n = CHUNK + 6
    assert described(list(range(n)))["ssim"].shape == (n, 3, 32, 32)
    assert [len(call) for call in opened.calls] == [CHUNK, 6]
    described([n - 1, n - 2, n - 3])
    assert len(opened.calls) == 2
