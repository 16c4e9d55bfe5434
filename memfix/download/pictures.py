"""Whether a downloaded file is a picture that can serve as a reference. Knows nothing of where it came from."""

from __future__ import annotations

from pathlib import Path
from threading import BoundedSemaphore
from typing import NamedTuple

from PIL import Image, UnidentifiedImageError

from memfix.download.fetched import refused
from memfix.download.placeholders import is_blank, look
from memfix.inputs.decoding import BROKEN, NothingVisibleError, eight_bits, on_white
from memfix.inputs.opening import MOST_PIXELS, TooManyPixelsError, undecoded

SUFFIX = {
    "JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "WEBP": ".webp", "AVIF": ".avif", "JPEG2000": ".jp2", "GIF": ".gif",
    "BMP": ".bmp", "DIB": ".bmp", "TIFF": ".tif", "PPM": ".ppm", "QOI": ".qoi", "TGA": ".tga",
}  # fmt: skip
SNIFFED = 512  # bytes
SMALL = 64  # pixels of the side at which a picture is looked at
DECODERS = BoundedSemaphore(4)  # pictures decoded at once: each takes up to 4 bytes a pixel


class CheckedPicture(NamedTuple):
    """A file that is one. Sides in pixels; `look` as in Fetched."""

    suffix: str
    width: int
    height: int
    look: str


def check_picture(path: Path, max_pixels: int, min_side: int) -> CheckedPicture:
    """Decode a file's first frame, after a look at its size.

    Raises NotFetchedError (refused) for anything but a picture that is worth keeping.
    """
    try:
        with undecoded(path, min(max_pixels, MOST_PIXELS)) as image:
            width, height = image.size
            if min(width, height) < min_side:
                raise refused("tiny", f"{width}x{height}")
            suffix = SUFFIX[image.format or ""]
            with DECODERS:
                small = _small(image)
    except (Image.DecompressionBombError, TooManyPixelsError) as error:
        raise refused("too many pixels", str(error)) from None
    except NothingVisibleError:
        raise refused("blank", "transparent everywhere") from None
    except UnidentifiedImageError:
        raise refused(_what_else(path)) from None
    except BROKEN as error:
        raise refused("broken picture", f"{type(error).__name__} {error}".strip()) from None
    if is_blank(small):
        raise refused("blank", "one colour, or nearly")
    return CheckedPicture(suffix, width, height, look(small))


def _small(image: Image.Image) -> Image.Image:
    """The picture as RGB on white, SMALL pixels square; reads it to its end, so that a cut file is noticed."""
    image.draft("RGB", (4 * SMALL, 4 * SMALL))  # JPEG: an eighth of the memory
    image.load()
    image = eight_bits(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
    elif image.mode != "RGB":
        image = image.convert("RGB")
    return on_white(image.resize((SMALL, SMALL), Image.Resampling.BOX))


def _what_else(path: Path) -> str:
    """A name for a file that is no picture: servers send pages under image names and image types."""
    with path.open("rb") as file:
        start = file.read(SNIFFED).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not start:
        return "empty"
    if b"<svg" in start:
        return "vector graphics"
    return "HTML" if start.startswith(b"<") else "not a picture"
