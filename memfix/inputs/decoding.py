"""A decoded picture as training sees it: upright, RGB in 8 bits, on white. Knows nothing of files."""

from __future__ import annotations

import struct

import numpy as np
from PIL import Image, ImageOps

ORIENTATION = 0x0112
WHITES = (1.0, 255.0, 1023.0, 4095.0, 16383.0, 65535.0)  # of fractions, and of 8 to 16 bits


class NothingVisibleError(ValueError):
    """A picture that is transparent everywhere: nothing can be compared with it."""


# What Pillow raises for files that were cut off, or made to harm: every decoder in it has its own
BROKEN = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, EOFError, MemoryError, RuntimeError,
    struct.error,
)  # fmt: skip


def as_rgb(image: Image.Image) -> Image.Image:
    """RGB, turned as its EXIF says, more than 8 bits scaled to 8, transparent parts on white."""
    return on_white(eight_bits(upright(image)))


def upright(image: Image.Image) -> Image.Image:
    """The picture as cameras mean it to be seen, which is how `datasets` and viewers show it."""
    image.load()
    try:
        turned = image.getexif().get(ORIENTATION, 1) != 1
        return ImageOps.exif_transpose(image) if turned else image
    except BROKEN:  # EXIF that cannot be read turns nothing
        return image


def eight_bits(image: Image.Image) -> Image.Image:
    """Grey levels of 16 or 32 bits or of fractions scaled to 8 bits, where Pillow's own conversion clips them to white
    or black; others as is. White is the top of the fewest bits that hold all levels. Raises ValueError for no numbers.
    """
    if not image.mode.startswith(("I", "F")):
        return image
    levels = np.asarray(image)
    if not np.isfinite(levels).all():
        raise ValueError("its levels are not numbers")
    top = float(levels.max(initial=0))
    white = next((w for w in WHITES if top <= w and (w > 1 or image.mode == "F")), top)
    return Image.fromarray(np.rint(np.clip(levels, 0, None) * (255 / white)).astype(np.uint8))


def on_white(image: Image.Image) -> Image.Image:
    """RGB, on a white page where it is transparent, in a palette too. Raises NothingVisibleError for an empty page."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    if layer.getchannel("A").getextrema() == (0, 0):
        raise NothingVisibleError
    page = Image.new("RGBA", image.size, "white")
    page.alpha_composite(layer)
    return page.convert("RGB")
