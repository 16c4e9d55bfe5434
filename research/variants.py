"""What each way of making keep images yields on the bundled model, from the run folder of a detection with it.

    memfix detect demo -m demo --references demo --controls controls -o RUN
    python research/variants.py RUN

Every variant of every fully memorized prompt is sampled. Kept: the share of samples that are neither copies nor
near-copies. Object shown: of these, the share on which the recipe's recognizer names the object of the prompt.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from memfix.console import Talk, emit
from memfix.flow.detection import Detection
from memfix.run.environment import environment
from memfix.run.folder import Run
from memfix.unlearn.data.sampler import Asked, Sampler
from memfix.variants.base import Subject
from memfix.variants.table import get_kinds

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "recipes"))
from demo import GROUPS, kinds
from recognizer import object_names, recognize


def rows(run: Run, group: str, ways: str | None, each: int) -> Iterator[dict[str, Any]]:
    """One row a variant, and one for all variants of a way."""
    detection, planted = Detection.of(run), kinds()
    detected, judge = detection.settings, detection.judge()
    prompts = [p for p in detection.prompts if planted.get(p.text) == group]
    sample = Sampler(detection.model(), judge, detected, Talk())
    names = sorted(object_names(), key=len, reverse=True)
    wanted = {p.id: next(n for n in names if n in p.text) for p in prompts}
    for way in get_kinds(ways):
        asked = [
            Asked(p.id, p.text, str(n), variant)
            for p in prompts
            for n, variant in enumerate(way.vary(Subject(p.text, sample.model, detected)))
        ]
        texts = {p.id: p.text for p in prompts}
        asked.sort(key=lambda a: a.variant.guidance or 0)
        found = list(sample(asked, each, way.name))
        named = recognize(np.stack([np.asarray(drawn.image) for drawn in found]))
        marks = [
            ((s.prompt_id, s.condition), judge.is_distinct(s), s.copy_, name == wanted[s.prompt_id])
            for (_, _, s), name in zip(found, named, strict=True)
        ]
        for number in [*sorted({n for (_, n), *_ in marks}), None]:
            own = [m for m in marks if number in (None, m[0][1])]
            kept = [m for m in own if m[1]]
            by_prompt = {i: sum(m[1] for m in own if m[0][0] == i) for i in texts}
            yield {
                "way": way.name, "variant": "all" if number is None else int(number) + 1, "samples": len(own),
                "kept": len(kept) / len(own), "copies": sum(m[2] for m in own) / len(own),
                "object_shown": sum(m[3] for m in kept) / len(kept) if kept else None,
                "prompts_with_four": sum(n >= 4 for n in by_prompt.values()), "prompts": len(texts),
            }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--group", default=GROUPS[0], choices=GROUPS[:3])
    parser.add_argument("--ways", help="comma-separated; all when not given")
    parser.add_argument("--each", type=int, default=4, help="samples a variant")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found = list(rows(Run.open(given.run), given.group, given.ways, given.each))
    if given.json:
        emit({"rows": found, "environment": environment().model_dump()})
        return
    table = Table("way", "variant", "samples", "kept", "copies", "object shown", "prompts with four", box=None)
    for r in found:
        shown = "-" if r["object_shown"] is None else f"{r['object_shown']:.0%}"
        table.add_row(
            r["way"], str(r["variant"]), str(r["samples"]), f"{r['kept']:.0%}", f"{r['copies']:.0%}", shown,
            f"{r['prompts_with_four']} of {r['prompts']}",
        )  # fmt: skip
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
