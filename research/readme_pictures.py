"""Make docs/pictures/terminal.png and report.png: python research/readme_pictures.py FOLDER

Runs `memfix run` on four prompts of the bundled model with six controls (about ten minutes on two idle cores), and lets
Chromium draw what it said and its report. FOLDER keeps the run and what was said; given again, only pictures are made.
Further words are flags for `memfix run`. Needs `chromium` (Debian: apt-get install chromium).
"""

import argparse
import os
import re
import subprocess
import sys
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

TARGET = Path(__file__).parent.parent / "docs" / "pictures"
PROMPTS = (
    "snail poster by Pavel Drozd", "octopus poster by Ines Carrow", "a tractor on a navy background",
    "a picture of a guitar",
)  # fmt: skip
CONTROLS = 6
COLUMNS = 100
TALK = {"COLUMNS": str(COLUMNS), "FORCE_COLOR": "1", "TTY_INTERACTIVE": "0", "PYTHONUNBUFFERED": "1"}
"""Colours as on a terminal, both streams in their order, and each progress bar once."""

PROGRESS = re.compile(r".* [\d,]+/[\d,]+ le(ft|…) ")  # a bar that ended, also one that was cut
LINE, CHARACTER, MARGIN = 19, 8.43, 18  # pixels of a line and a character of PAGE, and around its text
REPORT = (1120, 1180)
PAGE = """<!DOCTYPE html><meta charset="utf-8"><style>
body {{ margin: 18px; background: {background}; color: {foreground}; }}
pre {{ margin: 0; font: 14px/19px 'DejaVu Sans Mono', monospace; }}
{stylesheet}</style><body><pre><code style="font-family: inherit">{code}</code></pre></body>"""


def run(folder: Path, flags: list[str]) -> str:
    """What `memfix run` says, with its colours; told again where it ran before."""
    said = folder / "said.txt"
    if not said.exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "four.txt").write_text("\n".join(PROMPTS) + "\n")
        controls = (TARGET.parents[1] / "prompts" / "controls.txt").read_text().splitlines()[:CONTROLS]
        (folder / "six.txt").write_text("\n".join(controls) + "\n")
        words = ["run", "four.txt", "-m", "demo", "--references", "demo", "--controls", "six.txt", "--num-fresh", "16"]
        command = [sys.executable, "-m", "memfix", *words, "-o", "four", *flags]
        done = subprocess.run(
            command, cwd=folder, env={**os.environ, **TALK}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, check=False,
        )  # fmt: skip
        if not (folder / "four/report.html").exists():
            raise SystemExit(done.stdout)
        said.write_text(f"\x1b[1m$ memfix {' '.join([*words, *flags])}\x1b[0m\n{done.stdout}", encoding="utf-8")
    return said.read_text(encoding="utf-8")


def as_page(said: str) -> tuple[str, int]:
    """What was said, as a page of the colours of a dark terminal, and how many lines it has."""
    text = Text.from_ansi(said)
    lines = [line for line in text.split("\n") if not PROGRESS.match(line.plain)]
    lines = [
        line for line, above in zip(lines, [None, *lines], strict=False) if line.plain or above is None or above.plain
    ]
    console = Console(record=True, width=COLUMNS, file=StringIO())
    for line in lines:
        console.print(line, soft_wrap=True)
    return console.export_html(theme=MONOKAI, code_format=PAGE), len(lines)


def draw(page: Path, picture: Path, width: int, height: int) -> None:
    """A picture of the upper part of a page, by Chromium."""
    subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--screenshot={picture}",
         f"--window-size={width},{height}", page.resolve().as_uri()],
        check=True, capture_output=True,
    )  # fmt: skip


def main() -> None:
    """Run, if that was not done, and draw both pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--into", type=Path, default=TARGET, help="where the pictures go")
    given, flags = parser.parse_known_args()
    text, lines = as_page(run(given.folder, flags))
    page = given.folder / "said.html"
    page.write_text(text, encoding="utf-8")
    given.into.mkdir(parents=True, exist_ok=True)
    draw(page, given.into / "terminal.png", round(COLUMNS * CHARACTER) + 2 * MARGIN, lines * LINE + 2 * MARGIN)
    draw(given.folder / "four/report.html", given.into / "report.png", *REPORT)


if __name__ == "__main__":
    main()
