"""What the bundled model does before and after unlearning, group by group, from the run folder of a `memfix demo`.

    python research/demo.py runs/demo-…

The ground truth of the references says which captions were planted, and how; the recipe's recognizer says whether a
picture shows the object that its caption names.
"""

import argparse
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from memfix.demo import REFERENCES
from memfix.measures import PIXEL_MEASURES
from memfix.measures.copy_rule import CopyRule
from memfix.records import FRESH, SAME, Change, Label, Outcome, Prompt, Role, Score, Verdict
from memfix.run.folder import Run

sys.path.insert(0, str(Path(__file__).parent.parent / "recipes"))
from recognizer import object_names, recognize

GROUPS = ["fully memorized", "partly memorized", "template", "ordinary prompt", "control"]


@dataclass
class Group:
    prompts: list[str] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)  # of copies, before
    memorized: int = 0
    mitigated: int = 0
    unchanged: int = 0
    fresh: list[int] = field(default_factory=list)  # copies, fresh samples
    shown: dict[str, list[bool]] = field(default_factory=dict)  # when → does the picture show the object?


def kinds() -> dict[str, str]:
    """Group of each planted caption."""
    found = {}
    for line in (REFERENCES / "metadata.jsonl").read_text().splitlines():
        row = json.loads(line)
        if row["kind"] == "verbatim":
            found[row["text"]] = GROUPS[0] if row["caption_share"] == 1 else GROUPS[1]
        elif row["kind"] == "template":
            found[row["text"]] = GROUPS[2]
    return found


def shows(folder: Path, scores: list[Score], texts: dict[str, str]) -> dict[str, list[bool]]:
    """prompt id → for each of its samples, whether the recognizer names the object that the prompt names."""
    names = sorted(object_names(), key=len, reverse=True)
    wanted = {i: next(n for n in names if n in text) for i, text in texts.items()}
    named = recognize(np.stack([np.asarray(Image.open(folder / s.file_name)) for s in scores]))
    result: dict[str, list[bool]] = {}
    for score, name in zip(scores, named, strict=True):
        result.setdefault(score.prompt_id, []).append(name == wanted[score.prompt_id])
    return result


def collect(run: Run) -> dict[str, Group]:
    prompts, planted = run.read("prompts.jsonl", Prompt), kinds()
    texts = {p.id: p.text for p in prompts}
    verdicts = {v.prompt_id: v for v in run.read("before/verdicts.jsonl", Verdict)}
    changes = {c.prompt_id: c for c in run.read("changes.jsonl", Change)} if run.finished("recheck") else {}
    after = run.read("after/scores.jsonl", Score) if changes else []
    shown = {"before": shows(run.path / "before", run.read("before/scores.jsonl", Score), texts)}
    for condition in (SAME, FRESH) if after else ():
        own = [s for s in after if s.condition == condition]
        shown[f"after, {condition}"] = shows(run.path / "after", own, texts)
    groups = {name: Group() for name in GROUPS}
    for p in prompts:
        group = groups[planted.get(p.text, GROUPS[4] if p.role is Role.CONTROL else GROUPS[3])]
        group.prompts.append(p.text)
        group.shares.append(verdicts[p.id].share)
        group.memorized += verdicts[p.id].verdict is Label.MEMORIZED
        if p.id in changes:
            group.mitigated += changes[p.id].outcome is Outcome.MITIGATED
            group.unchanged += changes[p.id].outcome is Outcome.UNCHANGED
            group.fresh += [changes[p.id].copies_fresh, changes[p.id].samples_fresh]
        for when, marks in shown.items():
            group.shown.setdefault(when, []).extend(marks[p.id])
    return groups


def separation(run: Run) -> Table:
    """How well each measure tells copies from the rest: the samples of fully memorized prompts and templates before
    unlearning, against those of prompts that were not planted, before and after it."""
    planted = kinds()
    group = {p.id: planted.get(p.text, "other") for p in run.read("prompts.jsonl", Prompt)}
    before, after = run.read("before/scores.jsonl", Score), run.read("after/scores.jsonl", Score)
    copies = [s for s in before if group[s.prompt_id] in (GROUPS[0], GROUPS[2])]
    rest = [s for s in [*before, *after] if group[s.prompt_id] == "other"]
    columns = ["measure", "closest of the others", "threshold", "farthest copy", "copies past the threshold"]
    table = Table(*columns, box=None, pad_edge=False)
    for name, measure in PIXEL_MEASURES.items():
        sign = 1 if measure.higher_is_closer else -1
        closest = sign * max(sign * s.measures[name] for s in rest)
        farthest = sign * min(sign * s.measures[name] for s in copies)
        past = np.mean([CopyRule.default(measure).is_copy(s.measures[name]) for s in copies])
        found = f"{past:.1%} of {len(copies)}"
        table.add_row(name, f"{closest:.3f} of {len(rest)}", str(measure.threshold), f"{farthest:.3f}", found)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    run = Run.open(parser.parse_args().run)
    groups = collect(run)
    columns = ["group", "prompts", "memorized", "copies before", "mitigated", "fresh copies", "object shown: before"]
    moments = [m for m in next(g for g in groups.values() if g.prompts).shown if m != "before"]
    table = Table(*columns, *moments, box=None, pad_edge=False)
    for name, g in groups.items():
        if not g.prompts:
            continue
        share = f"{np.mean(g.shares):.1%} ({min(g.shares):.0%} to {max(g.shares):.0%})"
        fresh = f"{sum(g.fresh[::2]) / sum(g.fresh[1::2]):.2%}" if g.fresh else "-"
        marks = [f"{np.mean(g.shown[m]):.1%}" for m in ["before", *moments]]
        table.add_row(name, str(len(g.prompts)), str(g.memorized), share, str(g.mitigated), fresh, *marks)
    console = Console(width=160)
    console.print(table)
    console.print()
    console.print(separation(run))


if __name__ == "__main__":
    main()
