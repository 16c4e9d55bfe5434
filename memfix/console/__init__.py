"""What the user sees: stdout is data, stderr is talk. Every text that comes from outside is escaped."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.markup import escape as escape_markup
from rich.padding import Padding
from rich.table import Table
from rich.theme import Theme

from memfix.console.progress import Bar, progress

CONTROL = dict.fromkeys([*range(32), *range(127, 160)], "\N{REPLACEMENT CHARACTER}") | {ord("\n"): "\n"}
UNSEEN = [
    0xAD, 0x61C, 0x180E, 0x200B, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2060, 0x2070), 0xFEFF,
    *range(0xFFF9, 0xFFFC), 0xE0001, *range(0xE0020, 0xE0080),
]  # fmt: skip
"""Characters that turn the direction of a text, end its line or hide in it; joiners, which scripts need, are none."""

ESCAPED = {code: f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}" for code in UNSEEN}
GAP = 2  # columns of a terminal between two of a table
CUT_LINES, CUT_LEAST = 2, 48
"""Texts in tables of results are cut to so many lines of their column, and to no fewer characters."""

THEME = Theme(
    {
        "memorized": "bold red", "persistent": "bold red", "hidden": "bold red", "damaged": "bold red",
        "changed": "bold yellow", "undecided": "yellow", "clean": "green", "mitigated": "bold green",
        "unchanged": "green",
        "hint": "cyan", "quiet": "bright_black", "title": "bold",
    }
)  # fmt: skip
WELL = ("clean", "mitigated", "unchanged")
T = TypeVar("T")


def visible(text: str) -> str:
    """Text from outside that shows what it holds: U+202E and its like as escapes, control characters as U+FFFD."""
    return text.translate(ESCAPED | CONTROL)


def escape(text: str) -> str:
    """Text from outside, without markup and without control characters that a terminal would obey."""
    return escape_markup(visible(text))


class Talk:
    """The voice of one command: results go to stdout, and all else to stderr. `quiet` keeps only errors, `verbose`
    adds details; with `data`, stdout belongs to JSON, and results go to stderr as well."""

    def __init__(self, *, quiet: bool = False, verbose: bool = False, data: bool = False) -> None:
        self.quiet, self.verbose = quiet, verbose
        self.err = Console(stderr=True, theme=THEME, highlight=False)
        self.out = self.err if data else Console(theme=THEME, highlight=False)

    def say(self, text: str, style: str = "") -> None:
        """A line of talk."""
        if not self.quiet:
            self.err.print(escape(text), style=style or None)

    def tell(self, text: str, style: str = "") -> None:
        """A line of the result."""
        if not self.quiet:
            self.out.print(escape(text), style=style or None)

    def detail(self, text: str) -> None:
        """A line for `--verbose`."""
        if self.verbose:
            self.say(text, "quiet")

    def warn(self, text: str) -> None:
        """Something the user should know and need not mend."""
        self.err.print(f"[yellow]Warning:[/] {escape(text)}")

    def error(self, message: str, hint: str) -> None:
        """What is wrong and what to do next."""
        self.err.print(f"[bold red]Error:[/] {escape(message)}", soft_wrap=True)
        if hint:
            self.err.print(f"[hint]Next:[/] {escape(hint)}", soft_wrap=True)

    @contextmanager
    def progress(self, title: str, total: int | None = None) -> Iterator[Bar]:
        """A progress bar while the block runs; lines in a log."""
        with progress(self.err, title, total, self.quiet) as bar:
            yield bar

    def track(self, items: Iterable[T], title: str, total: int) -> Iterator[T]:
        """Pass items through, counting them."""
        with self.progress(title, total) as bar:
            for n, item in enumerate(items, 1):
                yield item
                bar.at(n)

    def table(
        self, title: str, columns: list[str], rows: Iterable[list[str]], text: Iterable[int] = (0,), cut: bool = False
    ) -> None:
        """A table of the result; a cell that is one of the theme's words takes its colour.

        Where the terminal is narrow, the columns in `text` wrap between words, and the others stay whole; where it is
        too narrow even for that, each row is written below itself. With `cut`, the first column ends in an ellipsis
        after about two lines.
        """
        if self.quiet:
            return
        wraps, rows = set(text), [list(row) for row in rows]
        if cut:
            most = max(CUT_LINES * self._share(columns, rows, wraps), CUT_LEAST)
            rows = [[shortened(first, most), *rest] for first, *rest in rows]
        self.out.print()
        widths = _widths(columns, rows, wraps, self.out.width)
        if widths is None:
            self._stacked(title, columns, rows)
            return
        table = Table(
            title=escape(title),
            title_justify="left",
            title_style="title",
            header_style="quiet",
            box=None,
            pad_edge=False,
            padding=(0, GAP, 0, 0),
        )
        for i, column in enumerate(columns):
            table.add_column(column, justify="left" if i in wraps else "right", width=widths[i], no_wrap=i not in wraps)
        for row in rows:
            table.add_row(*(_cell(cell) for cell in row))
        self.out.print(table)

    def _stacked(self, title: str, columns: list[str], rows: list[list[str]]) -> None:
        """A table whose rows are too wide: the first cell of each, and the others below it, with their columns."""
        self.out.print(escape(title), style="title")
        for first, *rest in rows:
            self.out.print(_cell(first), overflow="fold")
            for column, cell in zip(columns[1:], rest, strict=True):
                if cell:
                    told = f"[quiet]{escape(column)}[/] {_cell(cell)}" if column else _cell(cell)
                    self.out.print(Padding(told, (0, 0, 0, 2)), overflow="fold")

    def _share(self, columns: list[str], rows: list[list[str]], wraps: set[int]) -> int:
        """What the columns that stay whole leave to each of the others."""
        whole = [max(cell_len(row[i]) for row in [columns, *rows]) for i in range(len(columns)) if i not in wraps]
        return (self.out.width - sum(whole) - GAP * (len(columns) - 1)) // max(1, len(wraps))


def _cell(cell: str) -> str:
    """A cell in the colour of its word, if it has one. A word with a remark in brackets keeps its colour unless that
    says that all is well, which the remark may qualify."""
    word = cell.split(" (")[0]
    known = word in THEME.styles and (word == cell or word not in WELL)
    return f"[{word}]{escape(cell)}[/]" if known else escape(cell)


def _widths(columns: list[str], rows: list[list[str]], wraps: set[int], most: int) -> list[int] | None:
    """The widths of columns that fit into `most`, without breaking a number or a name; None if there are none.

    Those that wrap share what the others leave, and none takes more than it needs.
    """
    cells = [[column, *(row[i] for row in rows)] for i, column in enumerate(columns)]
    whole = [max(map(cell_len, own)) for own in cells]
    least = [max((cell_len(word) for cell in own for word in cell.split()), default=0) for own in cells]
    found = [least[i] if i in wraps else whole[i] for i in range(len(columns))]
    left = most - sum(found) - GAP * (len(columns) - 1)
    if left < 0:
        return None
    while left and (short := [i for i in wraps if found[i] < whole[i]]):
        found[min(short, key=lambda i: found[i])] += 1
        left -= 1
    return found


def emit(data: Any) -> None:
    """Data on stdout, as one JSON document, in whatever encoding stdout has."""
    json.dump(data, sys.stdout, indent=2, ensure_ascii=sys.stdout.encoding.lower().replace("-", "") != "utf8")
    sys.stdout.write("\n")


def shortened(text: str, most: int) -> str:
    """A text of at most so many columns, with an ellipsis where it was cut."""
    text = visible(text)
    return text if cell_len(text) <= most else f"{set_cell_size(text, most - 1).rstrip()}…"


def counted(count: int | str, noun: str) -> str:
    """`1 prompt`, `2 prompts`, `no prompts`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def count_of(count: int | str, total: int, noun: str) -> str:
    """`1 of 4 prompts`, `1 of 1 prompt`."""
    return f"{count} of {counted(total, noun)}"


def are(count: int, past: bool = False) -> str:
    """The verb to a number of things."""
    return ("was" if past else "is") if count == 1 else ("were" if past else "are")


def duration(seconds: float) -> str:
    """`40 seconds`, `12 minutes`, `3.5 hours`."""
    if seconds < 120:
        return counted(round(seconds), "second")
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"


def near_percent(share: float | None, digits: int = 0) -> str:
    """`percent`, which says 0 % and 100 % only where it is so: `0.998` → `over 99 %`."""
    least = 10.0 ** -(digits + 2)
    if share is not None and 0 < share < least / 2:
        return f"under {percent(least, digits)}"
    if share is not None and 1 - least / 2 <= share < 1:
        return f"over {percent(1 - least, digits)}"
    return percent(share, digits)


def percent(share: float | None, digits: int = 0) -> str:
    """`0.5` → `50 %`; nothing → `-`."""
    return "-" if share is None else f"{share * 100:.{digits}f} %"
