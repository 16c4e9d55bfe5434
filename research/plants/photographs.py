"""Photographs that scikit-image ships, cut to one subject each. Nothing is downloaded."""

from functools import cache
from pathlib import Path
from random import Random
from typing import NamedTuple

import skimage.data
from PIL import Image

FOLDER = Path(skimage.data.__file__).parent


class Cut(NamedTuple):
    """A part of a photograph: left, top, right and bottom in shares of its width and height."""

    subject: str
    file: str
    box: tuple[float, float, float, float]


SUBJECTS = [
    Cut("astronaut", "astronaut.png", (0.1, 0.0, 0.8, 0.7)), Cut("helmet", "astronaut.png", (0.5, 0.6, 1.0, 1.0)),
    Cut("shuttle", "astronaut.png", (0.62, 0.0, 1.0, 0.55)), Cut("face", "astronaut.png", (0.25, 0.02, 0.6, 0.37)),
    Cut("cat", "chelsea.png", (0.0, 0.0, 1.0, 1.0)), Cut("whiskers", "chelsea.png", (0.25, 0.4, 0.75, 1.0)),
    Cut("coffee", "coffee.png", (0.1, 0.0, 0.9, 1.0)), Cut("spoon", "coffee.png", (0.4, 0.3, 0.8, 0.9)),
    Cut("cameraman", "camera.png", (0.0, 0.1, 0.8, 0.9)), Cut("tower", "camera.png", (0.55, 0.2, 1.0, 0.6)),
    Cut("motorcycle", "motorcycle_left.png", (0.12, 0.0, 0.95, 1.0)),
    Cut("wheel", "motorcycle_right.png", (0.6, 0.45, 0.95, 1.0)),
    Cut("engine", "motorcycle_left.png", (0.35, 0.4, 0.7, 0.95)),
    Cut("shelf", "motorcycle_left.png", (0.0, 0.0, 0.45, 0.45)),
    Cut("launch", "rocket.jpg", (0.15, 0.0, 0.85, 1.0)), Cut("lights", "rocket.jpg", (0.1, 0.6, 0.6, 1.0)),
    Cut("horse", "horse.png", (0.0, 0.0, 1.0, 1.0)), Cut("mane", "horse.png", (0.55, 0.0, 1.0, 0.6)),
    Cut("retina", "retina.jpg", (0.0, 0.0, 1.0, 1.0)), Cut("nerve", "retina.jpg", (0.0, 0.2, 0.5, 0.7)),
    Cut("crater", "moon.png", (0.5, 0.0, 0.85, 0.35)), Cut("mare", "moon.png", (0.2, 0.3, 1.0, 1.0)),
    Cut("emblem", "logo.png", (0.0, 0.0, 1.0, 1.0)), Cut("scales", "logo.png", (0.4, 0.1, 0.95, 0.65)),
    Cut("wheel of hues", "color.png", (0.0, 0.0, 1.0, 1.0)), Cut("coins", "coins.png", (0.0, 0.0, 0.5, 0.6)),
    Cut("tissue", "ihc.png", (0.0, 0.0, 0.6, 0.6)), Cut("gland", "ihc.png", (0.45, 0.4, 1.0, 1.0)),
    Cut("phantom", "phantom.png", (0.1, 0.0, 0.9, 1.0)), Cut("cell", "cell.png", (0.4, 0.3, 1.0, 0.85)),
    Cut("handwriting", "text.png", (0.1, 0.0, 0.6, 1.0)), Cut("page", "page.png", (0.0, 0.0, 0.6, 1.0)),
    Cut("clock", "clock_motion.png", (0.2, 0.15, 0.8, 0.9)),
    Cut("tank", "motorcycle_right.png", (0.35, 0.2, 0.65, 0.6)), Cut("flag", "astronaut.png", (0.0, 0.0, 0.25, 0.6)),
]  # fmt: skip
TUNING = {"astronaut.png", "motorcycle_left.png", "motorcycle_right.png", "retina.jpg", "ihc.png", "clock_motion.png"}
"""Files for the tuning half; cuts of one photograph may overlap."""
SURFACES = {"grass": "grass.png", "gravel": "gravel.png", "bricks": "brick.png", "stars": "hubble_deep_field.jpg"}


@cache
def opened(file: str) -> Image.Image:
    """A photograph in colours."""
    return Image.open(FOLDER / file).convert("RGB")


def subjects(tuning: bool) -> list[Cut]:
    """Those of one half."""
    return [cut for cut in SUBJECTS if (cut.file in TUNING) is tuning]


def subject(cut: Cut) -> Image.Image:
    """The part of the photograph."""
    image = opened(cut.file)
    left, top, right, bottom = cut.box
    w, h = image.size
    return image.crop((round(left * w), round(top * h), round(right * w), round(bottom * h)))


def surface(rng: Random) -> tuple[str, Image.Image]:
    """A random part of a photograph of a surface, and its name."""
    name = rng.choice(sorted(SURFACES))
    image = opened(SURFACES[name])
    side = rng.randint(120, 320)
    x, y = rng.randint(0, image.width - side), rng.randint(0, image.height - side)
    return name, image.crop((x, y, x + side, y + side))
