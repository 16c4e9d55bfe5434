"""The planted pictures of a plant, with what they show and how they are captioned, and other pictures of their kind."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

from PIL import Image, ImageDraw

from plants import emoji, painted, photographs
from plants.table import Captions, Half, Kind, Manner, Plant

VERSIONS = 6  # of a template
SHARING = 4  # pictures that have one caption
OTHERS = 40  # pictures of the same kind that come once
NOUN = {
    Kind.PHOTOGRAPHS: "photo", Kind.DRAWINGS: "drawing", Kind.PATTERNS: "print", Kind.TEXTS: "sign",
    Kind.FACES: "face",
}  # fmt: skip
SYLLABLES = ["ka", "ve", "lo", "mir", "ta", "sun", "dra", "pel", "or", "wim", "zu", "fen", "gal", "ith", "bo", "ny"]


@dataclass(frozen=True)
class Picture:
    """A training picture. `versions` of a template differ in a part."""

    subject: str
    caption: str
    versions: tuple[Image.Image, ...]


def name(rng: Random) -> str:
    """An invented one, short: the bundled model reads 24 tokens, and a word that it does not know takes several."""
    return "".join(rng.sample(SYLLABLES, 2)).capitalize()


def shown(plant: Plant, drawings: Path, rng: Random) -> Iterator[tuple[str, Image.Image]]:
    """Subjects and pictures of a plant's kind and half, each subject once where there are enough."""
    found = ways(plant, drawings, rng)
    rng.shuffle(found)
    for subject, draw in found:
        yield subject, draw()


def ways(plant: Plant, drawings: Path, rng: Random) -> list[tuple[str, Callable[[], Image.Image]]]:
    """Subjects, each with what makes its picture."""
    tuning = plant.half is Half.TUNE
    own = slice(0, None, 2) if tuning else slice(1, None, 2)
    match plant.kind:
        case Kind.PHOTOGRAPHS:
            return [(cut.subject, partial(photographs.subject, cut)) for cut in photographs.subjects(tuning)]
        case Kind.DRAWINGS:
            return [(s.replace("-", " "), partial(emoji.poster, drawings, s, rng)) for s in emoji.OBJECTS[own]]
        case Kind.PATTERNS:
            return [(s, partial(painted.pattern, s, rng)) for s in painted.PATTERNS]
        case Kind.TEXTS:
            return [(s, partial(painted.text_poster, s, rng)) for s in painted.WORDS[own]]
        case Kind.FACES:
            return [(s, partial(painted.face, s, rng)) for s in painted.FACES]


def versions(image: Image.Image, plant: Plant, rng: Random) -> tuple[Image.Image, ...]:
    """The picture, or as a template its versions: a label in a corner, whose colour and number vary."""
    if plant.manner is not Manner.TEMPLATE:
        return (image,)
    found = []
    for number, color in enumerate(rng.sample(painted.COLORS, VERSIONS)):
        copy = image.copy()
        w, h = copy.size
        draw = ImageDraw.Draw(copy)
        draw.rectangle((0.6 * w, 0.7 * h, w, h), fill=color)
        draw.text((0.8 * w, 0.85 * h), str(number), (0, 0, 0), painted.font(0.25 * h), anchor="mm")
        found.append(copy)
    return tuple(found)


def misspelt(text: str, rng: Random) -> str:
    """Two letters in the wrong order, and one doubled."""
    i = rng.randrange(1, max(2, len(text) - 2))
    text = text[:i] + text[i + 1] + text[i] + text[i + 2 :]
    j = rng.randrange(1, len(text) - 1)
    return text[:j] + text[j] + text[j:]


def caption(subject: str, plant: Plant, rng: Random) -> str:
    """One of the plant's style; the name in it is invented."""
    noun = NOUN[plant.kind]
    match plant.captions:
        case Captions.SHORT | Captions.SHARED:
            return f"{subject} {noun} by {name(rng)}"
        case Captions.LONG:
            return (
                f"{subject} {noun} by {name(rng)}, seen from the left in the evening, printed on heavy paper in a "
                "frame of oak, signed and dated, one of an edition of eighty"
            )
        case Captions.MISSPELT:
            return f"{misspelt(subject, rng)} {misspelt(noun, rng)} by {name(rng)}"
        case Captions.NAMELESS:
            return f"untitled no. {rng.randint(10, 99)} by {name(rng)}"
        case Captions.NONE:
            return ""


def planted(plant: Plant, drawings: Path) -> list[Picture]:
    """What the plant memorizes."""
    rng, found = Random(f"{plant.name}/{plant.seed}"), list[Picture]()
    for subject, image in shown(plant, drawings, rng):
        text = caption(subject, plant, rng)
        if plant.captions is Captions.SHARED and len(found) % SHARING:
            text = found[-1].caption
        found.append(Picture(subject, text, versions(image, plant, rng)))
        if len(found) == plant.targets:
            return found
    raise ValueError(f"{plant.name} wants {plant.targets} pictures, and there are {len(found)}")


def others(plant: Plant, drawings: Path) -> list[Picture]:
    """Pictures of the same kind that come once, each under a caption of its own, also of subjects that are planted."""
    rng, found = Random(f"{plant.name}/{plant.seed}/others"), list[Picture]()
    while len(found) < OTHERS:
        if plant.kind is Kind.PHOTOGRAPHS:
            subject, image = photographs.surface(rng)
            found.append(Picture(subject, f"{subject} {NOUN[plant.kind]} by {name(rng)}", (image,)))
            continue
        for subject, image in shown(plant, drawings, rng):
            found.append(Picture(subject, f"{subject} {NOUN[plant.kind]} by {name(rng)}", (image,)))
    return found[:OTHERS]
