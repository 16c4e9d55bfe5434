"""Write the tables of unlearning_study.md and pictures/pareto.svg in this folder from results/unlearning.jsonl.

python research/unlearning_study.py
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable
from functools import partial
from html import escape
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "unlearning.jsonl"
PAGE, PICTURE = HERE / "unlearning_study.md", HERE / "pictures" / "pareto.svg"
FULL, PARTLY, TEMPLATE = "fully memorized", "partly memorized", "template"
SIXTEEN = "sixteen"

Row = dict[str, Any]


class Column(NamedTuple):
    """A figure of a cell, and how it is written."""

    title: str
    value: Callable[[Row], float | None]
    style: str = "{:.0f}"


def share(key: str, group: str) -> Callable[[Row], float | None]:
    """Percent of the prompts of a group that a count of them is; none where the group has none."""

    def value(row: Row) -> float | None:
        found = row["groups"].get(group)
        return None if found is None else 100 * found[key] / found["prompts"]

    return value


success, useful = partial(share, "success"), partial(share, "useful")


def shown(group: str) -> Callable[[Row], float | None]:
    """Percent of a group's fresh samples that show the object which the prompt names."""

    def value(row: Row) -> float | None:
        found = row["groups"].get(group)
        return None if found is None else 100 * found["shown"] / found["samples"]

    return value


def total(row: Row, key: str, groups: Iterable[str] = (FULL, PARTLY, TEMPLATE)) -> int:
    """Sum of a count over groups."""
    return sum(row["groups"][g][key] for g in groups if g in row["groups"])


def change(kind: str) -> Callable[[Row], float]:
    """Percentage points of pictures that show the object of their prompt: after less before, same noise."""
    return lambda row: 100 * (row[kind]["shown_after"] - row[kind]["shown_before"]) / row[kind]["samples"]


COPIES = Column("fresh copies, %", lambda r: 100 * total(r, "copies") / total(r, "samples"), "{:.2f}")
BROKEN = Column("broken, %", lambda r: 100 * total(r, "broken") / total(r, "samples"), "{:.1f}")
HARM = [
    Column("controls, points", change("controls"), "{:+.1f}"),
    Column("unseen, points", change("unseen"), "{:+.1f}"),
    Column("drift", lambda r: r["controls"]["drift"], "{:.3f}"),
]
FORGOTTEN = [
    Column("full, %", success(FULL)), Column("partly, %", success(PARTLY)), Column("template, %", success(TEMPLATE)),
    COPIES,
]  # fmt: skip
SHOWN = [
    Column("full useful, %", useful(FULL)), Column("partly useful, %", useful(PARTLY)),
    Column("template useful, %", useful(TEMPLATE)), Column("full shows, %", shown(FULL)),
    Column("partly shows, %", shown(PARTLY)), BROKEN,
]  # fmt: skip
COST = [
    Column("steps", lambda r: r["steps"]),
    Column("seconds of the processor", lambda r: r.get("cpu_seconds")),
    Column("peak, GB", lambda r: r["peak_memory_bytes"] / 1e9, "{:.2f}"),
]


def read() -> dict[str, list[Row]]:
    """Variant → its cells, by seed."""
    variants: dict[str, list[Row]] = {}
    for line in RESULTS.read_text().splitlines():
        row = json.loads(line)
        variants.setdefault(row["variant"], []).append(row)
    return {name: sorted(rows, key=lambda r: r["seed"]) for name, rows in variants.items()}


def cell(column: Column, rows: list[Row]) -> str:
    """Mean over seeds, and with several ± their standard deviation."""
    values = [v for row in rows if (v := column.value(row)) is not None]
    if not values:
        return "–"
    spread = f" ± {column.style.replace('+', '').format(stdev(values))}" if len(values) > 1 else ""
    return column.style.format(mean(values) + 0.0) + spread


def written(rows: list[Row]) -> str:
    """What differs from the preset, the method apart."""
    settings = {k: v for k, v in rows[0]["settings"].items() if k not in ("method", "reword")}
    return ", ".join(f"`{k} = {v}`" for k, v in settings.items())


def table(found: dict[str, list[Row]], names: Iterable[str], columns: list[Column]) -> str:
    """One line a variant, in Markdown; variants that have not been run are left out."""
    heads = ["variant", "settings", "seeds", *(c.title for c in columns)]
    lines = [heads, ["---"] * len(heads)]
    for name in names:
        rows = found.get(name, [])
        if done := [r for r in rows if "refused" not in r]:
            lines.append([name, written(done), str(len(done)), *(cell(c, done) for c in columns)])
        elif rows:
            lines.append([name, written(rows), "refused", *[""] * len(columns)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


# -- picture ----------------------------------------------------------------------------------------------------

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 900, 520, 62, 24, 20, 56
TICKS = (-90, -50, -25, -10, -5, -2, 0, 2)
INK, GRID, FRONT, POINT = "#222222", "#dddddd", "#c9a227", "#1f5fa8"
TALL, WIDE = 14, 6.4  # of a label's line, and of its average letter


class Point(NamedTuple):
    """A variant in the plot: change of controls in points, success in percent."""

    name: str
    harm: float
    success: float


class Box(NamedTuple):
    """A rectangle of the picture."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Box) -> bool:
        """Whether two rectangles overlap."""
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom


FRAME = Box(LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM)


def place(harm: float, success: float, least: float) -> tuple[float, float]:
    """Where a point is drawn. The root of the harm is linear, so that 2 points can be told from 0 beside 90."""

    def root(v: float) -> float:
        return math.copysign(math.sqrt(abs(v)), v)

    low, high = root(TICKS[0] - 10), root(TICKS[-1] + 1)
    x = FRAME.left + (root(harm) - low) / (high - low) * (FRAME.right - FRAME.left)
    margin = 0.05 * (100 - least)
    share = (100 + margin - success) / (100 - least + 2 * margin)
    return x, FRAME.top + share * (FRAME.bottom - FRAME.top)


def best(points: list[Point]) -> list[Point]:
    """Those that no other beats, from the most harm to the least."""
    front = [
        p for p in points if not any(q.harm >= p.harm and q.success >= p.success and q[1:] != p[1:] for q in points)
    ]
    return sorted(front, key=lambda p: p.harm)


def label(x: float, y: float, text: str, taken: list[Box]) -> Box:
    """The free place for a label that is nearest to its point; it is taken then."""
    wide = len(text) * WIDE
    spots = [
        Box(x + dx, y + dy, x + dx + wide, y + dy + TALL)
        for far in range(9, 90, 3)
        for dx, dy in ((far, -TALL / 2), (-far - wide, -TALL / 2), (far, far - 9), (far, 9 - far - TALL),
                       (-wide / 2, far - 2), (-wide / 2, 2 - far - TALL), (-far - wide, far - 9))
    ]  # fmt: skip
    inside = [s for s in spots if s.left > LEFT and s.right < WIDTH and s.top > 0 and s.bottom < FRAME.bottom]
    found = next((s for s in inside if not any(s.meets(other) for other in taken)), spots[0])
    taken.append(found)
    return found


def draw(points: list[Point]) -> str:
    """The plot as SVG."""
    least = min(p.success for p in points) // 20 * 20
    parts = []
    for v in TICKS:
        x, _ = place(v, 100, least)
        tick = f"{v:+d}" if v else "0"
        parts.append(f'<line x1="{x:.1f}" y1="{FRAME.top}" x2="{x:.1f}" y2="{FRAME.bottom}" stroke="{GRID}"/>')
        parts.append(f'<text x="{x:.1f}" y="{FRAME.bottom + 18}" text-anchor="middle">{tick}</text>')
    for v in range(int(least), 101, 10):
        _, y = place(0, v, least)
        parts.append(f'<line x1="{FRAME.left}" y1="{y:.1f}" x2="{FRAME.right}" y2="{y:.1f}" stroke="{GRID}"/>')
        parts.append(f'<text x="{FRAME.left - 8}" y="{y + 4:.1f}" text-anchor="end">{v} %</text>')
    line = " ".join("{:.1f},{:.1f}".format(*place(p.harm, p.success, least)) for p in best(points))
    parts.append(f'<polyline points="{line}" fill="none" stroke="{FRONT}" stroke-width="2"/>')
    places = [place(p.harm, p.success, least) for p in points]
    taken = [Box(x - 6, y - 6, x + 6, y + 6) for x, y in places]
    for point, (x, y) in sorted(zip(points, places, strict=True), key=lambda item: -item[1][0]):
        box = label(x, y, point.name, taken)
        near = min(max(x, box.left), box.right), min(max(y, box.top), box.bottom)
        if abs(near[0] - x) + abs(near[1] - y) > 14:
            parts.append(f'<path d="M{x:.1f} {y:.1f}L{near[0]:.1f} {near[1]:.1f}" stroke="{POINT}" stroke-width=".6"/>')
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{POINT}"/>')
        parts.append(f'<text x="{box.left:.1f}" y="{box.bottom - 3:.1f}" fill="{POINT}">{escape(point.name)}</text>')
    middle = (FRAME.left + FRAME.right) / 2
    under = "controls that show their object: change in percentage points (root scale)"
    parts.append(f'<text x="{middle}" y="{HEIGHT - 12}" text-anchor="middle">{under}</text>')
    parts.append(
        f'<text transform="translate(14 {HEIGHT / 2 - 20}) rotate(-90)" text-anchor="middle">'
        "fully and partly memorized prompts without a copy</text>"
    )
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="12" fill="{INK}">\n<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>\n{body}\n</svg>\n'
    )


# -- page -------------------------------------------------------------------------------------------------------


def of_all(row: Row) -> float:
    """Percent of fully and partly memorized prompts that are rid of their copies."""
    found = [row["groups"][g] for g in (FULL, PARTLY)]
    return float(100 * sum(g["success"] for g in found) / sum(g["prompts"] for g in found))


def points(found: dict[str, list[Row]], names: Iterable[str]) -> list[Point]:
    """A point for each variant that was run, at its means."""
    harm = change("controls")
    done = {name: [r for r in found.get(name, []) if "refused" not in r] for name in names}
    return [Point(n, mean(map(harm, rows)), mean(map(of_all, rows))) for n, rows in done.items() if rows]


class Sorts(NamedTuple):
    """Names of variants, by the table that they belong to."""

    methods: list[str]
    changed: list[str]
    """siss with one setting changed"""
    single: list[str]
    """one target"""
    several: list[str]
    """16 targets"""


def sorts(found: dict[str, list[Row]]) -> Sorts:
    """Where each variant belongs."""
    other = [n for n, rows in found.items() if rows[0]["targets"] != "demo"]
    several = [n for n in other if found[n][0]["targets"] == SIXTEEN]
    changed = [n for n in found if n.startswith(("siss, t ", "siss, all t", "siss, mixture", "siss, ratio"))]
    methods = [n for n in found if n not in {*other, *changed}]
    return Sorts(methods, changed, [n for n in other if n not in several], several)


def tables(found: dict[str, list[Row]]) -> dict[str, str]:
    """Name of each marked place of the page → what belongs there."""
    methods, changed, single, several = sorts(found)

    def around(*starts: str) -> list[str]:
        return ["siss", *(n for n in changed if n.startswith(starts))]

    return {
        "methods": table(found, methods, [*FORGOTTEN, *HARM]),
        "shown": table(found, methods, SHOWN),
        "cost": table(found, methods, COST),
        "window": table(found, around("siss, t ", "siss, all t"), [*FORGOTTEN, BROKEN, *HARM]),
        "mixture": table(found, around("siss, mixture"), [*FORGOTTEN, BROKEN, *HARM]),
        "ratio": table(found, around("siss, ratio"), [*FORGOTTEN, BROKEN, *HARM]),
        "modes": table(found, [n for n in methods if n in ("siss", "siss, no-is")], [*FORGOTTEN, *HARM, *COST]),
        "several": table(found, several, [FORGOTTEN[0], FORGOTTEN[1], COPIES, *HARM, *SHOWN[:2], *COST[:1]]),
        "single": table(found, single, [FORGOTTEN[0], FORGOTTEN[1], COPIES, *HARM, *SHOWN[:2]]),
    }


def page(text: str, found: dict[str, list[Row]]) -> str:
    """The page with its tables written anew, each between its two marks."""
    for name, lines in tables(found).items():
        text = between_marks(text, name, lines)
    return text


def between_marks(text: str, name: str, lines: str) -> str:
    """The page with other lines in one of its marked places."""
    mark, end = f"<!-- table: {name} -->\n", "<!-- end -->"
    return re.sub(f"{re.escape(mark)}.*?{end}", lambda _: mark + lines + end, text, flags=re.S)


def main() -> None:
    """Read the lines, write page and picture."""
    found = read()
    PAGE.write_text(page(PAGE.read_text(), found))
    repeated = [name for name in sorts(found).methods if len(found[name]) > 1]
    PICTURE.write_text(draw(points(found, repeated)))


if __name__ == "__main__":
    main()
