"""Prompt lists in plain text: one prompt a line, or a table under the name of a text file. Never a guess in silence.

What other tools write into such files is understood or refused: comments, options behind a prompt, names of columns.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from typing import NamedTuple

from memfix.inputs import columns
from memfix.inputs.line_marks import WrongMarkError, marks_of
from memfix.inputs.line_options import may_hold_options, without_options
from memfix.inputs.no_prompts import IS_COMMENT, NEGATIVE, TABLE, TOKEN, WrongLineError, as_prompt, may_be_none
from memfix.inputs.tally import PassedOver, Tally
from memfix.inputs.wrong_rows import WrongRows

LINES_THAT_SHOW = 100
"""Lines that show what form a text file has."""

MARKS_TAKEN_OFF = "numbers of lines, or quotes around them, were taken off"
CUT_OPTIONS = "options of another tool were cut off"
PERHAPS_NONE = (
    "lines that may be a comment, a name of columns, markup, a template, a row of cells, or a text behind a number or "
    "a key were taken as prompts"
)
PERHAPS_OPTIONS = "words behind '--' may be options of another tool, and stayed"
OTHER_HEADS = {
    "sentence", "sentences", "description", "descriptions", "title", "titles", "query", "queries", "instruction",
    "alt_text", "alt", "input", "content", "name",
}  # fmt: skip
"""What a column of texts is called in tables whose names memfix does not look for: a prompt as well."""

PATH = re.compile(r"|.*[/\\].*|.*\.\w{2,4}(?:#\d+)?|https?:.*", re.DOTALL)
"""What stands in a column of pictures."""

OPENS_JSON = re.compile(r"""\[\s*(?:"(?:[^"\\]|\\.)*"\s*,\s*)+|\{\s*"[^"]*"\s*:\s*[\[{]\s*|\[\s*\{.*[^\]]""")
"""A first line of JSON that goes on below."""

YAML_KEY = re.compile(r"\s*(?:[\w-]+:(?:\s|$)|- |$)")
BARE_NUMBER = re.compile(r"\d{1,6}\s|.*,\s*-?\d[\d.]*$")
"""A number in front or behind a text that may be one of the text itself."""

IDENTIFIER = re.compile(r"[A-Za-z_][\w .-]{0,30}|")

NumberedLine = tuple[int, str]


class Form(StrEnum):
    """What a text file is."""

    LINES = "one prompt a line"
    SEPARATED = "a table of cells"
    JSON = "JSON"
    JSON_LINES = "JSON, one object a line"


class Line(NamedTuple):
    """A prompt and the line that it stands on."""

    line: int
    text: str


def form_of(lines: Iterable[str]) -> Form:
    """The form of a text file, by its first lines; a byte order mark is none of them."""
    first = [text for text in (line.strip() for line in lines) if text]
    if not first:
        return Form.LINES
    alone = len(first) == 1 or first[0].startswith("[{")
    if first[0] in {"[", "{"} or (alone and _is_json(first[0], list)) or OPENS_JSON.fullmatch(first[0]):
        return Form.JSON
    if _is_json(first[0], dict):
        return Form.JSON_LINES
    if _is_table(first) or sum(bool(TOKEN.match(text)) for text in first) > len(first) / 2:
        return Form.SEPARATED
    tabs = {text.count("\t") for text in first}
    return Form.SEPARATED if len(first) > 1 and len(tabs) == 1 and tabs != {0} else Form.LINES


def prompt_lines(
    path: object, begin: Sequence[str], lines: Iterable[NumberedLine], wrong: WrongRows, tally: Tally
) -> Iterator[Line]:
    """The prompts of a text file; what is none is counted, or goes to `wrong`. `begin` are lines that show its form."""
    marks = marks_of([text for text in map(str.strip, begin) if text and not IS_COMMENT.match(text)])
    counted = _count_lines(begin)
    first, negative, matter = True, False, _front_matter(begin)
    for number, text in lines:
        text = text.strip()
        behind_negative, negative = negative, text.startswith(NEGATIVE)
        if not text:
            continue
        if IS_COMMENT.match(text) or (first and text.lower() in columns.TEXT):
            tally.pass_over(PassedOver.COMMENT, f"{path}:{number}")
            continue
        was_first, first = first, False
        try:
            if was_first and _columns(text):
                raise WrongLineError("names columns, but most lines below are no rows of such a table", TABLE)
            if was_first and _may_name_columns(text):
                raise WrongLineError("seems to name columns, of which memfix knows one", TABLE)
            if number <= matter:
                raise WrongLineError("stands in the front matter of a page", "Take it out.")
            if behind_negative:
                raise WrongLineError(
                    "stands below a negative prompt, and may belong to it", "Put an empty line between them."
                )
            bare = marks.taken_off(text)
            prompt = without_options(as_prompt(bare))
        except WrongMarkError as error:
            wrong.add(f"{path}:{number}", str(error), "Take the marks off all lines, or give a table (.csv, .jsonl).")
            continue
        except WrongLineError as error:
            wrong.add(f"{path}:{number}", str(error), error.hint)
            continue
        if bare != text:
            tally.alter(MARKS_TAKEN_OFF, f"{path}:{number}")
        if prompt != bare:
            tally.alter(CUT_OPTIONS, f"{path}:{number}")
        elif may_hold_options(prompt):
            tally.alter(PERHAPS_OPTIONS, f"{path}:{number}")
        if (was_first and text.lower() in OTHER_HEADS) or may_be_none(prompt) or (counted and BARE_NUMBER.match(text)):
            tally.alter(PERHAPS_NONE, f"{path}:{number}")
        yield Line(number, prompt)


def odd_text(text: str) -> bool:
    """Whether a text that stands by itself holds what is no prompt in a list: a comment, options, markup."""
    try:
        return bool(IS_COMMENT.match(text)) or may_be_none(text) or without_options(as_prompt(text)) != text
    except WrongLineError:
        return True


def _front_matter(begin: Sequence[str]) -> int:
    """The last line of what stands above a page, between two rows of dashes; 0 if nothing does."""
    marks = [number for number, text in enumerate(begin, 1) if text.strip() == "---"]
    inside = begin[marks[0] : marks[1] - 1] if marks[:1] == [1] and len(marks) > 1 else []
    return marks[1] if inside and all(YAML_KEY.match(line) for line in inside) else 0


def _is_table(lines: Sequence[str]) -> bool:
    """Whether the first line names columns and most lines below it are rows of these."""
    names = _columns(lines[0])
    try:
        rows = list(csv.reader(lines[1:], delimiter=_separator(lines[0]), skipinitialspace=True))
    except csv.Error:
        return False
    fitting = sum(len(row) == len(names) and all(map(_may_hold, names, row)) for row in rows)
    return bool(names) and 2 * fitting > len(rows)


def _may_name_columns(first: str) -> bool:
    """Whether the first line of a file may name columns that memfix does not know beside one of texts."""
    names = [columns.normal(cell.strip().strip('"')) for cell in first.split(_separator(first))]
    is_text = any(name in columns.TEXT for name in names)
    return is_text and len(names) > 1 and all(name and IDENTIFIER.fullmatch(name) for name in names)


def _count_lines(begin: Sequence[str]) -> bool:
    """Whether most lines begin or end with a number that may as well belong to the text."""
    texts = [text for text in map(str.strip, begin) if text]
    return len(texts) > 1 and 2 * sum(bool(BARE_NUMBER.match(text)) for text in texts) > len(texts)


def _separator(first: str) -> str:
    return max("\t;,|", key=first.count)


def _columns(first: str) -> list[str]:
    """The names of columns on the first line of a file: of a text, and of what goes with it. None if it has others."""
    names = [columns.normal(cell.strip().strip('"')) for cell in first.split(_separator(first))]
    if len(names) < 2 or not all(IDENTIFIER.fullmatch(name) for name in names):
        return []
    texts = [name for name in names if name in columns.TEXT or name == columns.COMMENT]
    others = [name for name in names if name not in texts and (columns.known(name) or name in columns.BESIDE_TEXT)]
    return names if texts and others else []


def _may_hold(name: str, cell: str) -> bool:
    """Whether a column of this name may hold a cell: pictures have paths, and numbers no spaces."""
    if name in {*columns.IMAGE, *columns.URL, columns.IMAGE_NAME}:
        return PATH.fullmatch(cell.strip()) is not None
    return name not in columns.NUMBERS or not cell.strip().count(" ")


def _is_json(text: str, kind: type) -> bool:
    try:
        return isinstance(json.loads(text), kind)
    except (ValueError, RecursionError):
        return False
