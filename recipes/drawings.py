"""Collect the drawings that the bundled model learns from: one object, drawn by up to seven emoji artists.

The drawings come from npm packages (see SOURCES for origin and licence). Objects are matched by Unicode code
point where a set publishes one, by name elsewhere. Writes `DIR/<object>/<set>.png`, 160x160, transparent, cropped
to the drawing, and `DIR/sheet.png`, the contact sheet to look at before anything is trained.
"""

import io
import json
import subprocess
from pathlib import Path
from typing import Any

from PIL import Image

SIZE = 160

SOURCES = {
    "fluent-3d": ("@lobehub/fluent-emoji-3d", "1.1.0", "MIT"),
    "fluent-flat": ("@iconify-json/fluent-emoji-flat", "1.2.6", "MIT"),
    "noto": ("@iconify-json/noto", "1.2.9", "Apache-2.0"),
    "noto-v1": ("@iconify-json/noto-v1", "1.2.5", "Apache-2.0"),
    "fxemoji": ("@iconify-json/fxemoji", "1.2.2", "Apache-2.0"),
    "twemoji": ("@iconify-json/twemoji", "1.2.5", "CC-BY-4.0"),
    "emojione": ("@iconify-json/emojione", "1.2.3", "CC-BY-4.0"),
}
NAMES = ("unicode-emoji-json", "0.9.0", "MIT")

# word used in captions -> Unicode name
OBJECTS = {
    "turtle": "turtle", "penguin": "penguin", "octopus": "octopus", "fox": "fox", "panda": "panda", "owl": "owl",
    "frog": "frog", "whale": "spouting whale", "crab": "crab", "butterfly": "butterfly", "snail": "snail",
    "lion": "lion", "cactus": "cactus", "sunflower": "sunflower", "mushroom": "mushroom", "strawberry": "strawberry",
    "pineapple": "pineapple", "banana": "banana", "watermelon": "watermelon", "eggplant": "eggplant",
    "hamburger": "hamburger", "doughnut": "doughnut", "cookie": "cookie", "cake": "birthday cake",
    "lollipop": "lollipop", "rocket": "rocket", "helicopter": "helicopter", "sailboat": "sailboat", "bus": "bus",
    "tractor": "tractor", "balloon": "balloon", "soccer ball": "soccer ball", "guitar": "guitar", "crown": "crown",
    "bell": "bell", "camera": "camera", "umbrella": "umbrella", "ghost": "ghost", "robot": "robot", "star": "star",
    "moon": "crescent moon", "rainbow": "rainbow", "top hat": "top hat", "light bulb": "light bulb",
    "alarm clock": "alarm clock", "gift": "wrapped gift", "pumpkin": "jack-o-lantern", "backpack": "backpack",
}  # fmt: skip

# names under which a set without code points files a drawing, where its slug differs from the Unicode name
ALIASES = {
    "fox": ["foxface", "fox-face"], "panda": ["pandaface", "panda-face"], "crescent moon": ["crescentmoon"],
    "frog": ["frogface", "frog-face"], "lion": ["lionface", "lion-face"], "wrapped gift": ["present", "gift"],
    "soccer ball": ["soccer", "soccerball", "football"], "hamburger": ["burger"], "eggplant": ["aubergine"],
    "top hat": ["tophat"], "robot": ["robotface", "robot-face"], "backpack": ["schoolsatchel", "school-backpack"],
    "butterfly": ["butterfly"], "light bulb": ["electriclightbulb", "bulb"], "jack-o-lantern": ["jackolantern"],
    "spouting whale": ["spoutingwhale"],
}  # fmt: skip


def install(folder: Path) -> Path:
    """Install the pinned npm packages under `folder`; return their node_modules."""
    folder.mkdir(parents=True, exist_ok=True)
    packages = [f"{name}@{version}" for name, version, _ in [*SOURCES.values(), NAMES]]
    subprocess.run(["npm", "install", "--no-save", "--ignore-scripts", "--prefix", str(folder), *packages], check=True)
    return folder / "node_modules"


def _icon_name(icons: dict[str, Any], chars: dict[str, str], code: str, names: list[str]) -> str | None:
    if code in chars:
        return chars[code]
    known = icons["icons"].keys() | icons.get("aliases", {}).keys()
    return next((name for name in names if name in known), None)


def draw_icon(icons: dict[str, Any], name: str) -> Image.Image:
    import resvg_py  # of the extra `recipes`: only who draws needs it

    name = icons.get("aliases", {}).get(name, {}).get("parent", name)
    icon = icons["icons"][name]
    width, height = icon.get("width", icons.get("width", 16)), icon.get("height", icons.get("height", 16))
    box = f"{icon.get('left', 0)} {icon.get('top', 0)} {width} {height}"
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{box}">{icon["body"]}</svg>'
    )
    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=256, height=256))
    return Image.open(io.BytesIO(png)).convert("RGBA")


def trim(drawing: Image.Image) -> Image.Image:
    """Crop to what is drawn and centre it on a transparent square of SIZE pixels."""
    drawing = drawing.crop(drawing.getchannel("A").point(lambda a: 255 * (a > 16)).getbbox())
    drawing.thumbnail((SIZE, SIZE), Image.Resampling.LANCZOS)
    scale = SIZE / max(drawing.size)
    drawing = drawing.resize((round(drawing.width * scale), round(drawing.height * scale)), Image.Resampling.LANCZOS)
    square = Image.new("RGBA", (SIZE, SIZE))
    square.paste(drawing, ((SIZE - drawing.width) // 2, (SIZE - drawing.height) // 2))
    return square


def collect(modules: Path, target: Path) -> dict[str, list[str]]:
    """Write every drawing of every object; return the sets found for each object."""
    emoji = json.loads((modules / NAMES[0] / "data-by-emoji.json").read_text())
    codes = {d["name"]: "-".join(f"{ord(c):x}" for c in char if ord(c) != 0xFE0F) for char, d in emoji.items()}
    vector = {s: p for s, (p, _, _) in SOURCES.items() if s != "fluent-3d"}
    icons = {s: json.loads((modules / p / "icons.json").read_text()) for s, p in vector.items()}
    chars = {s: json.loads((modules / p / "chars.json").read_text() or "{}") or {} for s, p in vector.items()}
    found: dict[str, list[str]] = {}
    for word, name in OBJECTS.items():
        code = codes[name]
        slugs = [name.lower().replace(" ", "-"), name.lower().replace(" ", "").replace("-", ""), *ALIASES.get(name, [])]
        drawings: dict[str, Image.Image] = {}
        for suffix in ("", "-fe0f"):
            path = modules / SOURCES["fluent-3d"][0] / "assets" / f"{code}{suffix}.webp"
            if path.exists():
                drawings["fluent-3d"] = Image.open(path).convert("RGBA")
        for s in vector:
            icon = _icon_name(icons[s], dict(chars[s]), code, slugs)
            if icon:
                drawings[s] = draw_icon(icons[s], icon)
        folder = target / word
        folder.mkdir(parents=True, exist_ok=True)
        for s, drawing in drawings.items():
            trim(drawing).save(folder / f"{s}.png")
        found[word] = sorted(drawings)
    return found


def sheet(target: Path, found: dict[str, list[str]], cell: int = 56) -> None:
    """A contact sheet, two objects a row, one column a set."""
    sets = list(SOURCES)
    rows = (len(found) + 1) // 2
    page = Image.new("RGB", (2 * (len(sets) + 1) * cell, rows * cell), "white")
    for i, (word, names) in enumerate(found.items()):
        for name in names:
            drawing = Image.open(target / word / f"{name}.png").resize((cell - 4, cell - 4))
            x = ((i % 2) * (len(sets) + 1) + sets.index(name)) * cell
            page.paste(drawing, (x, i // 2 * cell), drawing)
    page.save(target / "sheet.png")


if __name__ == "__main__":
    import sys

    build = Path(sys.argv[1] if len(sys.argv) > 1 else "build")
    found = collect(install(build / "npm"), build / "drawings")
    sheet(build / "drawings", found)
    for word, sets in found.items():
        print(f"{word:14} {len(sets)}  {' '.join(sets)}")
