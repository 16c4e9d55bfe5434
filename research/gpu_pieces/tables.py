"""Results as tables: on the terminal, and in README between its marks, which only real results of a GPU enter."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from gpu_pieces.fits import FITS, Fit
from gpu_pieces.lines import Line
from gpu_pieces.processes import FAILED, OK, SKIPPED, TIMEOUT

BEGIN, END = "<!-- gpu: begin -->", "<!-- gpu: end -->"
NOTHING = "Not measured on a GPU."


WORKS = (
    "demo", "tests", *(f"chain-{p}-{w}" for p in ("fp32", "bf16", "fp16") for w in ("lora", "full")), "adapter",
    "compile",
)  # fmt: skip
"""Pieces that measure nothing for the tables, but without which nobody knows whether memfix works there."""
ENDED = {FAILED: "the piece failed", TIMEOUT: "the piece was not done in time", SKIPPED: "not measured"}


class Wanted(NamedTuple):
    """A value of a piece, and what it is wanted to be on one H100 or H200."""

    what: str
    piece: str
    value: str
    bound: float
    at_least: bool
    unit: str

    def met(self, value: float) -> bool:
        """Whether a value is as wanted."""
        return value >= self.bound if self.at_least else value <= self.bound

    @property
    def words(self) -> str:
        """The bound."""
        return f"{'≥' if self.at_least else '≤'} {shown(self.bound, self.unit)}"


WANTED = [
    Wanted("full SISS step, batch 16, 512²: memory", "sd1-full", "batch16_reserved_gib", 45, False, "GiB"),
    Wanted(
        "the same: steps per second over the published form's", "sd1-full", "batch16_over_published", 1.5, True, "×"
    ),
    Wanted(
        "LoRA step, 16 items in 8 passes of 2, 512²: memory", "sd1-lora", "accumulated_reserved_gib", 16, False, "GiB"
    ),
    Wanted(
        "sampling 8 at once, 512²: images per second over the pipeline loop's", "sd1-sampling", "batch8_over_loop",
        1.3, True, "×",
    ),
    Wanted(
        "the same over the loop with weights in bf16", "sd1-sampling", "batch8_over_loop_bf16_weights", 1.3, True, "×"
    ),
    Wanted("sampling 8 at once: the UNet's share of the time", "sd1-sampling", "batch8_unet_share", 0.9, True, "%"),
]  # fmt: skip


def shown(value: float, unit: str, at_least: bool = True) -> str:
    """A number for a table, rounded away from what is wanted, so that what is not met does not look as if it were."""
    places, factor = (2, 1) if unit == "×" else (1, 100 if unit == "%" else 1)
    scaled = round(factor * value * 10**places, 6)  # 0.29 × 100 is to be 29
    return f"{(math.floor(scaled) if at_least else math.ceil(scaled)) / 10**places:.{places}f} {unit}"


def newest(lines: Iterable[Line]) -> dict[str, Line]:
    """The last line of each piece; one that is ok is not replaced by one that is not."""
    found: dict[str, Line] = {}
    for line in lines:
        old = found.get(line["piece"])
        if old is None or line["status"] == OK or old["status"] != OK:
            found[line["piece"]] = line
    return found


def met(wanted: Wanted, found: dict[str, Line]) -> tuple[str, str]:
    """What was measured, and whether it is as wanted."""
    line = found.get(wanted.piece, {})
    value = line.get("values", {}).get(wanted.value)
    if not isinstance(value, (int, float)):
        return "-", "not measured"
    words = shown(value, wanted.unit, wanted.at_least)
    if line["status"] != OK:
        return words, ENDED[line["status"]]
    return words, "met" if wanted.met(value) else "not met"


def fit(setting: Fit, found: dict[str, Line]) -> tuple[str, str]:
    """How much memory a setting took, and whether that is what a card has."""
    line = found.get(setting.name)
    if line is None:
        return "-", "not measured"
    held = line["values"].get("reserved_gib")
    words = shown(held, "GiB", False) if isinstance(held, (int, float)) else "-"
    if line["status"] == OK:
        return words, "fits"
    return words, "does not fit" if line["values"].get("out_of_memory") else ENDED[line["status"]]


def show(lines: Sequence[Line], console: Console) -> None:
    """All pieces, and what was wanted where that is what was measured: on a GPU, at true size."""
    found = newest(lines)
    table = Table("piece", "status", "seconds", "found", box=None, pad_edge=False)
    for name, line in found.items():
        values = ", ".join(f"{k} {v:g}" if isinstance(v, float) else f"{k} {v}" for k, v in line["values"].items())
        table.add_row(name, line["status"], str(line["seconds"]), "; ".join(filter(None, [line["reason"], values])))
    console.print(table, markup=False)
    if not any(line["device"] == "cuda" and not line["tiny"] for line in lines):
        return
    wanted = Table("wanted on one H100 or H200", "", "measured", "", box=None, pad_edge=False)
    for row in WANTED:
        wanted.add_row(row.what, row.words, *met(row, found))
    console.print()
    console.print(wanted)


def readme_part(lines: Iterable[Line]) -> str:
    """What README says: of the GPU and the code that have the newest line, whose lines alone count.

    Lines of a CPU and of tiny sizes are left out.
    """
    real = [line for line in lines if line["device"] == "cuda" and not line["tiny"] and line["status"] != SKIPPED]
    if not real:
        return NOTHING
    last = max(real, key=lambda line: line["date"])

    def kind(line: Line) -> tuple[object, ...]:
        return line["device_name"], line["code"], line["versions"].get("torch")

    found = newest(line for line in real if kind(line) == kind(last))
    bad = [f"`{name}` {line['status']}" for name, line in found.items() if line["status"] != OK]
    where = f"commit {last['commit'][:7]}" if last.get("commit") else f"code {last['code']}"
    where += " with local changes" if last.get("dirty") else ""
    head = (
        f"`python research/gpu.py` on one {last['device_name']}, {last['date'][:10]}, {where}, torch "
        f"{last['versions'].get('torch')}: {len(found) - len(bad)} of {len(found)} pieces ended well"
    )
    head += f" ({', '.join(bad)})." if bad else "."
    if never := [f"`{name}`" for name in WORKS if name not in found]:
        head += f" Not run: {', '.join(never)}."
    if old := next((x for line in found.values() if (x := line["values"].get("verdicts_of_other_code"))), ""):
        head += f" Of verdicts, {old}."
    rows = [f"| {w.what} | {w.words} | {' | '.join(met(w, found))} |" for w in WANTED]
    cards = [f"| {f.card} GiB | {f.words} | {' | '.join(fit(f, found))} |" for f in sorted(FITS, key=lambda f: f.card)]
    return "\n".join([
        head, "", "| | wanted | measured | |", "|---|---|---|---|", *rows,
        "", "| card | setting (training with `--prior-batch-size 0`) | takes | |", "|---|---|---|---|", *cards,
    ])  # fmt: skip


def write_readme(page: Path, lines: Iterable[Line]) -> None:
    """Renew what stands between the marks of a page, and nothing else. Raises ValueError if it has none."""
    text = page.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"{page} has no place between {BEGIN} and {END}")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    page.write_text(f"{before}{BEGIN}\n{readme_part(lines)}\n{END}{after}", encoding="utf-8")
