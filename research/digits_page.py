"""Renew the table and the picture of digits.md after digits.py has run: python research/digits_page.py FOLDER

The picture has one panel a model that was measured, all from the same noise; above the gap, noise from which the model
before gives the T-shirt.
"""

import argparse
import re
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

sys.path.insert(0, str(Path(__file__).parent))
from digits import RESULTS, read_results, read_shirt, table, to_bytes

PANELS = {
    "before": "before", "retrained": "retrained without the T-shirt", "siss": "siss", "naive": "naive",
    "retrack forget_weight=0.005": "retrack", "surrogate surrogate=digit": "surrogate (a digit)",
    "erasediff": "erasediff", "bounded": "bounded", "neggrad": "neggrad",
}  # fmt: skip
COLUMNS, ROWS, SIDE, GAP, LABEL = 10, 5, 28, 8, 16
PAGE, PICTURE = Path(__file__).parent / "digits.md", Path(__file__).parent / "pictures" / "digits.png"


def panel(samples: np.ndarray, shirts: np.ndarray, label: str) -> Image.Image:
    """A row of what comes of the noise of T-shirts, then, below the gap, of the first of all noise."""
    picture = Image.new("L", (COLUMNS * SIDE, LABEL + ROWS * SIDE + GAP), 255)
    ImageDraw.Draw(picture).text((0, 1), label, fill=0)
    for i, sample in enumerate(samples[[*shirts[:COLUMNS], *range(COLUMNS * (ROWS - 1))]]):
        row, column = divmod(i, COLUMNS)
        tile = Image.fromarray(sample).resize((SIDE, SIDE), Image.Resampling.NEAREST)
        picture.paste(tile, (column * SIDE, LABEL + row * SIDE + GAP * (row > 0)))
    return picture


def main() -> None:
    """Read results and samples, write the page's table and the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    files = {name: folder / "samples" / f"{name}.npy" for name in PANELS}
    samples = {name: np.load(file) for name, file in files.items() if file.exists()}
    apart = np.square(samples["before"] - to_bytes(read_shirt(folder)[None]).astype(float)).sum((1, 2))
    shirts = apart.argsort()[:COLUMNS]
    panels = [panel(shown, shirts, PANELS[name]) for name, shown in samples.items()]
    width, height = panels[0].size
    picture = Image.new("L", (3 * width + 2 * 2 * GAP, 3 * height + 2 * GAP), 255)
    for i, drawn in enumerate(panels):
        row, column = divmod(i, 3)
        picture.paste(drawn, (column * (width + 2 * GAP), row * (height + GAP)))
    picture.save(PICTURE, optimize=True)
    rows = re.compile(r"^\| method \| settings \|.*?(?=^$)", re.M | re.S)
    PAGE.write_text(rows.sub(lambda _: table(read_results(RESULTS)) + "\n", PAGE.read_text(), count=1))


if __name__ == "__main__":
    main()
