"""Rows of CSV and TSV files. A quote that is wrong costs its own row, never the rows below it.

TSV is written without quotes (LAION, CC3M): a quote is text unless a whole cell is in quotes, on one line. In CSV a
cell in quotes may go over several lines.
"""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from memfix.errors import MemfixError
from memfix.inputs import columns
from memfix.inputs.wrong_rows import WrongRows

SEPARATORS = "\t;,|"
MOST_LINES = 200
"""Lines of one row; a quote that is open for longer was never closed."""

SEPARATOR = re.compile(r"sep=([\t;,|])", re.IGNORECASE)
"""The first line that Excel writes."""

QUOTED = re.compile(r'\s*"((?:[^"]|"")*)"\s*')
QUOTED_OR_NOT = re.compile(r'(?:^|\t)(\s*"(?:[^"]|"")*"\s*(?=\t|$)|[^\t]*)')
NUMBER = re.compile(r"[-+]?\d+(?:[.,]\d+)?(?:[eE][-+]?\d+)?")

Line = tuple[int, str]


class RawRow(NamedTuple):
    """Cells as they stand in the file, and the line that they begin on."""

    line: int
    cells: list[str]


class Head(NamedTuple):
    """What the first row tells of the others: the number of columns (0 of itself), and if one, whether in quotes."""

    width: int
    is_quoted: bool


def separated_rows(path: Path, numbered: Iterable[Line], wrong: WrongRows) -> Iterator[tuple[int, dict[str, str]]]:
    """The line and the cells, by normal column name, of every row; `numbered` are the file's lines with their ends.

    Raises MemfixError for a first row that cannot be read: without names of columns no other row can.
    """
    source = _Lines(numbered)
    head = next((line for line in source if line[1].strip()), None)
    if head is None:
        return
    named, separator = SEPARATOR.fullmatch(head[1].strip()), ""
    while head and (named or _is_comment(head[1])):
        separator = named[1] if named else separator
        head = next((line for line in source if line[1].strip()), None)
        named = None
    if head is None:
        return
    source.give_back([head])
    separator = separator or max(SEPARATORS, key=head[1].count)
    read = _tsv if path.suffix.lower() != ".csv" and separator == "\t" else _csv
    before, names, is_quoted = RawRow(0, []), list[str](), bool(QUOTED.fullmatch(head[1]))
    while True:
        try:
            record = read(source, separator, Head(len(names), is_quoted), before)
        except _WrongRowError as error:
            if not names:
                raise MemfixError(f"{path}:{error.line} {error}.", "Correct the names of the columns.") from None
            wrong.add(f"{path}:{error.line}", str(error), "Correct the quotes.")
            continue
        if record is None:
            return
        if not any(cell.strip() for cell in record.cells):
            continue
        if not names:
            names = columns.unnamed(record.cells)
            if names:
                yield record.line, dict(zip(names, record.cells, strict=True))
            names = names or columns.renamed([columns.normal(cell) for cell in record.cells])
            if twice := columns.named_twice(names):
                raise MemfixError(f"{path}:{record.line} names the column '{twice}' twice.", columns.RENAME)
        elif any(cell.strip() for cell in record.cells[len(names) :]):
            wrong.add(f"{path}:{record.line}", "has more cells than there are columns", "Put quotes around its text.")
        else:
            before = record
            missing = [""] * (len(names) - len(record.cells))  # a row that ends early has nothing in its last columns
            yield record.line, dict(zip(names, [*record.cells, *missing], strict=False))


def _is_comment(first: str) -> bool:
    """Whether a line above the names of columns is a comment: none of these is in it."""
    cells = first.lstrip("# ").split(max(SEPARATORS, key=first.count))
    return first.startswith("#") and not any(columns.known(columns.normal(c.strip().strip('"'))) for c in cells)


class _WrongRowError(Exception):
    def __init__(self, line: int, problem: str) -> None:
        super().__init__(problem)
        self.line = line


class _Lines(Iterator[Line]):
    """Numbered lines, of which some can be given back."""

    def __init__(self, numbered: Iterable[Line]) -> None:
        self._numbered, self._back = iter(numbered), deque[Line]()

    def __next__(self) -> Line:
        return self._back.popleft() if self._back else next(self._numbered)

    def give_back(self, lines: Sequence[Line]) -> None:
        self._back.extendleft(reversed(lines))


def _tsv(source: _Lines, separator: str, head: Head, before: RawRow) -> RawRow | None:
    """The row on the next line, or None at the end. Tabs inside quotes count as text only where a row is too long."""
    line = next(source, None)
    if line is None:
        return None
    text = line[1].rstrip("\r\n")
    cells = text.split(separator)
    if head.width and len(cells) > head.width:
        cells = QUOTED_OR_NOT.findall(text)
    elif len(cells) < head.width and _opens(cells[-1]):
        raise _WrongRowError(line[0], "opens a quote and ends inside of it")
    return RawRow(line[0], [m[1].replace('""', '"') if (m := QUOTED.fullmatch(cell)) else cell for cell in cells])


def _opens(cell: str) -> bool:
    """Whether a cell begins with a quote that it does not close."""
    return cell.lstrip().startswith('"') and not QUOTED.fullmatch(cell)


def _csv(source: _Lines, separator: str, head: Head, before: RawRow) -> RawRow | None:
    """The row that begins on the next line, or None at the end. `before` is the last row that was read.

    Of a row that fails, all lines but the first are given back: they are read as rows of their own.
    """
    first = next(source, None)
    if first is None:
        return None
    number, text = first
    if '"' not in text:
        return RawRow(number, [cell.lstrip(" ") for cell in text.rstrip("\r\n").split(separator)])
    taken = [first]

    def feed() -> Iterator[str]:
        yield text
        for line in islice(source, MOST_LINES - 1):
            taken.append(line)
            yield line[1]

    try:
        cells = next(csv.reader(feed(), delimiter=separator, skipinitialspace=True, strict=True))
        problem = "opens a quote that takes in rows below it" if _takes_rows(taken, separator, head, before) else ""
    except csv.Error as error:
        cells, problem = [], f"is not a row of a table: {error}"
    if not problem:
        return RawRow(number, cells)
    source.give_back(taken[1:])
    over = f" (its quote was followed to line {taken[-1][0]}; read on from line {taken[1][0]})" if taken[1:] else ""
    raise _WrongRowError(number, problem + over)


def _takes_rows(taken: Sequence[Line], separator: str, head: Head, before: RawRow) -> bool:
    """Whether a row over several lines is rather several rows, the first of them with a quote that was never closed.

    That is so if a line below the first looks as rows of this table do: a URL, a number, a file name in its place; and
    if each line has just as many cells as the table has columns. Every line of a table of one column does: there only
    quotes around all cells tell, by that around the name of the column.
    """
    if len(taken) == 1 or head.width < 2:
        return len(taken) > 1 and head.width == 1 and not head.is_quoted
    looks = [_look(text.split(separator)) for _, text in taken]
    first, *inner, last = looks
    row = {look for look in (first, _look(before.cells)) if len(look) == head.width and {*look} - {"", "text"}}
    if any(look in row for look in inner) or last == first in row:
        return True
    return all(len(look) == head.width and "" not in look for look in looks) and (bool(inner) or first == last)


def _look(cells: Sequence[str]) -> tuple[str, ...]:
    """What kind of thing each cell holds."""
    kinds = []
    for cell in (c.strip().strip('"') for c in cells):
        if not cell or columns.is_url(cell):
            kinds.append("URL" if cell else "")
        else:
            kinds.append(
                "number" if NUMBER.fullmatch(cell) else "file" if columns.PICTURE_FILE.fullmatch(cell) else "text"
            )
    return tuple(kinds)
