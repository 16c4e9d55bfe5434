"""Pictures that are painted by code: patterns, text posters and faces, each from a seeded generator."""

import math
from functools import cache
from random import Random

import numpy as np
from PIL import Image, ImageDraw, ImageFont

CANVAS = 192
COLORS = [
    (206, 58, 52), (238, 140, 50), (246, 205, 82), (84, 158, 84), (52, 148, 146), (66, 110, 200), (34, 46, 96),
    (124, 80, 176), (238, 150, 184), (134, 94, 62), (136, 140, 146), (240, 232, 212), (20, 20, 24), (250, 250, 250),
]  # fmt: skip
PATTERNS = ["stripes", "checks", "rings", "waves", "dots", "rays", "weave", "mosaic"]
WORDS = [
    "SALE", "OPEN", "EXIT", "JAZZ", "TAXI", "CAFE", "STOP", "MENU", "RENT", "FIRE", "LOVE", "PARK", "MILK", "SOUP",
    "RADIO", "BOOKS", "HOTEL", "BREAD", "PIZZA", "CLUB", "DANCE", "FILM", "NEWS", "TEA",
]  # fmt: skip
FACES = ["woman", "man", "girl", "boy", "clown", "pirate", "sailor", "grandmother"]


@cache
def font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own."""
    return ImageFont.load_default(size)


def two_colors(rng: Random) -> list[tuple[int, int, int]]:
    """Two that are far from each other in brightness."""
    while True:
        pair = rng.sample(COLORS, 2)
        if abs(sum(pair[0]) - sum(pair[1])) > 180:
            return pair


def pattern(name: str, rng: Random) -> Image.Image:
    """A picture that one rule fills, in two or three colours, its origin and turn at random."""
    y, x = (np.mgrid[0:CANVAS, 0:CANVAS] / CANVAS - 0.5).astype(np.float32)
    turn, cx, cy = rng.uniform(0, math.pi), rng.uniform(-0.4, 0.4), rng.uniform(-0.4, 0.4)
    u, v = x * math.cos(turn) + y * math.sin(turn) + cx, y * math.cos(turn) - x * math.sin(turn) + cy
    n = rng.uniform(2, 5)
    radius, angle = np.hypot(u, v), np.arctan2(v, u)
    match name:
        case "stripes":
            level = np.sin(2 * math.pi * n * u + 0.8 * np.sin(2 * math.pi * v))
        case "checks":
            level = np.sin(math.pi * n * u) * np.sin(math.pi * n * v)
        case "rings":
            level = np.sin(2 * math.pi * n * radius)
        case "waves":
            level = v + 0.2 * np.sin(2 * math.pi * n * u)
        case "dots":
            level = 0.32 - np.hypot((n * u) % 1 - 0.5, (n * v) % 1 - 0.5)
        case "rays":
            level = np.sin(round(2 * n) * angle)
        case "weave":
            across, down = np.sin(2 * n * math.pi * u), np.sin(2 * n * math.pi * v)
            level = np.where(np.sin(math.pi * n * (u + v)) > 0, across, down)
        case _:
            side = rng.randint(3, 5)
            cells = np.array([[rng.uniform(-1, 1) for _ in range(side)] for _ in range(side)])
            level = np.kron(cells, np.ones((-(-CANVAS // side),) * 2))[:CANVAS, :CANVAS]
    first, second = np.array(two_colors(rng), np.float32)
    pixels = np.where(level[..., None] > 0, first, second)
    if rng.random() < 0.5:
        third = np.array(rng.choice(COLORS), np.float32)
        pixels = np.where((radius < rng.uniform(0.2, 0.35))[..., None], third, pixels)
    return Image.fromarray(pixels.astype(np.uint8))


def text_poster(word: str, rng: Random) -> Image.Image:
    """A word as large as the page lets it, some smaller lines, a frame or a bar."""
    paper, ink = two_colors(rng)
    page = Image.new("RGB", (CANVAS, CANVAS), paper)
    draw = ImageDraw.Draw(page)
    accent = rng.choice(COLORS)
    top = rng.uniform(0.1, 0.55) * CANVAS
    match rng.choice(["frame", "bar", "disc"]):
        case "frame":
            draw.rectangle((6, 6, CANVAS - 7, CANVAS - 7), outline=accent, width=10)
        case "bar":
            draw.rectangle((0, top - 12, CANVAS, top + 66), fill=accent)
        case _:
            draw.ellipse((rng.uniform(0, 90), rng.uniform(0, 90), 180, 180), fill=accent)
    size = 20
    while draw.textlength(word, font(size + 2)) < 0.86 * CANVAS:
        size += 2
    draw.text((CANVAS / 2, top), word, ink, font(size), anchor="mt")
    for i in range(rng.randint(1, 2)):
        line = f"{rng.randint(1, 31)}.{rng.randint(1, 12)}."
        draw.text((CANVAS / 2, (top + 90 + 36 * i) % CANVAS), line, ink, font(36), anchor="mt")
    return page.rotate(rng.uniform(-12, 12), Image.Resampling.BICUBIC, fillcolor=paper)


def face(name: str, rng: Random) -> Image.Image:
    """A drawn head with hair, eyes, brows, a mouth, perhaps glasses, a beard or a hat."""
    back, shirt = two_colors(rng)
    page = Image.new("RGB", (CANVAS, CANVAS), back)
    draw = ImageDraw.Draw(page)
    skin = rng.choice([(255, 224, 189), (234, 192, 134), (198, 134, 66), (141, 85, 36), (92, 58, 34)])
    hair = rng.choice([(40, 26, 18), (110, 62, 30), (214, 170, 86), (160, 50, 30), (190, 190, 190), (16, 16, 20)])
    x, y = CANVAS / 2 + rng.uniform(-22, 22), CANVAS / 2 + rng.uniform(-12, 12)
    w, h = rng.uniform(38, 54), rng.uniform(50, 64)

    def ellipse(cx: float, cy: float, rx: float, ry: float, fill: tuple[int, int, int]) -> None:
        draw.ellipse((cx - rx, cy - ry, cx + rx, cy + ry), fill=fill)

    if rng.random() < 0.5:
        ellipse(x, y + 10, w + 16, h + 16, hair)
    ellipse(x, y + h + 58, 1.7 * w, 62, shirt)
    draw.rectangle((x - 14, y + h - 14, x + 14, y + h + 14), fill=skin)
    ellipse(x, y - 8, w + 5, h + 4, hair)
    ellipse(x, y + 6, w, h - 4, skin)
    apart, eyes = rng.uniform(16, 24), y + rng.uniform(-12, 2)
    for side in (-1, 1):
        ellipse(x + side * apart, eyes, 9, 7, (255, 255, 255))
        ellipse(x + side * apart + rng.uniform(-2, 2), eyes, 5, 6, rng.choice([(40, 90, 160), (50, 34, 20)]))
        lift = rng.uniform(-5, 5)
        draw.line((x + side * (apart - 10), eyes - 15 + lift, x + side * (apart + 10), eyes - 15 - lift), hair, 5)
    draw.line([(x, eyes + 6), (x + rng.choice([-9, 9]), eyes + 26), (x, eyes + 27)], (90, 50, 40), 4)
    mouth = y + h - rng.uniform(26, 32)
    if rng.random() < 0.35:
        ellipse(x, mouth + 8, 0.7 * w, 24, hair)
    draw.chord((x - 20, mouth - 14, x + 20, mouth + 12), 10, 170, fill=(170, 40, 50))
    if rng.random() < 0.4:
        for side in (-1, 1):
            cx = x + side * apart
            draw.ellipse((cx - 16, eyes - 14, cx + 16, eyes + 14), outline=(20, 20, 24), width=5)
        draw.line((x - apart + 15, eyes, x + apart - 15, eyes), (20, 20, 24), 5)
    if rng.random() < 0.4:
        hat = rng.choice(COLORS)
        draw.rectangle((x - w - 14, y - h + 14, x + w + 14, y - h + 26), fill=hat)
        draw.rectangle((x - 0.7 * w, y - h - 30, x + 0.7 * w, y - h + 20), fill=hat)
    return page
