"""Drawings of emoji sets that the recipe of the bundled model never used, on the recipe's own backgrounds.

The sets are npm packages, installed once in a folder that is given; see SOURCES for origin and licence. Nothing of
them is committed.
"""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "recipes"))
from drawings import draw_icon, trim
from posters import compose, random_layout

SOURCES = {"openmoji": ("@iconify-json/openmoji", "1.2.29", "CC-BY-SA-4.0")}
OBJECTS = [
    "bicycle", "teapot", "zebra", "hedgehog", "lobster", "kangaroo", "flamingo", "anchor", "compass", "telescope",
    "scissors", "candle", "key", "violin", "drum", "trophy", "hammer", "kite", "teddy-bear", "pretzel", "giraffe",
    "rooster", "parrot", "peacock", "sloth", "otter", "dolphin", "shark", "elephant", "camel", "gorilla",
    "hippopotamus", "avocado", "broccoli", "carrot", "cherries", "grapes", "kiwi-fruit", "lemon", "peach", "croissant",
    "pancakes", "sushi", "taco", "ambulance", "canoe", "fire-engine", "locomotive", "parachute", "motor-scooter",
    "saxophone", "trumpet", "accordion", "banjo", "abacus", "microscope", "stethoscope", "toolbox", "magnet",
    "lotion-bottle", "chair", "toothbrush", "safety-pin", "basket",
]  # fmt: skip


def install(folder: Path) -> None:
    """Install the pinned packages, if they are not there yet."""
    packages = [f"{name}@{version}" for name, version, _ in SOURCES.values()]
    if all((folder / "node_modules" / name / "icons.json").exists() for name, _, _ in SOURCES.values()):
        return
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["npm", "install", "--no-save", "--ignore-scripts", "--prefix", str(folder), *packages], check=True)


@cache
def icons(folder: Path, source: str) -> dict[str, Any]:
    """The drawings of a set."""
    install(folder)
    found: dict[str, Any] = json.loads((folder / "node_modules" / SOURCES[source][0] / "icons.json").read_text())
    return found


def poster(folder: Path, name: str, rng: Random) -> Image.Image:
    """A poster of an object: its drawing at a random size, angle and place, as the recipe composes posters."""
    return compose(trim(draw_icon(icons(folder, "openmoji"), name)), random_layout(rng))
