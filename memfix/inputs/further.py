"""Pictures that a row of a table names beside those that it must.

In whatever column and however deep in a cell, a picture that is there is one of the row. What is not there is told.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NamedTuple

from memfix.inputs import columns
from memfix.inputs.paths import existing, spellings
from memfix.inputs.seeming import seems_to_name, texts_inside


class Further(NamedTuple):
    """What a row names beside its pictures."""

    pictures: list[str]
    """Names of others that are there, as they are written."""
    missing: list[str]
    """Names in columns of images that are not those of files."""
    unread: str = ""
    """The first other column that seems to name a picture, which is not there; or nothing."""


def further_pictures(table: Path, cells: columns.Cells) -> Further:
    """What a row names beside the pictures of `columns.images` and `columns.perhaps`, also by what it stands under.

    The same picture by another path is none. Raises WrongCellError as these do.
    """
    sure = [*columns.images(cells), *columns.perhaps(cells)]
    others = dict.fromkeys([*(("", name) for name in columns.further(cells)), *_named(cells), *_stands_under(cells)])
    found = Further([], [])
    if not others:
        return found
    known, own = {*sure}, {existing(table, name, near=True) for name in sure}
    for column, name in others:
        if name in known:
            continue
        known.add(name)
        path = existing(table, name, near=True)
        if path is not None and path not in own:
            own.add(path)
            found.pictures.append(name)
        elif path is None and not any(_is_same(name, other) for other in sure):
            if column == columns.ROW_NAME and name.isdecimal():  # rather the number of the row
                continue
            if column:
                found = found._replace(unread=found.unread or column)
            else:
                found.missing.append(name)
    return found


def _stands_under(cells: columns.Cells) -> Iterator[tuple[str, str]]:
    """Column and text of what a row stands under in an object, which may be the name of its picture."""
    name = cells.get(columns.ROW_NAME)
    if isinstance(name, str) and name.strip():
        yield columns.ROW_NAME, name


def _named(cells: columns.Cells) -> Iterator[tuple[str, str]]:
    """Column and text of what seems to name a picture, in all columns but those of texts and URLs."""
    for name, cell in cells.items():
        if name in columns.SAID or cell is None or isinstance(cell, int | float):
            continue
        has_texts = columns.OTHER_TEXT.fullmatch(name) is not None or columns.PARAPHRASE_COLUMN.fullmatch(name)
        for text in texts_inside(cell):
            is_inside = not isinstance(cell, str | list)
            if seems_to_name(text) and not (has_texts and " " in text) and not (is_inside and columns.is_url(text)):
                yield name, text


def _is_same(name: str, other: str) -> bool:
    """Whether a name may be that of the same picture elsewhere: an absolute path, or an end of the other's."""
    first, second = (PurePosixPath(text.replace("\\", "/")).parts for text in (name, other))
    if not first or not second or first[-1] != second[-1]:
        return False
    is_elsewhere = any(
        PurePosixPath(text).is_absolute() or PureWindowsPath(text).is_absolute() for text in spellings(name)
    )
    shorter = min(len(first), len(second))
    return is_elsewhere or first[-shorter:] == second[-shorter:]
