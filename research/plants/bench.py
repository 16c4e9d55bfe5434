"""Run memfix on plants, and hold what it says against what is true.

    OMP_NUM_THREADS=2 python research/plants/bench.py FOLDER --half tune --seeds 0 1 2
    python research/plants/bench.py FOLDER --table          what is there already, one row a plant, seed and weights

Each piece is a plant, a seed and full weights or a LoRA: `memfix detect`, `unlearn` and `recheck` as a user types them,
with nothing but the sampling settings of the bundled model. Everything is kept in FOLDER and the rows in
`research/results/plants.jsonl`, so that an interrupted benchmark goes on. Each run has a contact sheet beside it.
"""

import argparse
import json
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent.parent))
from memfix.console import emit
from memfix.demo import MODEL
from memfix.run.environment import environment
from plants.commands import FailedError, memfix
from plants.evaluation import evaluate
from plants.make import make
from plants.table import BY_NAME, PLANTS, Half, Plant, Weights

RESULTS = Path(__file__).parent.parent / "results/plants.jsonl"
SAMPLING = ["--num-inference-steps", "12", "--guidance-scale", "3", "--batch-size", "32"]
APART = 10_000  # between the seeds of two pieces


def once(record: Path, work: Any) -> Any:
    """What a piece of work gave, which is done only where no record of it is there."""
    if not record.exists():
        record.write_text(json.dumps(work()))
    return json.loads(record.read_text())


def detected(where: Path, seed: int) -> tuple[Path, float]:
    """The detection of a plant, and its seconds."""
    run = where.parent / f"runs/{where.name}-{seed}"
    run.parent.mkdir(exist_ok=True)
    words = ["detect", where / "prompts.txt", *model_of(where), "--references", where / "references"]
    words += ["--controls", where / "controls.txt", "--sscd-weights", "demo", *SAMPLING, "--seed", APART * seed]
    record = run.with_name(f"{run.name}-detect.json")
    return run, once(record, partial(memfix, record.with_suffix(".log"), *words, "-o", run))


def model_of(plant: Path) -> list[object]:
    """The flags that name a plant's model: a path, since the name of the bundled one brings its preset along."""
    own, adapter = plant / "model", plant / "lora"
    return ["-m", own if own.exists() else MODEL, *(["--adapter", adapter] if adapter.exists() else [])]


def piece(folder: Path, plant: Plant, seed: int, weights: Weights) -> dict[str, Any]:
    """One row."""
    where = make(plant, folder)
    detection, seconds = detected(where, seed)
    run = detection.with_name(f"{detection.name}-{weights}")
    stages, problem = {"make": json.loads((where / "truth.json").read_text())["seconds"], "detect": seconds}, ""
    if not run.exists():
        shutil.copytree(detection, run)
    for stage, words in {
        "unlearn": ["unlearn", run, f"--{weights}", "--train-seed", seed],
        "recheck": ["recheck", run, "--fresh-seed", 100_000 + APART * seed],
    }.items():
        record = run.with_name(f"{run.name}-{stage}.json")
        try:
            stages[stage] = once(record, partial(memfix, record.with_suffix(".log"), *words))
        except FailedError as error:
            problem = f"{stage}: {error}"
            break
    return {
        "plant": plant.name, "half": plant.half, "seed": seed, "weights": weights,
        **evaluate(where, run, 700_000 + APART * seed), "problem": problem, "seconds": stages,
        "commit": environment().commit,
    }  # fmt: skip


def print_table(rows: list[dict[str, Any]]) -> None:
    """All rows, and their sums by half and weights."""
    columns = [
        "plant", "half", "seed", "weights", "copying", "found", "others called", "unlearned", "erased", "brought back",
        "mitigated", "falsely", "undecided", "controls", "diversity", "seconds",
    ]  # fmt: skip
    table = Table(*columns)
    for r in sorted(rows, key=lambda r: (r["half"], r["weights"], [*BY_NAME].index(r["plant"]), r["seed"])):
        table.add_row(
            r["plant"], r["half"], str(r["seed"]), r["weights"], *cells(r),
            " ".join(f"{s:.0f}" for s in r["seconds"].values()) + (" !" if r["problem"] else ""),
        )  # fmt: skip
    for half in Half:
        for weights in Weights:
            own = [r for r in rows if (r["half"], r["weights"]) == (half, weights)]
            if own:
                table.add_row("all", half, "", weights, *cells(total(own)), "", style="bold")
    Console(width=190).print(table)
    for r in rows:
        if r["problem"]:
            print(f"{r['plant']}, seed {r['seed']}, {r['weights']}: {r['problem']}")


COUNTED = (
    "prompts", "copying", "found", "others", "others_called", "unlearned", "erased", "brought_back", "mitigated",
    "falsely_mitigated", "undecided",
)  # fmt: skip


def total(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Sums of what is counted; means of the rest over the rows that have it."""
    summed: dict[str, Any] = {key: sum(r[key] for r in rows) for key in COUNTED}
    for key in ("controls", "diversity"):
        pairs = [r[key] for r in rows if r[key]]
        summed[key] = [sum(side) / len(pairs) for side in zip(*pairs, strict=True)] if pairs else None
    return summed


def cells(r: dict[str, Any]) -> list[str]:
    """A row's numbers, beside what they are of."""

    def change(pair: list[float] | None) -> str:
        return f"{pair[0]:.2f} → {pair[1]:.2f}" if pair else "-"

    return [
        f"{r['copying']} of {r['prompts']}", f"{r['found']} of {r['copying']}",
        f"{r['others_called']} of {r['others']}", str(r["unlearned"]), f"{r['erased']} of {r['copying']}",
        str(r["brought_back"]), str(r["mitigated"]), str(r["falsely_mitigated"]),
        str(r["undecided"]), change(r["controls"]), change(r["diversity"]),
    ]  # fmt: skip


def main() -> None:
    """Do what is left, and print all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--half", choices=[h.value for h in Half])
    parser.add_argument("--only", nargs="+", choices=list(BY_NAME), default=list(BY_NAME))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--weights", nargs="+", choices=[w.value for w in Weights], default=[w.value for w in Weights])
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true", help="print what there is, and do nothing")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rows = [json.loads(line) for line in given.results.read_text().splitlines()] if given.results.exists() else []
    done = {(r["plant"], r["seed"], r["weights"]) for r in rows}
    chosen = [p for p in PLANTS if p.name in given.only and given.half in (None, p.half) and not given.table]
    for plant in chosen:
        for seed in given.seeds:
            for weights in map(Weights, given.weights):
                if (plant.name, seed, weights) in done:
                    continue
                try:
                    rows.append(piece(given.folder.absolute(), plant, seed, weights))
                except FailedError as error:  # of the detection, without which there is no row; tried again next time
                    print(f"{plant.name}, seed {seed}: {error}", file=sys.stderr, flush=True)
                    continue
                with given.results.open("a") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
                print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    if given.json:
        emit({"rows": rows, "environment": environment().model_dump(mode="json")})
    else:
        print_table(rows)


if __name__ == "__main__":
    main()
