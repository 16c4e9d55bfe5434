"""Marks that a list of lines puts around its texts: a number or a picture's name in front of each, or quotes around it.

A mark is taken off only where it can be no part of a prompt: numbers that rise and that most lines have, quotes that
most lines are in, or in which other quotes are doubled as in CSV.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from memfix.inputs.columns import PICTURE_ENDING

LEAST_LINES = 2
"""Lines that make a list."""

LINE_NUMBER = re.compile(
    rf"[(\[]?(\d{{1,6}})(?:(?:[.):\]]\)?|\s?-)\s+(?=\S)|(?!{PICTURE_ENDING})[.)](?=[^\W\d]))", re.IGNORECASE
)
IN_QUOTES = re.compile(r"""(["'])((?:(?!\1).)+)\1,?""")
CELL = re.compile(r'"((?:[^"]|"")*)",?')
"""A cell of CSV, which may have quotes inside of it."""

PICTURE_IN_FRONT = re.compile(rf"\S+?{PICTURE_ENDING}\s", re.IGNORECASE)


NUMBER_BESIDE = re.compile(r"\d{1,9}\s*[,;|](?!\d{3}\b)\s*\S|.*[;|]\s*-?\d[\d.]*$")
"""A number in a cell of its own beside the text."""


class WrongMarkError(Exception):
    """A line that has not the mark of most lines, or one that is no mark; the message goes on from 'file:line'."""


class Marks(NamedTuple):
    """What most lines of a file carry."""

    numbers: bool = False
    quotes: bool = False
    pictures: bool = False
    cells: bool = False

    def taken_off(self, text: str) -> str:
        """A line without numbers and quotes. Raises WrongMarkError where it has none, or where a picture is named."""
        if self.pictures and PICTURE_IN_FRONT.match(text):
            raise WrongMarkError("begins with the name of a picture, as most lines do")
        if self.cells and NUMBER_BESIDE.match(text):
            raise WrongMarkError("is a row of cells without their names, as most lines are")
        if self.numbers:
            if not LINE_NUMBER.match(text):
                raise WrongMarkError("has no number in front, as most lines have")
            text = _unnumbered(text)
        if (cell := CELL.fullmatch(text)) and '""' in cell[1]:
            return cell[1].replace('""', '"').strip()
        if self.quotes:
            quoted = IN_QUOTES.fullmatch(text)
            if quoted is None:
                raise WrongMarkError("is not in quotes, as most lines are")
            text = quoted[2].strip()
        return text


def marks_of(lines: Sequence[str]) -> Marks:
    """The marks of a list, by its first lines."""
    found = [LINE_NUMBER.match(line) for line in lines]
    numbers = _are_most(lines, found) and _count_up([int(number[1]) for number in found if number])
    bare = [_unnumbered(line) for line in lines] if numbers else lines
    quotes = [quoted for line in bare if (quoted := IN_QUOTES.fullmatch(line)) and quoted[2].strip()]
    pictures, cells = ([pattern.match(line) for line in lines] for pattern in (PICTURE_IN_FRONT, NUMBER_BESIDE))
    return Marks(numbers, _are_most(lines, quotes), _are_most(lines, pictures), _are_most(lines, cells))


def _unnumbered(text: str) -> str:
    number = LINE_NUMBER.match(text)
    return text[number.end() :] if number else text


def _are_most(lines: Sequence[str], found: Sequence[re.Match[str] | None]) -> bool:
    """Whether most lines of a list have a mark."""
    count = sum(map(bool, found))
    return count >= LEAST_LINES and 2 * count > len(lines)


def _count_up(numbers: Sequence[int]) -> bool:
    """Whether each number is greater than the one before, but where counting begins anew."""
    return all(before < after or after == numbers[0] for before, after in pairwise(numbers))
