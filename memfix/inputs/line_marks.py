"""Marks that a list of lines puts around its texts: a number in front of each, or quotes around it.

A mark is taken off only where it can be no part of a prompt: numbers that rise and that most lines have, quotes that
most lines are in, or in which other quotes are doubled as in CSV.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

LEAST_LINES = 2
"""Lines that make a list."""

LINE_NUMBER = re.compile(r"[(\[]?(\d{1,6})(?:[.):\]]\)?|\s-)\s+(?=\S)")
IN_QUOTES = re.compile(r"""(["'])((?:(?!\1).)+)\1,?""")
CELL = re.compile(r'"((?:[^"]|"")*)",?')
"""A cell of CSV, which may have quotes inside of it."""


class MissingMarkError(Exception):
    """A line without the mark that most lines have; the message goes on from 'file:line'."""


class Marks(NamedTuple):
    """What most lines of a file carry."""

    numbers: bool = False
    quotes: bool = False

    def taken_off(self, text: str) -> str:
        """A line without these marks. Raises MissingMarkError where it has none of them."""
        if self.numbers:
            text, count = LINE_NUMBER.subn("", text, count=1) if LINE_NUMBER.match(text) else (text, 0)
            if not count:
                raise MissingMarkError("has no number in front, as most lines have")
        if (cell := CELL.fullmatch(text)) and '""' in cell[1]:
            return cell[1].replace('""', '"').strip()
        if self.quotes:
            quoted = IN_QUOTES.fullmatch(text)
            if quoted is None:
                raise MissingMarkError("is not in quotes, as most lines are")
            text = quoted[2].strip()
        return text


def marks_of(lines: Sequence[str]) -> Marks:
    """The marks of a list, by its first lines."""
    numbers = _count_up([int(found[1]) for line in lines if (found := LINE_NUMBER.match(line))], len(lines))
    bare = [LINE_NUMBER.sub("", line, count=1) for line in lines] if numbers else lines
    quoted = sum(bool((found := IN_QUOTES.fullmatch(line)) and found[2].strip()) for line in bare)
    return Marks(numbers, quoted >= LEAST_LINES and 2 * quoted > len(lines))


def _count_up(numbers: Sequence[int], lines: int) -> bool:
    """Whether most lines have a number, and each is greater than the one before, but where counting begins anew."""
    rise = all(before < after or after == numbers[0] for before, after in pairwise(numbers))
    return len(numbers) >= LEAST_LINES and 2 * len(numbers) > lines and rise
