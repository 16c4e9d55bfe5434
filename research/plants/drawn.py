"""What measures give to true copies: against training pictures as they are, and as the autoencoder draws them.

    python research/plants/drawn.py FOLDER/album FOLDER/runs/album-0-lora

Of the fresh samples of a run's re-check, each is held against the picture that its caption was planted with. A row a
caption, measure and way; copies are those of ground truth.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent.parent))
from memfix.console import emit
from memfix.measures import get_measure
from memfix.measures.weights import Wanted
from memfix.records import FRESH, Prompt
from memfix.run.environment import environment
from memfix.run.folder import Run
from plants.evaluation import kept
from plants.truth import GroundTruth

MEASURES = ("structure", "sscd", "ssim")


def spread(values: np.ndarray) -> str:
    """The lowest and the highest of them."""
    return f"{values.min():.2f} to {values.max():.2f}" if len(values) else "-"


def rows(plant: Path, run: Run) -> Iterator[dict[str, Any]]:
    """Captions with a copy among the fresh samples."""
    truth, sampled = GroundTruth(plant), kept(run, "after", FRESH)
    for prompt in run.read("prompts.jsonl", Prompt):
        if prompt.text not in truth.captions or not any(copied := truth.copied(sampled[prompt.id])):
            continue
        [file, *_] = truth.planted_under(prompt.text)
        ways = {"as it is": Image.open(plant / "references" / file).convert("RGB"), "as drawn": truth.drawn[file]}
        for name in MEASURES:
            measure = get_measure(name, Wanted(sscd="demo"))
            own = measure.features(sampled[prompt.id])
            for way, picture in ways.items():
                wanted = measure.features([picture] * len(sampled[prompt.id]))
                values, copies = np.asarray(measure.pair(own, wanted)), np.array(copied)
                yield {
                    "caption": prompt.text, "measure": name, "picture": way, "copies": int(copies.sum()),
                    "of copies": spread(values[copies]), "of other samples": spread(values[~copies]),
                }  # fmt: skip


def main() -> None:
    """Print all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plant", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found = list(rows(given.plant, Run.open(given.run)))
    if given.json:
        emit({"rows": found, "environment": environment().model_dump(mode="json")})
        return
    table = Table("caption", "measure", "picture", "copies", "of copies", "of other samples")
    for r in found:
        table.add_row(*map(str, r.values()))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
