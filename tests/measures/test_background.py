"""Thresholds from how alike unrelated training images are."""

from pathlib import Path

import pytest

from memfix.errors import MemfixError
from memfix.measures import get_measure
from memfix.measures.background import Background, background
from memfix.measures.base import is_copy
from memfix.measures.gallery import Gallery
from memfix.records import Reference
from tests.conftest import picture


def test_threshold_by_hand() -> None:
    similarity = Background(tuple(i / 100 for i in range(100)), True)
    assert 0.94 < similarity.threshold(0.05) <= 0.95  # .95 to .99 pass: 5 of 100
    assert 0.98 < similarity.threshold(0.01) <= 0.99
    distance = Background(tuple(1 - i / 100 for i in range(100)), False)  # 1 down to .01
    assert 0.05 <= distance.threshold(0.05) < 0.06


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.29, 0.5])
@pytest.mark.parametrize("name", ["ssim", "tiled_l2"])
def test_no_more_references_pass_than_asked_for(rate: float, name: str) -> None:
    measure = get_measure(name)
    sign = 1 if measure.higher_is_closer else -1
    values = tuple(sorted((sign * ((i * 37) % 100) / 100 for i in range(100)), key=lambda v: sign * v))
    threshold = Background(values, measure.higher_is_closer).threshold(rate)
    assert sum(is_copy(measure, v, threshold) for v in values) == pytest.approx(rate * 100)


def test_a_rate_that_few_references_cannot_show() -> None:
    with pytest.raises(MemfixError, match=r"smallest is 0\.1"):
        Background(tuple(i / 10 for i in range(10)), True).threshold(0.05)
    with pytest.raises(MemfixError, match="different captions"):
        Background((), True).threshold(0.5)
    assert Background((), True).summary() is None


def gallery(folder: Path, captions: list[str]) -> Gallery:
    references = []
    for i, text in enumerate(captions):
        picture(i // 2).save(folder / f"{i}.png")  # each picture twice
        references.append(Reference(file_name=f"{i}.png", path=str(folder / f"{i}.png"), text=text))
    return Gallery(references, get_measure("tiled_l2"))


def test_what_shares_a_caption_is_related(tmp_path: Path) -> None:
    twins = background(gallery(tmp_path, ["a", "a", "b", "b", "c", "c"]))
    assert len(twins.values) == 6
    assert twins.values[-1] > 0.05  # the twin, at distance 0, is left out
    strangers = background(gallery(tmp_path, ["a", "b", "c", "d", "", ""]))
    assert strangers.values == (0,) * 6


def test_one_caption_gives_no_background(tmp_path: Path) -> None:
    assert background(gallery(tmp_path, ["a", "a"])).values == ()


def test_against_a_plain_loop(tmp_path: Path) -> None:
    held = gallery(tmp_path, [str(i // 2) for i in range(10)])
    features = [held.measure.features([picture(i // 2)]) for i in range(10)]
    wanted = [
        min(float(held.measure.pair(features[i], features[j])) for j in range(10) if j // 2 != i // 2)
        for i in range(10)
    ]  # fmt: skip
    assert background(held).values == pytest.approx(sorted(wanted, reverse=True), abs=1e-5)
