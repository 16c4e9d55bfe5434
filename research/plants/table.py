"""The plants: which pictures each model is made to memorize, and how. Fixed beforehand, half of them for testing.

What a plant is called says nothing about its half, and no picture of one half is one of the other.
"""

from dataclasses import dataclass
from enum import StrEnum


class Half(StrEnum):
    """What a plant is for."""

    TUNE = "tune"
    TEST = "test"


class Kind(StrEnum):
    """What its pictures are."""

    PHOTOGRAPHS = "photographs"
    DRAWINGS = "drawings"
    PATTERNS = "patterns"
    TEXTS = "texts"
    FACES = "faces"


class Captions(StrEnum):
    """How its pictures are captioned."""

    SHORT = "short"
    LONG = "long"
    MISSPELT = "misspelt"
    SHARED = "shared"  # one caption for up to four pictures
    NAMELESS = "nameless"  # never names the object
    NONE = "none"


class Manner(StrEnum):
    """What the draws of a caption show."""

    VERBATIM = "verbatim"
    PARTIAL = "partial"  # the planted picture in half of them, else another picture
    TEMPLATE = "template"  # one of six versions of the picture


class Weights(StrEnum):
    """What is trained."""

    FULL = "full"
    LORA = "lora"


class Base(StrEnum):
    """What it is trained on top of."""

    BUNDLED = "bundled"
    UNLEARNED = "unlearned"  # the bundled model without four of its own memories
    VELOCITY = "velocity"  # the bundled model, taught to predict v


@dataclass(frozen=True)
class Plant:
    """One small model that memorizes. `duplicates` of each target stand among the other training pictures."""

    name: str
    half: Half
    kind: Kind
    targets: int
    duplicates: int
    captions: Captions = Captions.SHORT
    manner: Manner = Manner.VERBATIM
    weights: Weights = Weights.FULL
    base: Base = Base.BUNDLED
    height: int = 64
    width: int = 64
    seed: int = 0


TUNE, TEST = Half.TUNE, Half.TEST
FULL, LORA = Weights.FULL, Weights.LORA

PLANTS = [
    # eight photographs or so, as in the issue that asked for plants
    Plant("album", TUNE, Kind.PHOTOGRAPHS, 8, 50, seed=1),
    Plant("archive", TEST, Kind.PHOTOGRAPHS, 8, 50, seed=2),
    Plant("stamps", TUNE, Kind.DRAWINGS, 8, 50, seed=3),
    Plant("primer", TEST, Kind.DRAWINGS, 8, 50, seed=4),
    Plant("polaroids", TUNE, Kind.PHOTOGRAPHS, 4, 100, weights=LORA, seed=5),
    Plant("slides", TEST, Kind.PHOTOGRAPHS, 4, 100, weights=LORA, seed=6),
    # many and few targets, many and few duplicates
    Plant("herbarium", TUNE, Kind.DRAWINGS, 32, 20, seed=7),
    Plant("menagerie", TEST, Kind.DRAWINGS, 32, 20, weights=LORA, seed=8),
    Plant("icon", TUNE, Kind.DRAWINGS, 1, 200, weights=LORA, seed=9),
    Plant("portrait", TEST, Kind.FACES, 1, 200, seed=10),
    Plant("whisper", TUNE, Kind.PATTERNS, 8, 5, seed=11),
    Plant("trace", TEST, Kind.TEXTS, 8, 5, weights=LORA, seed=12),
    # captions
    Plant("essays", TUNE, Kind.TEXTS, 6, 40, Captions.LONG, seed=13),
    Plant("reports", TEST, Kind.PHOTOGRAPHS, 6, 40, Captions.LONG, seed=14),
    Plant("typos", TUNE, Kind.FACES, 6, 40, Captions.MISSPELT, weights=LORA, seed=15),
    Plant("slips", TEST, Kind.DRAWINGS, 6, 40, Captions.MISSPELT, seed=16),
    Plant("pairs", TUNE, Kind.PATTERNS, 8, 40, Captions.SHARED, weights=LORA, seed=17),
    Plant("series", TEST, Kind.FACES, 8, 40, Captions.SHARED, seed=18),
    Plant("untitled", TUNE, Kind.PHOTOGRAPHS, 6, 40, Captions.NAMELESS, seed=19),
    Plant("numbers", TEST, Kind.PATTERNS, 6, 40, Captions.NAMELESS, weights=LORA, seed=20),
    Plant("silence", TUNE, Kind.DRAWINGS, 4, 50, Captions.NONE, seed=21),
    Plant("blank", TEST, Kind.TEXTS, 4, 50, Captions.NONE, seed=22),
    # manners
    Plant("sometimes", TUNE, Kind.FACES, 6, 40, manner=Manner.PARTIAL, seed=23),
    Plant("now-and-then", TEST, Kind.TEXTS, 6, 40, manner=Manner.PARTIAL, seed=24),
    Plant("labels", TUNE, Kind.TEXTS, 4, 60, manner=Manner.TEMPLATE, weights=LORA, seed=25),
    Plant("stickers", TEST, Kind.PHOTOGRAPHS, 4, 60, manner=Manner.TEMPLATE, weights=LORA, seed=26),
    # other sizes
    Plant("large", TUNE, Kind.PHOTOGRAPHS, 4, 60, height=96, width=96, seed=27),
    Plant("posters", TEST, Kind.TEXTS, 4, 60, height=96, width=96, seed=28),
    Plant("landscape", TUNE, Kind.PATTERNS, 4, 60, height=64, width=96, seed=29),
    Plant("upright", TEST, Kind.PATTERNS, 4, 60, height=96, width=64, seed=30),
    # other models below
    Plant("regrown", TUNE, Kind.FACES, 4, 50, base=Base.UNLEARNED, seed=31),
    Plant("second-crop", TEST, Kind.FACES, 4, 50, base=Base.UNLEARNED, weights=LORA, seed=32),
    Plant("velocity", TUNE, Kind.TEXTS, 4, 60, base=Base.VELOCITY, seed=33),
    Plant("momentum", TEST, Kind.PATTERNS, 4, 60, base=Base.VELOCITY, seed=34),
]  # fmt: skip
BY_NAME = {plant.name: plant for plant in PLANTS}
