"""Write the tables of docs/unlearning_study.md and docs/pictures/pareto.svg from benchmarks/results/unlearning.jsonl.

python docs/unlearning_study.py
"""

import json
import re
from collections.abc import Callable, Iterable
from functools import partial
from html import escape
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

HERE = Path(__file__).parent
RESULTS = HERE.parent / "benchmarks" / "results" / "unlearning.jsonl"
PAGE, PICTURE = HERE / "unlearning_study.md", HERE / "pictures" / "pareto.svg"
FULL, PARTLY, TEMPLATE = "fully memorized", "partly memorized", "template"

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
    Column("seconds", lambda r: r["seconds"]),
    Column("of the processor", lambda r: r.get("cpu_seconds")),
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
INK, GRID, FRONT, POINT, OTHER = "#222222", "#dddddd", "#c9a227", "#1f5fa8", "#9aa5b1"
TALL, WIDE = 15, 6.6  # of a label's line, and of its average letter


class Point(NamedTuple):
    """A variant in the plot: change of controls in points, success in percent."""

    name: str
    harm: float
    success: float


def place(harm: float, success: float) -> tuple[float, float]:
    """Where a point is drawn. The root of the harm is linear, so that 2 points can be told from 0 beside 90."""

    def root(v: float) -> float:
        return (abs(v) ** 0.5) * (1 if v > 0 else -1)

    low, high = root(TICKS[0] - 10), root(TICKS[-1] + 1)
    x = LEFT + (root(harm) - low) / (high - low) * (WIDTH - LEFT - RIGHT)
    return x, TOP + (104 - success) / 108 * (HEIGHT - TOP - BOTTOM)


def best(points: list[Point]) -> list[Point]:
    """Those that no other beats in both, by harm."""
    return sorted(
        p for p in points if not any(q.harm >= p.harm and q.success >= p.success and q[1:] != p[1:] for q in points)
    )


def label(x: float, y: float, text: str, taken: list[tuple[float, float, float, float]]) -> tuple[float, float]:
    """Left end of a label's base line: the nearest place around a point where it covers nothing."""
    wide = len(text) * WIDE
    spots = [
        (x + dx, y + dy)
        for far in range(8)
        for dy in (4 + far * TALL * 0.7, 4 - far * TALL * 0.7)
        for dx in (9, -9 - wide, -wide / 2)
        if far or dx != -wide / 2
    ]

    def free(spot: tuple[float, float]) -> bool:
        a, b, c, d = spot[0], spot[1] - TALL + 3, spot[0] + wide, spot[1] + 3
        inside = a > LEFT and c < WIDTH and b > 0 and d < HEIGHT - BOTTOM
        return inside and all(c < left or a > right or d < top or b > bottom for left, top, right, bottom in taken)

    found = next((s for s in spots if free(s)), spots[0])
    taken.append((found[0], found[1] - TALL + 3, found[0] + wide, found[1] + 3))
    return found


def draw(points: list[Point], strong: set[str]) -> str:
    """The plot as SVG; `strong` names the variants that are methods, the others vary one setting."""
    parts = []
    for v in TICKS:
        x, _ = place(v, 0)
        parts.append(f'<line x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{HEIGHT - BOTTOM}" stroke="{GRID}"/>')
        parts.append(
            f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{f"{v:+d}" if v else 0}</text>'
        )
    for v in range(0, 101, 20):
        _, y = place(0, v)
        parts.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="{GRID}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{v} %</text>')
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(p.harm, p.success) for p in best(points)))
    parts.append(f'<polyline points="{line}" fill="none" stroke="{FRONT}" stroke-width="2"/>')
    places = [place(p.harm, p.success) for p in points]
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in places]
    for point, (x, y) in zip(points, places, strict=True):
        color = POINT if point.name in strong else OTHER
        left, base = label(x, y, point.name, taken)
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{color}"/>')
        parts.append(f'<text x="{left:.1f}" y="{base:.1f}" fill="{color}">{escape(point.name)}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
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
    return 100 * sum(g["success"] for g in found) / sum(g["prompts"] for g in found)


def points(found: dict[str, list[Row]], names: Iterable[str]) -> list[Point]:
    """A point for each variant that was run, at its means."""
    harm = change("controls")
    done = {name: [r for r in found.get(name, []) if "refused" not in r] for name in names}
    return [Point(n, mean(map(harm, rows)), mean(map(of_all, rows))) for n, rows in done.items() if rows]


def tables(found: dict[str, list[Row]]) -> dict[str, str]:
    """Name of each marked place of the page → what belongs there."""
    names = list(found)
    single = [n for n in names if found[n][0]["targets"] != "demo"]
    study = [n for n in names if n.startswith(("siss, t ", "siss, all t", "siss, mixture", "siss, ratio"))]
    methods = [n for n in names if n not in {*single, *study}]

    def around(*starts: str) -> list[str]:
        return ["siss", *(n for n in study if n.startswith(starts))]

    return {
        "methods": table(found, methods, [*FORGOTTEN, *HARM]),
        "shown": table(found, methods, SHOWN),
        "cost": table(found, methods, COST),
        "window": table(found, around("siss, t ", "siss, all t"), [*FORGOTTEN, *HARM]),
        "mixture": table(found, around("siss, mixture"), [*FORGOTTEN, *HARM]),
        "ratio": table(found, around("siss, ratio"), [*FORGOTTEN, *HARM]),
        "modes": table(found, [n for n in methods if n in ("siss", "siss, no-is")], [*FORGOTTEN, *HARM, *COST]),
        "single": table(found, single, [FORGOTTEN[0], FORGOTTEN[1], COPIES, *HARM, *SHOWN[:2]]),
    }


def page(text: str, found: dict[str, list[Row]]) -> str:
    """The page with its tables written anew, each between its two marks."""
    for name, lines in tables(found).items():
        mark, end = f"<!-- table: {name} -->\n", "<!-- end -->"
        text = re.sub(f"{re.escape(mark)}.*?{end}", lambda _, new=mark + lines + end: new, text, flags=re.S)
    return text


def main() -> None:
    """Read the lines, write page and picture."""
    found = read()
    PAGE.write_text(page(PAGE.read_text(), found))
    demo = [n for n, rows in found.items() if rows[0]["targets"] == "demo"]
    PICTURE.write_text(draw(points(found, demo), {n for n in demo if "seeds" not in n}))


if __name__ == "__main__":
    main()
