"""A decoded picture as training sees it: upright, RGB in 8 bits, on white. Knows nothing of files."""

from __future__ import annotations

import struct

import numpy as np
from PIL import Image, ImageOps

ORIENTATION = 0x0112

# What Pillow raises for files that were cut off, or made to harm: every decoder in it has its own
BROKEN = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, EOFError, MemoryError, RuntimeError,
    struct.error,
)  # fmt: skip


def as_rgb(image: Image.Image) -> Image.Image:
    """RGB, turned as its EXIF says, 16 bits scaled to 8, transparent parts on white."""
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
    """Grey levels of 16 or 32 bits scaled to 8, where Pillow's own conversion clips them to white; others as is."""
    if not image.mode.startswith("I"):
        return image
    levels = np.asarray(image)
    top = int(levels.max(initial=0))
    if image.mode == "I" and top <= 255:  # 8 bits in a wide file
        return image.convert("L")
    scaled = np.clip(levels, 0, None) * (255 / max(top, 65535))
    return Image.fromarray(np.rint(scaled).astype(np.uint8))


def on_white(image: Image.Image) -> Image.Image:
    """RGB, on a white page where it is transparent, in a palette too."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    page = Image.new("RGBA", image.size, "white")
    page.alpha_composite(image.convert("RGBA"))
    return page.convert("RGB")
