"""Thresholds by name, and what they are thresholds of."""

import numpy as np
import pytest
from PIL import Image

from memfix.errors import ExitCode, MemfixError
from memfix.measures import MEASURES, get_measure
from memfix.measures.pixels import TiledL2
from memfix.measures.weights import Wanted
from memfix.thresholds import THRESHOLDS, find_threshold

AUTHORS = Wanted().sscd


def test_every_row_has_a_measure_that_decides_and_a_source() -> None:
    for name, row in THRESHOLDS.items():
        assert row.name == name and len(row.source) > 20
        assert MEASURES[row.measure].decides
        assert find_threshold(name, row.measure, "demo" if row.bundled else AUTHORS) == row


def test_defaults_are_rows_of_the_table() -> None:
    assert get_measure("ssim").threshold == THRESHOLDS["bundled-ssim"].value == 0.72
    assert get_measure("tiled_l2").threshold == THRESHOLDS["bundled-tiled-l2"].value == 0.15
    assert get_measure("sscd", Wanted(sscd="demo")).threshold == THRESHOLDS["bundled-sscd"].value == 0.65
    assert MEASURES["sscd"].threshold == THRESHOLDS["sscd-precision-90"].value == 0.75


def test_the_threshold_of_the_authors_is_that_of_their_code_not_of_their_paper() -> None:
    assert "README of their code" in THRESHOLDS["sscd-precision-90"].source
    assert "README of their code" in MEASURES["sscd"].source


def test_a_number_is_what_it_is() -> None:
    assert find_threshold(0.6, "ssim", AUTHORS)[2:4] == (0.6, "given")
    for number in (float("nan"), float("inf")):
        with pytest.raises(MemfixError, match="cannot decide anything"):
            find_threshold(number, "ssim", AUTHORS)


@pytest.mark.parametrize(
    ("name", "measure", "sscd", "message", "hint"),
    [
        ("sscd-precision90", "sscd", AUTHORS, "Unknown threshold", "Did you mean 'sscd-precision-90'"),
        (
            "sscd-precision-90",
            "ssim",
            AUTHORS,
            "is for the measure sscd, but the measure is ssim",
            "Give --measure sscd, or",
        ),
        (
            "bundled-ssim",
            "sscd",
            AUTHORS,
            "is for the measure ssim, but the measure is sscd",
            "Known: sscd-precision-90,",
        ),
        ("bundled-tiled-l2", "ssim", AUTHORS, "is for the measure tiled_l2", "Did you mean 'bundled-ssim'"),
        ("somepalli-sscd", "sscd", "demo", "is for the authors' weights", "one of: bundled-sscd."),
        ("bundled-sscd", "sscd", AUTHORS, "is for the bundled weights", "nemo-sscd, somepalli-sscd."),
    ],
)
def test_names_that_do_not_fit(name: str, measure: str, sscd: str, message: str, hint: str) -> None:
    with pytest.raises(MemfixError, match=message) as caught:
        find_threshold(name, measure, sscd)
    assert caught.value.exit_code is ExitCode.USAGE
    assert hint in caught.value.hint


def theirs(a: Image.Image, b: Image.Image) -> float:
    """Carlini et al. 2023: sqrt(sum of squares / d) of pictures in 0 to 1, the largest of 16 tiles, at full size."""
    x, y = (np.asarray(image, np.float64) / 255 for image in (a, b))
    side = len(x) // 4
    squares = ((x - y) ** 2).reshape(4, side, 4, side, 3).mean((1, 3, 4))
    return float(np.sqrt(squares.max()))


def ours(a: Image.Image, b: Image.Image) -> float:
    measure = TiledL2()
    return float(measure.pair(measure.features([a]), measure.features([b])))


def test_tiled_l2_has_the_scale_of_carlini() -> None:
    """Equal at our 64 pixels, and for any difference that is even over a tile; smaller where fine detail differs."""
    draw = np.random.default_rng(0)
    small = [Image.fromarray(draw.integers(0, 256, (64, 64, 3), dtype=np.uint8)) for _ in range(2)]
    assert ours(*small) == pytest.approx(theirs(*small), abs=1e-6)
    grey = [Image.new("RGB", (512, 512), (v, v, v)) for v in (100, 138)]
    assert ours(*grey) == pytest.approx(theirs(*grey), abs=1e-6) == pytest.approx(38 / 255)
    large = [image.resize((512, 512), Image.Resampling.BICUBIC) for image in small]
    assert ours(*large) <= theirs(*large) + 1 / 255  # the mean of a square is no less than the square of a mean
    noisy = [Image.fromarray(draw.integers(0, 256, (512, 512, 3), dtype=np.uint8)) for _ in range(2)]
    assert ours(*noisy) < 0.2 * theirs(*noisy)
