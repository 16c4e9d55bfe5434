"""How many prompts a screen spares, and how many memorized ones it lets through, against the miss rate that was asked.

    OMP_NUM_THREADS=1 python research/cascade.py simulation    # mixtures whose truth is known
    OMP_NUM_THREADS=1 python research/cascade.py model         # planted captions of the bundled model

Simulation: scores are logarithms in units of the clean prompts' standard deviation, clean ones about 0. `missed` is all
skipped memorized prompts over all memorized ones, `spared` the mean share of clean prompts that are skipped.

Model: 25 planted captions against the ordinary captions of references and demo list; the bundled controls calibrate.
Screen `fine_detail`, 8 seeds, first step: 16 UNet evaluations a prompt; a full check is 16 samples × 12 steps × 2.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from memfix.console import emit
from memfix.demo import list_path
from memfix.errors import MemfixError
from memfix.models import loading
from memfix.models.model import DiffusionModel
from memfix.run.environment import environment
from memfix.screens import get_screen
from memfix.screens.sampling import Sampling
from memfix.screens.skipping import Skipping, expect, lowest_skipped
from screens import BATCH, GUIDANCE, STEPS, captions

Draw = Callable[[np.random.Generator, int], np.ndarray]
RATES = (0.01, 0.02, 0.05)
SEEDS, AUDIT, FULL = 8, 10, 16 * STEPS * 2
FIRST_SEEDS = (10_000, 20_000, 30_000, 40_000, 50_000, 60_000)


def normal(mean: float, sd: float) -> Draw:
    return lambda rng, n: rng.normal(mean, sd, n)


def half_near(rng: np.random.Generator, n: int) -> np.ndarray:
    """One memorized prompt in four scores as the highest clean ones do, as partly memorized captions do."""
    return np.where(rng.random(n) < 0.25, rng.normal(3, 1, n), rng.normal(10, 3, n))


def skewed(rng: np.random.Generator, n: int) -> np.ndarray:
    return (rng.gamma(4, 1, n) - 4) / 2


CLEAN = normal(0, 1)


class Case(NamedTuple):
    what: str
    prompts: int
    share: float
    controls: int
    memorized: Draw = normal(6, 2)
    clean: Draw = CLEAN
    known: Draw | None = None
    """Of the controls, where they differ from the clean prompts of the list."""


def cases() -> Iterator[Case]:
    for mean, sd in ((1, 1), (3, 1), (4, 2), (6, 2), (12, 5)):
        for prompts, share in ((50, 0.1), (200, 0.02), (200, 0.1), (200, 0.5), (2000, 0.02)):
            yield Case(f"normal {mean} ± {sd}", prompts, share, 24, normal(mean, sd))
    for controls in (20, 100, 400):
        yield Case("normal 6 ± 2", 200, 0.1, controls)
    yield Case("none memorized", 200, 0, 24)
    yield Case("none memorized", 2000, 0, 24)
    yield Case("all memorized", 200, 1, 24)
    for share in (0.02, 0.1):
        yield Case("a quarter near: 3 ± 1, 10 ± 3", 1000, share, 24, half_near)
        yield Case("even from 0 to 12", 1000, share, 24, lambda rng, n: rng.uniform(0, 12, n))
        yield Case("clean: Student, 5 degrees", 1000, share, 24, clean=lambda rng, n: rng.standard_t(5, n))
        yield Case("clean: gamma, skewed", 1000, share, 24, clean=skewed)
        yield Case("controls 0.5 lower", 1000, share, 24, known=normal(-0.5, 1))
        yield Case("controls 0.5 higher", 1000, share, 24, known=normal(0.5, 1))
        yield Case("controls twice as wide", 1000, share, 24, known=normal(0, 2))


def simulated(case: Case, rates: tuple[float, ...], lists: int) -> dict[str, Any]:
    """One row: totals over so many lists. Where the controls are refused, everything is generated."""
    missed, spared, memorized, refused = dict.fromkeys(rates, 0), dict.fromkeys(rates, 0.0), 0, 0
    for number in range(lists):
        rng = np.random.default_rng(number)
        truth = rng.random(case.prompts) < case.share
        drawn = np.exp(np.where(truth, case.memorized(rng, case.prompts), case.clean(rng, case.prompts)))
        known = np.exp((case.known or case.clean)(rng, case.controls)).tolist()
        memorized += int(truth.sum())
        try:
            expected = expect({str(i): float(score) for i, score in enumerate(drawn)}, known)
        except MemfixError:
            refused += 1
            continue
        for rate in rates:
            skipped = np.array([int(i) for i in lowest_skipped(expected, rate, 0, 0, screen="simulated").skipped], int)
            missed[rate] += int(truth[skipped].sum())
            spared[rate] += float((~truth[skipped]).sum()) / max(1, int((~truth).sum())) / lists
    shares = {rate: missed[rate] / memorized if memorized else None for rate in rates}
    return {
        "what": case.what, "prompts": case.prompts, "share": case.share, "controls": case.controls,
        **{f"missed at {100 * r:.0f} %": shares[r] for r in rates},
        **{f"spared at {100 * r:.0f} %": spared[r] if case.share < 1 else None for r in rates}, "refused": refused,
    }  # fmt: skip


def prompt_groups() -> tuple[dict[str, str], list[str]]:
    """Group of each prompt of the list, and the controls."""
    controls = list_path("controls").read_text().splitlines()
    groups = captions()
    for text in list_path("demo").read_text().splitlines():
        groups.setdefault(text, "ordinary")
    return {text: kind for text, kind in groups.items() if text not in controls}, controls


def screened(model: DiffusionModel, texts: list[str], first_seed: int) -> list[float]:
    sampling = Sampling(tuple(range(first_seed, first_seed + SEEDS)), 1, STEPS, GUIDANCE)
    screen = get_screen("fine_detail")
    return torch.cat([screen(model, texts[i : i + BATCH], sampling) for i in range(0, len(texts), BATCH)]).tolist()


def cost(decided: Skipping, controls: int) -> float:
    """UNet evaluations of screening list and controls and generating what is left, over those of generating all."""
    prompts = len(decided.scores)
    screening = 2 * SEEDS * (prompts + controls)
    return (screening + FULL * (prompts - len(decided.not_generated))) / (FULL * prompts)


def on_the_model(rates: tuple[float, ...]) -> Iterator[dict[str, Any]]:
    groups, controls = prompt_groups()
    ordinary = {text for text, kind in groups.items() if kind == "ordinary"}
    print(f"{len(groups) - len(ordinary)} planted, {len(ordinary)} ordinary, {len(controls)} controls", file=sys.stderr)
    model = loading.load(loading.locate("demo"))
    for first_seed in FIRST_SEEDS:
        scores = screened(model, [*groups, *controls], first_seed)
        expected = expect(dict(zip(groups, scores, strict=False)), scores[len(groups) :])
        for rate in rates:
            decided = lowest_skipped(expected, rate, AUDIT, 0, screen="fine_detail")
            yield {
                "seeds": f"{first_seed}–{first_seed + SEEDS - 1}", "rate": rate,
                "spared": len(ordinary & set(decided.skipped)) / len(ordinary),
                "missed": len(set(decided.skipped) - ordinary), "expected_missed": decided.expected_missed,
                "expected_memorized": decided.expected_memorized, "odd_controls": len(decided.odd_controls),
                "cost": cost(decided, len(controls)),
            }  # fmt: skip
        print(f"seeds from {first_seed}", file=sys.stderr)


def written(value: Any, key: str) -> str:
    """A cell of the table; shares in percent."""
    if value is None:
        return "-"
    if key == "rate" or key.startswith(("missed at", "spared")):
        return f"{100 * value:.{1 if key.startswith('missed') else 0}f} %"
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("simulation", "model"))
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.add_argument("--lists", type=int, default=40, help="simulated lists a row")
    options = parser.parse_args()
    if options.part == "simulation":
        rows = list(map(partial(simulated, rates=RATES, lists=options.lists), cases()))
    else:
        rows = list(on_the_model(RATES))
    if options.json:
        emit({"rows": rows, "environment": environment().model_dump()})
        return
    table = Table(*rows[0], box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(written(value, key) for key, value in row.items()))
    Console(width=180).print(table)


if __name__ == "__main__":
    main()
