"""Thresholds from how alike unrelated training images are."""

from pathlib import Path

import pytest

from memfix.errors import MemfixError
from memfix.inputs.opening import open_image
from memfix.inputs.references import read_references
from memfix.measures import get_measure
from memfix.measures.copy_rule import CopyRule
from memfix.measures.weights import Wanted
from memfix.records import Reference
from memfix.references.background import Background, background
from memfix.references.in_memory import HeldReferences
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
    assert sum(map(CopyRule(measure, threshold, "test").is_copy, values)) == pytest.approx(rate * 100)


def test_a_rate_that_few_references_cannot_show() -> None:
    with pytest.raises(MemfixError, match=r"smallest is 0\.1"):
        Background(tuple(i / 10 for i in range(10)), True).threshold(0.05)
    with pytest.raises(MemfixError, match="different captions"):
        Background((), True).threshold(0.5)
    assert Background((), True).summary() is None


def gallery(folder: Path, captions: list[str]) -> HeldReferences:
    references = []
    for i, text in enumerate(captions):
        picture(i // 2).save(folder / f"{i}.png")  # each picture twice
        references.append(Reference(file_name=f"{i}.png", path=str(folder / f"{i}.png"), text=text))
    return HeldReferences(references, get_measure("tiled_l2"))


def test_what_shares_a_caption_is_related(tmp_path: Path) -> None:
    held = gallery(tmp_path, ["a", "a", "b", "b", "c", "c"])
    for i in (1, 3, 5):
        picture(i // 2).point(lambda v: min(255, v + 2)).save(tmp_path / f"{i}.png")  # near-copies of 0, 2 and 4
    near = HeldReferences(held.references, held.measure)
    twins = background(near)
    assert len(twins.values) == 3 and twins.values[-1] > 0.05 and twins.duplicates == 3
    for i in (1, 3, 5):
        picture(i // 2).point(lambda v: 0.8 * v + 40).save(tmp_path / f"{i}.png")  # no longer the same pictures
    paler = HeldReferences(held.references, held.measure)
    assert len(background(paler).values) == 6 and background(paler).values[-1] > 0.15
    strangers = [r.model_copy(update={"text": str(i)}) for i, r in enumerate(held.references)]
    assert max(background(HeldReferences(strangers, held.measure)).values) < 0.15


@pytest.mark.parametrize("captions", [["a", "b", "c", "d", "e", "f"], [""] * 6])
def test_one_picture_is_not_unrelated_to_itself(tmp_path: Path, captions: list[str]) -> None:
    found = background(gallery(tmp_path, captions))
    assert len(found.values) == 3 and found.values[-1] > 0.05
    assert found.summary().references == found.summary().duplicates == 3


@pytest.mark.parametrize("name", ["ssim", "tiled_l2", "sscd"])
def test_one_poster_many_times_does_not_move_a_threshold(tmp_path: Path, name: str) -> None:
    """Re-encoded and resized, each with a caption of its own or without any."""
    references = read_references("demo", [])[-80:]
    measure = get_measure(name, Wanted(sscd="demo"))
    alone, poster = background(HeldReferences(references, measure)), open_image(references[30].path)
    more = []
    for i, quality in enumerate([*range(40, 96, 2)]):
        path = tmp_path / f"{i}.jpg"
        poster.resize([(64, 64), (96, 96), (48, 48)][i % 3]).save(path, quality=quality)
        more.append(Reference(file_name=path.name, path=str(path), text="" if i % 2 else f"caption {i}"))
    crowded = background(HeldReferences([*references, *more], measure))
    assert crowded.duplicates == len(more) and len(crowded.values) == len(alone.values) == 80
    assert crowded.threshold(0.05) == pytest.approx(alone.threshold(0.05), abs=0.03)
    assert crowded.values[-1] == pytest.approx(alone.values[-1], abs=0.03)


def test_of_many_references_a_seeded_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memfix.references.background.MOST", 5)
    held = gallery(tmp_path, [str(i // 2) for i in range(12)])
    first = background(held, seed=1)
    assert len(first.values) + first.duplicates == 5 and first == background(held, seed=1)
    assert len({background(held, seed=i).values for i in range(5)}) > 1


def test_one_caption_gives_no_background(tmp_path: Path) -> None:
    assert background(gallery(tmp_path, ["a", "a"])).values == ()


def test_against_a_plain_loop(tmp_path: Path) -> None:
    held = gallery(tmp_path, [str(i // 2) for i in range(10)])
    features = [held.measure.features([picture(i // 2)]) for i in range(10)]
    wanted = [
        min(float(held.measure.pair(features[i], features[j])) for j in range(10) if j // 2 != i // 2)
        for i in range(0, 10, 2)
    ]  # fmt: skip
    assert background(held).values == pytest.approx(sorted(wanted, reverse=True), abs=1e-5)
