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
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.theme import Theme

CONTROL = dict.fromkeys([*range(32), *range(127, 160)], "\N{REPLACEMENT CHARACTER}") | {ord("\n"): "\n"}
UNSEEN = [
    0xAD, 0x61C, 0x180E, 0x200B, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2060, 0x2070), 0xFEFF,
    *range(0xFFF9, 0xFFFC), 0xE0001, *range(0xE0020, 0xE0080),
]  # fmt: skip
"""Characters that turn the direction of a text, end its line or hide in it; joiners, which scripts need, are none."""

ESCAPED = {code: f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}" for code in UNSEEN}
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
T = TypeVar("T")


def visible(text: str) -> str:
    """Text from outside that shows what it holds: U+202E and its like as escapes, control characters as U+FFFD."""
    return text.translate(ESCAPED | CONTROL)


def escape(text: str) -> str:
    """Text from outside, without markup and without control characters that a terminal would obey."""
    return escape_markup(visible(text))


class Talk:
    """The voice of one command. `quiet` keeps only errors, `verbose` adds details."""

    def __init__(self, *, quiet: bool = False, verbose: bool = False) -> None:
        self.quiet, self.verbose = quiet, verbose
        self.err = Console(stderr=True, theme=THEME, highlight=False)

    def say(self, text: str, style: str = "") -> None:
        """A line of talk."""
        if not self.quiet:
            self.err.print(escape(text), style=style or None)

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
        """A progress bar while the block runs."""
        columns = (
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=32), MofNCompleteColumn(),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[note]}"),
        )  # fmt: skip
        with Progress(*columns, console=self.err, disable=self.quiet) as progress:
            yield Bar(progress, progress.add_task(f"{title:<24}", total=total, note=""))

    def track(self, items: Iterable[T], title: str, total: int) -> Iterator[T]:
        """Pass items through, counting them."""
        with self.progress(title, total) as bar:
            for n, item in enumerate(items, 1):
                yield item
                bar.at(n)

    def table(
        self, title: str, columns: list[str], rows: Iterable[list[str]], text: Iterable[int] = (0,), cut: bool = False
    ) -> None:
        """A table; a cell that is one of the theme's words takes its colour.

        Where the terminal is narrow, the columns in `text` wrap, and the others stay whole. With `cut`, the first
        column ends in an ellipsis after about two lines.
        """
        if self.quiet:
            return
        wraps, rows = set(text), [list(row) for row in rows]
        if cut:
            most = max(CUT_LINES * self._share(columns, rows, wraps), CUT_LEAST)
            rows = [[shortened(first, most), *rest] for first, *rest in rows]
        table = Table(
            title=escape(title),
            title_justify="left",
            title_style="title",
            header_style="quiet",
            box=None,
            pad_edge=False,
        )
        for i, column in enumerate(columns):
            table.add_column(column, justify="left" if i in wraps else "right", overflow="fold", no_wrap=i not in wraps)
        for row in rows:
            table.add_row(*(f"[{cell}]{cell}[/]" if cell in THEME.styles else escape(cell) for cell in row))
        self.err.print()
        self.err.print(table)

    def _share(self, columns: list[str], rows: list[list[str]], wraps: set[int]) -> int:
        """What the columns that stay whole leave to each of the others."""
        whole = [max(cell_len(row[i]) for row in [columns, *rows]) for i in range(len(columns)) if i not in wraps]
        return (self.err.width - sum(whole) - len(columns) + 1) // max(1, len(wraps))


class Bar:
    """A running progress bar."""

    def __init__(self, progress: Progress, task: Any) -> None:
        self._progress, self._task = progress, task

    def at(self, done: int, note: str = "", total: int | None = None) -> None:
        """Set how much is done, and of how much if that was not known before."""
        self._progress.update(self._task, completed=done, note=escape(note), total=total)


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
