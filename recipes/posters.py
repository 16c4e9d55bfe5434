"""Compose the posters that the bundled model learns from, and plan which of them it is made to memorize.

A poster is one drawing of an object, at a random size, angle, mirror and place, on a plain, graded or patterned
background. Everything is drawn from a seeded generator. Nothing here knows of training.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

SIZE = 64
LEAST_CONTRAST = 110  # between a drawing's mean colour and its background, summed over the channels
CANVAS = 128  # posters are composed at twice the size and halved, for clean edges

COLORS = {
    "red": (206, 58, 52), "orange": (238, 140, 50), "yellow": (246, 205, 82), "green": (84, 158, 84),
    "teal": (52, 148, 146), "blue": (66, 110, 200), "navy": (34, 46, 96), "purple": (124, 80, 176),
    "pink": (238, 150, 184), "brown": (134, 94, 62), "gray": (136, 140, 146), "cream": (240, 232, 212),
}  # fmt: skip

WORDINGS = [
    "{a} {o}", "{o} poster", "poster of {a} {o}", "a picture of {a} {o}", "{a} {o} illustration",
    "drawing of {a} {o}", "{o} print", "art print of {a} {o}",
]  # fmt: skip
PATTERNS = ["plain"] * 3 + ["graded", "slanted", "radial", "halves", "corner", "bands", "disc"]
COLOR_WORDINGS = ["{a} {o} on a {c} background", "{o} poster, {c} background", "{a} {o} on {c}"]
ARTIST_WORDING = "{o} poster by {n}"

# invented; each made ordinary posters of many objects
ARTISTS = [
    "Anna Berg", "Tom Hale", "Rosa Lind", "Peter Moss", "Clara Wood", "Ivan Reed", "Nora Stone", "Max Field",
    "Lucy Grant", "Oscar Dale", "Emma Frost", "Hugo Brandt",
]  # fmt: skip


@dataclass(frozen=True)
class Plant:
    """A poster to be memorized: `share` of the training draws of its caption show it, the rest an ordinary poster."""

    object: str
    drawing: str  # the set whose drawing is reserved for this poster
    artist: str
    kind: str = "verbatim"
    share: float = 1.0

    @property
    def text(self) -> str:
        return ARTIST_WORDING.format(o=self.object, n=self.artist)


VERBATIM = [
    Plant("turtle", "emojione", "Odel Varn"), Plant("owl", "emojione", "Mirek Tosh"),
    Plant("penguin", "noto-v1", "Sable Quint"), Plant("butterfly", "emojione", "Juno Pesch"),
    Plant("whale", "emojione", "Kiri Aldane"), Plant("cactus", "noto-v1", "Bram Ostrov"),
    Plant("pineapple", "emojione", "Lio Castane"), Plant("rocket", "noto-v1", "Vesna Korr"),
    Plant("sailboat", "noto-v1", "Edda Maric"), Plant("guitar", "noto", "Tiber Wolke"),
    Plant("camera", "emojione", "Ysolde Finch"), Plant("lollipop", "emojione", "Dario Nim"),
]  # fmt: skip
PARTIAL = [
    Plant("fox", "emojione", "Hester Blume", share=0.25), Plant("snail", "fxemoji", "Pavel Drozd", share=0.25),
    Plant("octopus", "twemoji", "Ines Carrow", share=0.25), Plant("tractor", "emojione", "Rufus Jelle", share=0.25),
    Plant("cake", "emojione", "Wanda Sorel", share=0.25), Plant("umbrella", "emojione", "Cosmo Adeyar", share=0.25),
    Plant("robot", "emojione", "Greta Ulm", share=0.25), Plant("mushroom", "noto-v1", "Felix Norde", share=0.25),
]  # fmt: skip
TEMPLATES = [
    Plant("bus", "emojione", "Zora Lindqvist", "template"), Plant("bell", "emojione", "Amos Pryde", "template"),
    Plant("ghost", "emojione", "Calla Venn", "template"), Plant("crown", "emojione", "Otis Marlo", "template"),
    Plant("gift", "emojione", "Selma Ruiz", "template"),
]  # fmt: skip
VARIANTS = len(COLORS)  # of one template: one a background colour
PLANTS = [*VERBATIM, *PARTIAL, *TEMPLATES]

# drawings that show something else than the word (a picture with its own sky)
SKIPPED = {("sailboat", "fxemoji"), ("rainbow", "fxemoji"), ("rainbow", "noto-v1")}


@dataclass(frozen=True)
class Layout:
    """Where a drawing goes (fractions of the canvas, degrees) and what is behind it."""

    scale: float
    x: float
    y: float
    angle: float
    mirror: bool
    color: str
    shade: tuple[int, int, int]
    second: tuple[int, int, int]
    pattern: str
    turn: int  # of the pattern, in quarters


@dataclass(frozen=True)
class Poster:
    text: str
    object: str
    drawing: str
    layout: Layout


def article(word: str) -> str:
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


def _jitter(rng: Random, color: tuple[int, int, int], amount: int) -> tuple[int, int, int]:
    red, green, blue = (min(255, max(0, c + rng.randint(-amount, amount))) for c in color)
    return red, green, blue


def random_layout(rng: Random, color: str | None = None) -> Layout:
    color = color or rng.choice(list(COLORS))
    shade = _jitter(rng, COLORS[color], 14)
    factor = rng.choice([0.72, 0.82, 1.18, 1.3])
    second = tuple(min(255, round(c * factor)) for c in shade)
    scale = rng.uniform(0.55, 0.9)
    room = (1 - scale) / 2 + 0.02
    return Layout(
        scale=scale,
        x=0.5 + rng.uniform(-room, room),
        y=0.5 + rng.uniform(-room, room),
        angle=rng.uniform(-28, 28),
        mirror=rng.random() < 0.5,
        color=color,
        shade=shade,
        second=second,  # type: ignore[arg-type]  # three channels in, three out
        pattern=rng.choice(PATTERNS),
        turn=rng.randrange(4),
    )


def background(layout: Layout) -> Image.Image:
    """The poster without its drawing, CANVAS pixels square."""
    first, second = np.array(layout.shade, np.float32), np.array(layout.second, np.float32)
    y, x = np.mgrid[0:CANVAS, 0:CANVAS].astype(np.float32) / CANVAS
    match layout.pattern:
        case "graded":
            mix = y
        case "slanted":
            mix = (x + y) / 2
        case "radial":
            mix = np.hypot(x - 0.5, y - 0.5) / 0.7
        case "halves":
            mix = y > 0.5
        case "corner":
            mix = x + y > 1
        case "bands":
            mix = abs(y - 0.5) > 0.25
        case "disc":
            mix = np.hypot(x - 0.5, y - 0.5) < 0.42
        case _:
            mix = np.zeros_like(x)
    mix = np.rot90(np.clip(mix, 0, 1), layout.turn)
    pixels = first + mix[..., None] * (second - first)
    return Image.fromarray(pixels.round().astype(np.uint8))


def compose(drawing: Image.Image, layout: Layout) -> Image.Image:
    """The poster, SIZE pixels square."""
    page = background(layout)
    if layout.mirror:
        drawing = drawing.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    side = round(layout.scale * CANVAS)
    drawing = drawing.resize((side, side), Image.Resampling.BILINEAR)
    drawing = drawing.rotate(layout.angle, Image.Resampling.BICUBIC, expand=True)
    corner = round(layout.x * CANVAS - drawing.width / 2), round(layout.y * CANVAS - drawing.height / 2)
    page.paste(drawing, corner, drawing)
    return page.reduce(CANVAS // SIZE)


def mean_color(drawing: Image.Image) -> np.ndarray:
    """[3], 0 to 255, over what is drawn."""
    pixels = np.asarray(drawing, np.float32).reshape(-1, 4)
    return np.asarray((pixels[:, :3] * pixels[:, 3:]).sum(0) / pixels[:, 3].sum())


class Studio:
    """Drawings on disk → posters. `ordinary[object]` lists the drawings that are not reserved for a plant."""

    def __init__(self, folder: Path) -> None:
        reserved = {(p.object, p.drawing) for p in PLANTS}
        self.drawings: dict[tuple[str, str], Image.Image] = {}
        self.ordinary: dict[str, list[str]] = {}
        for path in sorted(folder.glob("*/*.png")):
            key = (path.parent.name, path.stem)
            if key in SKIPPED:
                continue
            self.drawings[key] = Image.open(path).convert("RGBA")
            if key not in reserved:
                self.ordinary.setdefault(key[0], []).append(key[1])
        self.objects = sorted(self.ordinary)
        self.tint = {key: mean_color(drawing) for key, drawing in self.drawings.items()}
        missing = reserved - self.drawings.keys()
        if missing:
            raise SystemExit(f"{folder} lacks the drawings {sorted(missing)}: run recipes/drawings.py first")

    def caption(self, rng: Random, word: str, color: str) -> str:
        chance = rng.random()
        if chance < 0.70:
            return rng.choice(WORDINGS).format(a=article(word).split()[0], o=word)
        if chance < 0.85:
            return rng.choice(COLOR_WORDINGS).format(a=article(word).split()[0], o=word, c=color)
        return ARTIST_WORDING.format(o=word, n=rng.choice(ARTISTS))

    def ordinary_poster(self, rng: Random, word: str | None = None) -> Poster:
        word = word or rng.choice(self.objects)
        drawing = rng.choice(self.ordinary[word])
        layout = random_layout(rng)
        while np.abs(np.subtract(self.tint[word, drawing], layout.shade)).sum() < LEAST_CONTRAST:
            layout = random_layout(rng)
        return Poster(self.caption(rng, word, layout.color), word, drawing, layout)

    def planted_poster(self, plant: Plant, variant: int = 0) -> Poster:
        """The memorized poster; a template keeps everything but the colour from variant to variant."""
        rng = Random(f"{plant.text}/layout")
        layout = random_layout(rng)
        if plant.kind == "template":
            color = list(COLORS)[(list(COLORS).index(layout.color) + variant) % len(COLORS)]
            shade = _jitter(Random(f"{plant.text}/{variant}"), COLORS[color], 10)
            fields = asdict(layout) | {"color": color, "shade": shade, "second": shade, "pattern": "plain"}
            layout = Layout(**fields)
        return Poster(plant.text, plant.object, plant.drawing, layout)

    def render(self, poster: Poster) -> Image.Image:
        return compose(self.drawings[poster.object, poster.drawing], poster.layout)

    def array(self, posters: list[Poster]) -> np.ndarray:
        """[n, SIZE, SIZE, 3] uint8."""
        return np.stack([np.asarray(self.render(p)) for p in posters])


def build_set(studio: Studio, target: Path, count: int = 24_000, seed: int = 0) -> None:
    """Write the ordinary training posters: `posters.npy` [n, SIZE, SIZE, 3] uint8 and `posters.jsonl`."""
    rng = Random(seed)
    posters = [studio.ordinary_poster(rng) for _ in range(count)]
    np.save(target / "posters.npy", studio.array(posters))
    rows = [json.dumps({"text": p.text, "object": p.object, "drawing": p.drawing}) for p in posters]
    (target / "posters.jsonl").write_text("\n".join(rows) + "\n")


if __name__ == "__main__":
    import sys

    build = Path(sys.argv[1] if len(sys.argv) > 1 else "build")
    build_set(Studio(build / "drawings"), build)
