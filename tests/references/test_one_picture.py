"""One picture or two: re-encodings of the bundled posters, and what is merely alike."""

from io import BytesIO

import pytest
import torch
from PIL import Image, ImageDraw

from memfix.inputs.opening import open_image
from memfix.inputs.references import read_references
from memfix.measures.pixels import TiledL2
from memfix.records import Reference
from memfix.references.one_picture import FLAT, TILES_APART, Prints, duplicates, one_picture, unrelated_groups
from tests.conftest import picture

POSTERS = [open_image(r.path) for r in read_references("demo", [])]


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    file = BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def same(a: list[Image.Image], b: list[Image.Image]) -> torch.Tensor:
    return one_picture(Prints().features(a), Prints().features(b))


def test_prints_are_means_by_hand() -> None:
    image = Image.new("RGB", (64, 64))
    image.paste((255, 0, 0), (0, 0, 2, 4))  # half of the first of the 16x16 pixels
    found = Prints().features([image])[0]
    assert found.shape == (16, 48)
    assert float(found[0, 0]) == pytest.approx(0.5 / 48**0.5) and float(found.sum()) == pytest.approx(0.5 / 48**0.5)


def test_at_the_level_by_hand() -> None:
    """A tile of 16x16 pixels that is grey by v has the rms v; the rest is a board of black and white."""
    board = Image.new("RGB", (64, 64), "white")
    for i in range(8):
        for j in range(i % 2, 8, 2):
            board.paste("black", (8 * i, 8 * j, 8 * i + 8, 8 * j + 8))
    level = int(TILES_APART * 255)
    for value, expected in ((level, True), (level + 1, False)):
        first, second = board.copy(), board.copy()
        first.paste((0, 0, 0), (16, 16, 32, 32))
        second.paste((value,) * 3, (16, 16, 32, 32))
        assert same([first], [second]).item() is expected
    flat = [Image.new("RGB", (64, 64), (v,) * 3) for v in (100, 101, 103)]
    assert same(flat[:1] * 2, flat[1:]).tolist() == [True, False] and FLAT == 2 / 255


@pytest.mark.parametrize(("quality", "least"), [(30, 0.98), (50, 1), (75, 1), (95, 1)])
def test_reencoded_posters_are_one_picture(quality: int, least: float) -> None:
    assert same(POSTERS, [jpeg(p, quality) for p in POSTERS]).float().mean() >= least


@pytest.mark.parametrize("side", [32, 48, 96, 200])
def test_resized_posters_are_one_picture(side: int) -> None:
    resized = [p.resize((side, side), Image.Resampling.BICUBIC) for p in POSTERS]
    assert same(POSTERS, resized).all()
    if side > 32:
        assert same(POSTERS, [jpeg(p, 75) for p in resized]).float().mean() >= 0.99


def test_different_posters_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Templates on twelve backgrounds among them."""
    monkeypatch.setattr("memfix.references.near_copies.ROWS", 64)
    assert len(duplicates(TiledL2().features(POSTERS)).unique()) == len(POSTERS)


def test_faint_pictures_and_thin_lines_are_not_one_picture() -> None:
    faint = [picture(i).point(lambda v: 120 + v // 8) for i in range(20)]
    assert len(duplicates(TiledL2().features(faint)).unique()) >= 19
    pages = [Image.new("RGB", (64, 64), "white") for _ in range(2)]
    for x, page in enumerate(pages):
        for y in range(3, 64, 6):
            ImageDraw.Draw(page).line((4, y, 30 + (7 * y * (x + 1)) % 25, y), fill=(150, 150, 150))
    assert Prints().pair(*map(Prints().features, ([pages[0]], [pages[1]]))) < TILES_APART
    assert not same(pages[:1], pages[1:]).item()


def test_a_chain_is_one_picture() -> None:
    chain = [Image.blend(picture(3), picture(4), i / 40) for i in range(41)]
    assert not same(chain[:1], chain[-1:]).item()
    assert duplicates(TiledL2().features([picture(9), *chain])).tolist() == [0, *[1] * 41]


def test_one_caption_or_one_picture_is_related() -> None:
    texts, pictures = ["a", "b", "a", "", "", ""], [0, 1, 2, 1, 3, 4]
    references = [Reference(file_name=f"{i}", path=f"/{i}", text=text) for i, text in enumerate(texts)]
    labels = unrelated_groups(references, duplicates(TiledL2().features([picture(i) for i in pictures])))
    assert labels.tolist() == [0, 1, 0, 1, 4, 5]
