"""Opening pictures: every format that is read, none that is not, large texts in PNG, limits of size."""

import io
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image, PngImagePlugin

from memfix.errors import MemfixError
from memfix.inputs import opening
from memfix.inputs.opening import MOST_PIXELS, MOST_TEXT, TooManyPixelsError, open_first, open_image, undecoded
from memfix.inputs.references import opened, read_references
from memfix.inputs.wrong_rows import WrongRows
from tests.conftest import picture
from tests.inputs.test_contents import FORMATS, encoded


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("name", ["a.png", "noext"])
def test_the_content_decides_how_a_picture_is_read(tmp_path: Path, kind: str, name: str) -> None:
    (tmp_path / name).write_bytes(encoded(kind))
    found, seen = (np.asarray(image, float) for image in (open_image(tmp_path / name), picture(1)))
    assert found.shape == seen.shape and np.abs(found - seen).mean() < 12


@pytest.mark.parametrize("chunk", ["text", "compressed text", "international text", "profile"])
def test_a_png_with_a_large_text_or_profile_is_read(tmp_path: Path, chunk: str) -> None:
    large = bytes(range(256)) * (12 << 10)  # 3 MiB
    assert len(large) > 1 << 20
    info, profile = PngImagePlugin.PngInfo(), {}
    if chunk == "profile":
        profile = {"icc_profile": large}
    elif chunk == "international text":
        info.add_itxt("workflow", "a" * len(large), zip=True)
    else:
        info.add_text("workflow", "a" * len(large), zip=chunk == "compressed text")
    picture(0).save(tmp_path / "a.png", pnginfo=info, **profile)
    assert open_image(tmp_path / "a.png").tobytes() == picture(0).tobytes()


def test_a_text_that_unpacks_without_end_is_named(tmp_path: Path) -> None:
    data = io.BytesIO()
    picture(0).save(data, "PNG")
    body = b"zTXt" + b"k\0\0" + zlib.compress(b"\0" * (MOST_TEXT + 1))
    chunk = (len(body) - 4).to_bytes(4) + body + zlib.crc32(body).to_bytes(4)
    png = data.getvalue()
    (tmp_path / "a.png").write_bytes(png[:33] + chunk + png[33:])  # behind the header
    with pytest.raises(MemfixError, match="MAX_TEXT_CHUNK"):
        open_image(tmp_path / "a.png")


def test_eps_under_the_name_of_a_picture_starts_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*arguments: object, **more: object) -> None:
        raise AssertionError("Ghostscript was asked")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", never)
    picture(0).save(tmp_path / "a.eps", "EPS")
    (tmp_path / "a.eps").rename(tmp_path / "a.png")
    with pytest.raises(MemfixError, match=r"a\.png cannot be read as a picture: it is EPS"):
        open_image(tmp_path / "a.png")


@pytest.mark.parametrize("kind", ["PCX", "SGI", "DDS", "ICO", "IM", "PDF"])
def test_other_formats_are_not_opened(tmp_path: Path, kind: str) -> None:
    picture(0).save(tmp_path / "x", kind)
    with pytest.raises(MemfixError, match="cannot be read as a picture"):
        open_image(tmp_path / "x")


def test_a_picture_of_too_many_pixels_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    side = int(MOST_PIXELS**0.5) + 1
    Image.new("1", (side, side)).save(tmp_path / "a.png")
    with pytest.raises(MemfixError, match="cannot be read as a picture: DecompressionBombError"):
        open_image(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # as other packages do
    with pytest.raises(MemfixError, match=f"more than {MOST_PIXELS:,} pixels"):
        open_image(tmp_path / "a.png")
    with pytest.raises(TooManyPixelsError, match="64x64"), undecoded(io.BytesIO(encoded("PNG")), 4000):
        pass


def test_no_other_module_opens_pictures() -> None:
    """What a picture is opened with is decided here alone."""
    package = Path(opening.__file__).parents[1]
    others = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if "Image.open(" in path.read_text() and path != Path(opening.__file__)
    }
    assert others == {"inputs/contents.py", "references/altered.py"}  # a header of BMP or PPM; what was just encoded


@pytest.mark.parametrize(
    ("levels", "ending"),
    [
        (np.linspace(0, 1, 256, dtype=np.float32), "tif"), (np.linspace(0, 1, 256, dtype=np.float32), "pfm"),
        (np.arange(256, dtype=np.float32), "tif"), (np.linspace(0, 4095, 256).astype(np.uint16), "png"),
        (np.linspace(0, 65535, 256).astype(np.uint16), "png"),
    ],
    ids=["fractions", "fractions in pfm", "floats of 8 bits", "12 bits", "16 bits"],
)  # fmt: skip
def test_grey_levels_of_every_depth_are_scaled(tmp_path: Path, levels: np.ndarray, ending: str) -> None:
    Image.fromarray(levels.reshape(16, 16)).save(tmp_path / f"a.{ending}")
    seen = np.asarray(open_image(str(tmp_path / f"a.{ending}")), int)[..., 0].ravel()
    assert abs(seen - np.arange(256)).max() <= 1


def test_levels_that_are_no_numbers_are_no_picture(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), np.nan, np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(MemfixError, match=r"a\.tif"):
        open_image(str(tmp_path / "a.tif"))


@pytest.mark.parametrize("ending", ["tif", "gif", "png", "webp", "mpo"])
def test_frames_behind_the_first_are_counted(tmp_path: Path, ending: str) -> None:
    first, *others = (Image.new("RGB", (32, 32), colour) for colour in ("red", "blue", "green"))
    first.save(tmp_path / f"a.{ending}", save_all=True, append_images=others)
    first.save(tmp_path / "b.png")
    image, further = open_first(tmp_path / f"a.{ending}")
    assert further == 2 and image.getpixel((3, 3))[0] > 250
    image, further = open_first(f"{tmp_path}/a.{ending}#2")
    assert further == 0 and image.getpixel((3, 3))[2] > 250
    with pytest.raises(MemfixError, match=f"a.{ending}#4 cannot be read"):
        open_first(f"{tmp_path}/a.{ending}#4")
    assert len(list(opened(read_references(str(tmp_path), []), WrongRows()))) == 2
