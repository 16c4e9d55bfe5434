"""What fixed and sequential designs decide, and how many samples they take, by the true share of copies.

    OMP_NUM_THREADS=1 python research/sequential.py
    OMP_NUM_THREADS=1 python research/sequential.py --tolerance 0.05 --looks 4 8 16 32 72

Each figure twice: exactly, and in brackets from simulated prompts, whose samples are drawn one group after another and
held against nothing but the design's decisions. `from` is the least number of copies that is called memorized at each
look. `linear` is the same plan with a budget of false verdicts that grows with the number of samples, n/N of it by
sample n; `sequential` may spend all of it as soon as anything can be decided.
"""

import argparse
from collections.abc import Iterator
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from memfix.console import emit
from memfix.detect.design import Design, Operating
from memfix.records import Label
from memfix.run.environment import environment

SHARES = (0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.9, 1)
CHANCES = (0.001, 0.01)
PLANS = [(4, 8, 16), (4, 8, 16, 32, 64)]


class Linear(Design):
    """Spends its error in proportion to the samples drawn."""

    def budget(self, look: int) -> float:
        return self.error * self.looks[look] / self.looks[-1]


def designs(plans: list[tuple[int, ...]], chance: float, tolerance: float) -> Iterator[tuple[str, Design]]:
    yield "fixed", Design.fixed(plans[0][-1], chance=chance, tolerance=tolerance)
    for looks in plans:
        yield "sequential", Design(looks, chance, tolerance)
        yield "linear", Linear(looks, chance, tolerance)


def simulate(design: Design, p: float, prompts: int, draw: np.random.Generator) -> Operating:
    """Shares of the verdicts and mean number of samples among so many prompts."""
    copies, drawn, samples = np.zeros(prompts, int), 0, 0
    counts = dict.fromkeys(Label, 0)
    for n in design.looks:
        copies += draw.binomial(n - drawn, p, len(copies))
        samples += len(copies) * (n - drawn)
        found = {k: design.decide(k, n) for k in np.unique(copies).tolist()}
        for k, label in found.items():
            if label is not None:
                counts[label] += int((copies == k).sum())
        copies = copies[np.isin(copies, [k for k, label in found.items() if label is None])]
        drawn = n
    memorized, clean, undecided = (counts[x] / prompts for x in (Label.MEMORIZED, Label.CLEAN, Label.UNDECIDED))
    return Operating(memorized, clean, undecided, samples / prompts)


def row(name: str, design: Design, p: float, prompts: int, draw: np.random.Generator) -> dict[str, Any]:
    return {
        "design": name, "looks": design.looks, "memorized_from": design.boundaries(), "chance": design.chance,
        "tolerance": design.tolerance, "confidence": design.confidence, "share": p,
        **design.operating(p)._asdict(), "simulated": simulate(design, p, prompts, draw)._asdict(),
    }  # fmt: skip


def show(rows: list[dict[str, Any]], title: str) -> None:
    figures = Operating._fields
    table = Table("design", "looks", "from", "share", *figures, title=title, title_justify="left", box=None)
    last: tuple[str, ...] = ()
    for r in rows:
        digits = {name: 2 if name == "samples" else 4 for name in figures}
        cells = (f"{r[n]:.{d}f} ({r['simulated'][n]:.{d}f})" for n, d in digits.items())
        looks, least = (", ".join("-" if x is None else str(x) for x in r[key]) for key in ("looks", "memorized_from"))
        head = (r["design"], looks, least)
        table.add_row(*(head if head != last else ("", "", "")), f"{r['share']:g}", *cells)
        last = head
    Console(width=150).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.add_argument("--prompts", type=int, default=100_000, help="simulated prompts for each figure")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--chance", type=float, action="append", help="share of copies by chance; may be repeated")
    parser.add_argument("--tolerance", type=float, default=0.25, help="share of copies that must not be called clean")
    parser.add_argument("--looks", type=int, nargs="+", help="one plan instead of 4 8 16 and 4 8 16 32 64")
    options = parser.parse_args()
    plans = [tuple(options.looks)] if options.looks else PLANS
    draw = np.random.default_rng(options.seed)
    rows = [
        row(name, design, p, options.prompts, draw)
        for chance in options.chance or CHANCES
        for name, design in designs(plans, chance, options.tolerance)
        for p in sorted({*SHARES, chance})
    ]
    if options.json:
        emit({"rows": rows, "environment": environment().model_dump()})
        return
    for chance in dict.fromkeys(r["chance"] for r in rows):
        title = f"\nchance {chance:g}, tolerance {options.tolerance:g}: exact (of {options.prompts:,} simulated)"
        show([r for r in rows if r["chance"] == chance], title)


if __name__ == "__main__":
    main()
