"""What the user sees: stdout is data, stderr is talk. Every text that comes from outside is escaped."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

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
THEME = Theme(
    {
        "memorized": "bold red", "persistent": "bold red", "damaged": "bold red", "changed": "bold yellow",
        "clean": "green", "mitigated": "bold green", "unchanged": "green", "undecided": "yellow",
        "hint": "cyan", "quiet": "bright_black", "title": "bold",
    }
)  # fmt: skip
T = TypeVar("T")


def escape(text: str) -> str:
    """Text from outside, without markup and without control characters that a terminal would obey."""
    return escape_markup(text.translate(CONTROL))


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

    def table(self, title: str, columns: list[str], rows: Iterable[list[str]], text: Iterable[int] = (0,)) -> None:
        """A table; a cell that is one of the theme's words takes its colour.

        Where the terminal is narrow, the columns in `text` wrap, and the others stay whole.
        """
        if self.quiet:
            return
        table = Table(
            title=escape(title),
            title_justify="left",
            title_style="title",
            header_style="quiet",
            box=None,
            pad_edge=False,
        )
        wraps = set(text)
        for i, column in enumerate(columns):
            table.add_column(column, justify="left" if i in wraps else "right", overflow="fold", no_wrap=i not in wraps)
        for row in rows:
            table.add_row(*(f"[{cell}]{cell}[/]" if cell in THEME.styles else escape(cell) for cell in row))
        self.err.print()
        self.err.print(table)


class Bar:
    """A running progress bar."""

    def __init__(self, progress: Progress, task: Any) -> None:
        self._progress, self._task = progress, task

    def at(self, done: int, note: str = "", total: int | None = None) -> None:
        """Set how much is done, and of how much if that was not known before."""
        self._progress.update(self._task, completed=done, note=escape(note), total=total)


def emit(data: Any) -> None:
    """Data on stdout, as one JSON document."""
    json.dump(data, sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")


def percent(share: float | None, digits: int = 0) -> str:
    """`0.5` → `50 %`; nothing → `-`."""
    return "-" if share is None else f"{share * 100:.{digits}f} %"
