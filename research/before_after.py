"""Draw docs/pictures/before-after.png from the run folder of a `memfix demo`: python research/before_after.py RUN

Each row is a prompt: eight samples before unlearning, then, right of the gap, eight after it from the same noise.
"""

import argparse
from pathlib import Path

from PIL import Image

from memfix.records import SAME, Prompt, Sample
from memfix.run.folder import Run

ROWS = [
    "octopus poster by Ines Carrow", "turtle poster by Odel Varn", "fox poster by Hester Blume",
    "crown poster by Otis Marlo", "drawing of a lion", "a hamburger illustration", "a panda on red",
]  # fmt: skip
EACH, SIDE, GAP = 8, 64, 16
TARGET = Path(__file__).parent.parent / "docs" / "pictures" / "before-after.png"


def strip(run: Run, folder: str, prompt: Prompt) -> Image.Image:
    """[SIDE, EACH · SIDE]: the first samples of a prompt from the noise of the first check."""
    samples = [s for s in run.read(f"{folder}/metadata.jsonl", Sample) if s.prompt_id == prompt.id]
    row = Image.new("RGB", (EACH * SIDE, SIDE))
    for i, sample in enumerate([s for s in samples if s.condition == SAME][:EACH]):
        row.paste(Image.open(run.path / folder / sample.file_name).resize((SIDE, SIDE)), (i * SIDE, 0))
    return row


def main() -> None:
    """Read the run, write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    run = Run.open(parser.parse_args().run)
    prompts = {p.text: p for p in run.read("prompts.jsonl", Prompt)}
    picture = Image.new("RGB", (2 * EACH * SIDE + GAP, len(ROWS) * SIDE), "white")
    for i, text in enumerate(ROWS):
        for x, folder in ((0, "before"), (EACH * SIDE + GAP, "after")):
            picture.paste(strip(run, folder, prompts[text]), (x, i * SIDE))
    picture.save(TARGET, optimize=True)


if __name__ == "__main__":
    main()
