"""How far a command is: a bar on a terminal, and in a log a line now and then."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column

LINE_EVERY = 30.0
"""Seconds between two lines in a log."""

WIDE, MIDDLE = 110, 70
"""Columns of a terminal from which on there is room for the bar and the time taken, and for the time left."""


class Bar(Protocol):
    """What a work tells of how far it is."""

    def at(self, done: int, note: str = "", total: int | None = None) -> None:
        """Set how much is done, and of how much if that was not known before."""


@contextmanager
def progress(console: Console, title: str, total: int | None, quiet: bool) -> Iterator[Bar]:
    """A bar while the block runs; lines where nobody watches."""
    if not (quiet or console.is_terminal):
        lines = Lines(console, title, total)
        yield lines
        lines.end()
        return
    with Progress(*_columns(console.width), console=console, disable=quiet) as shown:
        most = 46 if console.width >= WIDE else 30 if console.width >= MIDDLE else console.width - 24
        if cell_len(title) > most:
            title = f"{set_cell_size(title, most - 1).rstrip()}…"
        yield _Bar(shown, shown.add_task(escape(title), total=total, note=""))


def _columns(width: int) -> list[ProgressColumn]:
    """What fits on one line: numbers stay whole, and the note ends where the line does."""
    told, whole = TextColumn("{task.description}", table_column=Column(no_wrap=True)), Column(no_wrap=True)
    count, left = MofNCompleteColumn(table_column=whole), TimeRemainingColumn(table_column=Column(no_wrap=True))
    if width < MIDDLE:
        return [told, count, left]
    last = TextColumn("{task.fields[note]}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1))
    if width < WIDE:
        return [SpinnerColumn(), told, count, TextColumn("left"), left, last]
    taken = TimeElapsedColumn(table_column=Column(no_wrap=True))
    return [SpinnerColumn(), told, BarColumn(bar_width=24), count, taken, TextColumn("left"), left, last]


class _Bar:
    """A running bar of rich's."""

    def __init__(self, shown: Progress, task: Any) -> None:
        self._shown, self._task = shown, task

    def at(self, done: int, note: str = "", total: int | None = None) -> None:
        self._shown.update(self._task, completed=done, note=escape(note), total=total)


class Lines:
    """A line each LINE_EVERY seconds, and one at the end."""

    def __init__(self, console: Console, title: str, total: int | None) -> None:
        self._console, self._title, self._total = console, title, total
        self._done, self._note = 0, ""
        self._began = self._told = time.monotonic()

    def at(self, done: int, note: str = "", total: int | None = None) -> None:
        """Take note, and tell if the last line is old enough."""
        self._done, self._note, self._total = done, note, total or self._total
        if time.monotonic() - self._told >= LINE_EVERY:
            self._tell(ended=False)

    def end(self) -> None:
        """Tell where the work ended."""
        self._tell(ended=True)

    def _tell(self, ended: bool) -> None:
        now = self._told = time.monotonic()
        taken = now - self._began
        of = f" of {self._total:,}" if self._total is not None else ""
        told = f"{self._title}: {self._done:,}{of}, {_clock(taken)}"
        if not ended and self._done and self._total:
            told += f", {_clock(taken / self._done * (self._total - self._done))} left"
        note = f", {' '.join(self._note.split())}" if self._note else ""
        self._console.print(escape(told + note), soft_wrap=True)


def _clock(seconds: float) -> str:
    """`0:31`, `1:02:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
