"""The one place where pictures are opened: a fixed list of formats, whatever a file is called, and a limit of size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO, NamedTuple

from PIL import Image, PngImagePlugin, UnidentifiedImageError

from memfix.errors import MemfixError
from memfix.inputs import inside
from memfix.inputs.contents import HEAD, by_head
from memfix.inputs.decoding import BROKEN, NothingVisibleError, as_rgb

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "JPEG2000", "TIFF", "BMP", "GIF", "PPM", "QOI")
"""What is opened: no format that starts another program (EPS), and none of several layers. JPEG includes MPO."""

UNMARKED = ("TGA",)  # formats without a mark of their own, tried where no other one fits
MOST_PIXELS = 178_956_970
"""Pictures with more are not decoded. Pillow itself raises an error from there on, unless its limit was lifted."""

MOST_TEXT = 64 << 20
"""Bytes of a text or colour profile in a PNG, unpacked: many write more than Pillow's own limit of 1 MiB."""

PngImagePlugin.MAX_TEXT_CHUNK = MOST_TEXT
PngImagePlugin.MAX_TEXT_MEMORY = 2 * MOST_TEXT


class TooManyPixelsError(ValueError):
    """A picture that is too large to be decoded."""


@contextmanager
def undecoded(file: str | Path | IO[bytes], most_pixels: int = MOST_PIXELS) -> Iterator[Image.Image]:
    """A picture of which only the header is read. Raises one of UNREADABLE, as decoding it may."""
    image = _identified(file)
    with image:
        if image.width * image.height > most_pixels:
            raise TooManyPixelsError(f"{image.width}x{image.height}")
        yield image


UNREADABLE = (*BROKEN, Image.DecompressionBombError)
"""What opening and decoding raise for what is no picture, or a broken one."""


def _identified(file: str | Path | IO[bytes]) -> Image.Image:
    try:
        return Image.open(file, formats=FORMATS)
    except UnidentifiedImageError:
        if not isinstance(file, str | Path):
            file.seek(0)
        return Image.open(file, formats=UNMARKED)


def open_image(path: str | Path) -> Image.Image:
    """Decode a picture, a file or in one, as training sees it: see `as_rgb`. Raises MemfixError, naming the file."""
    return open_first(path).image


class FirstFrame(NamedTuple):
    """What training sees of a picture, and how many further frames or pages are behind it in its file."""

    image: Image.Image
    further: int


def open_first(path: str | Path) -> FirstFrame:
    """The same with the number of frames that are left out; none behind one that its address itself names."""
    address, frame = inside.parted(str(path))
    held: bytes | None = None
    try:
        held = inside.read(address)
        with undecoded(address if held is None else BytesIO(held)) as image:
            if frame:
                seek(image, frame)
                return FirstFrame(as_rgb(image), 0)
            return FirstFrame(as_rgb(image), further_frames(image))
    except UNREADABLE as error:
        raise MemfixError(
            f"{path} cannot be read as a picture: {_why(error, address, held)}.", "Replace the file, or remove it."
        ) from None


def seek(image: Image.Image, frame: int) -> None:
    """Go to a frame, from 0, which may be of another size than the first. Raises one of UNREADABLE."""
    image.seek(frame)
    if image.width * image.height > MOST_PIXELS:
        raise TooManyPixelsError(f"{image.width}x{image.height}")


def further_frames(image: Image.Image) -> int:
    """How many frames a picture has behind the first one, as far as they can be counted."""
    try:
        return int(getattr(image, "n_frames", 1)) - 1
    except BROKEN:  # behind a first frame that is sound
        return 1


def _why(error: BaseException, path: str | Path, held: bytes | None) -> str:
    """What is wrong with a picture: a format that is not read, a limit by its name, or what the decoder says."""
    if isinstance(error, UnidentifiedImageError):
        if held is None:
            with Path(path).open("rb") as file:
                held = file.read(HEAD)
        known = by_head(held[:HEAD])
        if known and known.format:
            return f"it is {known.format}, a format that memfix does not read"
        return type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, NothingVisibleError):
        return "it is transparent everywhere, so there is nothing to compare with"
    if isinstance(error, TooManyPixelsError):
        return f"it has more than {MOST_PIXELS:,} pixels ({error})"
    told = str(error).splitlines()[0] if str(error) else ""
    return f"{type(error).__name__} ({told})" if told else type(error).__name__
