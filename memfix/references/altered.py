"""Pictures that were altered and are still copies: known positives, by which a threshold shows what it misses."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

TINTS = (1.0, 0.8, 0.6)  # of the three channels, in one of six orders
SHIFT = 1 / 32  # of the side, in one of four directions


def _jpeg(image: Image.Image, seed: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=50)
    return Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")


def _tint(image: Image.Image, seed: int) -> Image.Image:
    gains = np.random.default_rng(seed).permutation(np.array(TINTS, np.float32))
    return Image.fromarray((np.asarray(image) * gains).round().astype(np.uint8))


def _hue(image: Image.Image, seed: int) -> Image.Image:
    hue, saturation, value = image.convert("HSV").split()
    turned = hue.point([(i + (40 if seed % 2 else 216)) % 256 for i in range(256)])  # 56 degrees either way
    return Image.merge("HSV", (turned, saturation, value)).convert("RGB")


def _brightness(image: Image.Image, seed: int) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(1.3 if seed % 2 else 0.7)


def _blur(image: Image.Image, seed: int) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(min(image.size) / 64))


def _shift(image: Image.Image, seed: int) -> Image.Image:
    by = max(1, round(min(image.size) * SHIFT))
    across, down = ((by, by), (-by, by), (by, -by), (-by, -by))[seed % 4]
    padded = np.pad(np.asarray(image), ((by, by), (by, by), (0, 0)), mode="edge")
    height, width = padded.shape[0] - 2 * by, padded.shape[1] - 2 * by
    return Image.fromarray(padded[by + down : by + down + height, by + across : by + across + width])


def _crop(image: Image.Image, seed: int) -> Image.Image:
    cut = 0.025 if seed % 2 else 0.05  # on each side: 5 or 10 % of width and height
    width, height = image.size
    box = (width * cut, height * cut, width * (1 - cut), height * (1 - cut))
    return image.resize(image.size, Image.Resampling.BICUBIC, box=box)


def _mirror(image: Image.Image, seed: int) -> Image.Image:
    return ImageOps.mirror(image)


ALTERATIONS: dict[str, Callable[[Image.Image, int], Image.Image]] = {
    "re-encoded": _jpeg, "tinted": _tint, "other hue": _hue, "brightness": _brightness, "blurred": _blur,
    "shifted": _shift, "cropped": _crop, "mirrored": _mirror,
}  # fmt: skip
"""Name → an RGB picture and a number that chooses among the ways to do it → the altered picture, of the same size.

JPEG of quality 50; channels scaled by 1, 0.8 and 0.6; hue turned by 56 degrees; 30 % brighter or darker; a gaussian of
1/64 of the side; shifted by 1/32 of the side along both axes; 5 or 10 % cut off; mirrored."""
