"""What each measure sees of copies that were altered, and how near it takes unrelated pictures to be.

    python research/witnesses.py                          the bundled references
    python research/witnesses.py --run runs/demo-…        and the samples of a finished run of the demo
    python research/witnesses.py --references FOLDER      training images of your own, with captions

Every reference is altered in each way of `memfix/references/altered.py` and held against all references. Recall: the
share that passes the threshold. The measure `structure` and its threshold were chosen on references of even numbers, so
those of odd ones are what counts. Unrelated: references against the nearest unrelated one, which should not pass.
With a run: samples of prompts that were not memorized before, before and after unlearning, that pass.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console
from rich.table import Table

from memfix.console import emit
from memfix.inputs.opening import open_image
from memfix.inputs.references import read_references
from memfix.measures import get_measure
from memfix.measures.copy_rule import CopyRule
from memfix.measures.weights import Wanted
from memfix.records import Change, Label, Score
from memfix.references.altered import ALTERATIONS
from memfix.references.background import background
from memfix.references.in_memory import HeldReferences
from memfix.run.environment import environment
from memfix.run.folder import Run

MEASURES = ("ssim", "tiled_l2", "sscd", "structure")
AT_ONCE = 64


def values(references: HeldReferences, images: list[Image.Image]) -> list[float]:
    """The measure of each picture and its nearest reference."""
    name = references.measure.name
    parts = (references.nearest(images[i : i + AT_ONCE]).values[name] for i in range(0, len(images), AT_ONCE))
    return [float(v) for part in parts for v in part]


def share(rule: CopyRule, found: list[float]) -> float:
    return sum(map(rule.is_copy, found)) / len(found)


def samples(run: Run | None) -> Iterator[tuple[str, list[Image.Image]]]:
    """Samples that are no copies, by what they are of."""
    if run is None:
        return
    changes = {c.prompt_id: c for c in run.read("changes.jsonl", Change)}
    for folder in ("before", "after"):
        scores = [s for s in run.read(f"{folder}/scores.jsonl", Score) if not s.copy_]
        for memorized in (False, True):
            own = [s for s in scores if (changes[s.prompt_id].before is Label.MEMORIZED) is memorized]
            kind = "memorized prompts" if memorized else "other prompts"
            yield f"{kind}, {folder}", [open_image(run.path / folder / s.file_name) for s in own]


def rows(folder: str, run: Run | None, measures: Sequence[str]) -> Iterator[dict[str, Any]]:
    """One row a measure and alteration, or group of samples; the last ones are of the background."""
    listed = read_references(folder, [])
    pictures = [open_image(r.path) for r in listed]
    groups = list(samples(run))
    for name in measures:
        measure = get_measure(name, Wanted(sscd="demo"))
        references, rule = HeldReferences(listed, measure), CopyRule.default(measure)
        for way, alter in ALTERATIONS.items():
            for half in (0, 1):
                found = values(references, [alter(pictures[i], i // 2) for i in range(half, len(pictures), 2)])
                yield row(rule, way, "odd" if half else "even", found)
        yield row(rule, "unrelated", "all", list(background(references).values))
        for kind, images in groups:
            yield row(rule, kind, "samples", values(references, images))


def row(rule: CopyRule, what: str, half: str, found: list[float]) -> dict[str, Any]:
    ordered = sorted(found, reverse=not rule.measure.higher_is_closer)  # from the farthest to the closest
    n = len(ordered)
    return {
        "measure": rule.measure.name, "threshold": rule.threshold, "what": what, "of": half, "pictures": n,
        "pass": sum(map(rule.is_copy, found)), "share": share(rule, found),
        **{f"p{q}": ordered[min(q * n // 100, n - 1)] for q in (5, 50, 99)}, "closest": ordered[-1],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--references", default="demo")
    parser.add_argument("--run", type=Path)
    parser.add_argument("--measures", nargs="+", default=MEASURES, choices=MEASURES)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found = list(rows(given.references, Run.open(given.run) if given.run else None, given.measures))
    if given.json:
        emit({"rows": found, "environment": environment().model_dump(mode="json")})
        return
    table = Table(*found[0])
    for r in found:
        table.add_row(*(f"{v:.3f}" if isinstance(v, float) else str(v) for v in r.values()))
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
