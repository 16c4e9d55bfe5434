"""The pictures of a folder or file, in one fixed order and without holding their list. Decodes none of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from memfix.errors import MemfixError
from memfix.files import files_below, is_hidden, printable
from memfix.index.rows import Row
from memfix.inputs import embedded, tables
from memfix.inputs.contents import Content, Known, content_of, is_mask
from memfix.inputs.folders import is_missing, passed_over_as, required
from memfix.inputs.references import read_references
from memfix.inputs.tally import PassedOver, Tally
from memfix.inputs.wrong_rows import WrongRows


def walk_source(source: Path, tally: Tally | None = None) -> Iterator[Row]:
    """Every picture: files, members of webdataset tars and rows of parquet tables, ordered by the parts of its name.

    Memory is that of the largest single folder, tar or table. Links are followed, see `files_below`; one to nowhere, a
    folder that may not be read, and what may hold pictures that memfix does not read, is a row without a picture. All
    else goes to `tally`. Of a single file, paths are relative to its folder.
    """
    tally = tally or Tally()
    if source.is_file():
        yield from _file(source, source.name, printable(source.name), tally)
        return
    for found in files_below(required(source)):
        if is_missing(found):
            yield Row(printable(found.path), found.path, 0, 0, reason=found.problem)
        elif is_hidden(found.path):
            tally.pass_over(PassedOver.HIDDEN, printable(found.path))
        else:
            yield from _file(source / found.path, found.path, printable(found.path), tally)


def _file(file: Path, path: str, name: str, tally: Tally) -> Iterator[Row]:
    try:
        stat = file.stat()
        known = content_of(file) if file.is_file() else Known(Content.OTHER)
        held = tables.held_in(file) if known.content is Content.TABLE else tables.Held()
    except OSError as error:  # gone since it was listed, or kept from us
        yield Row(name, path, 0, 0, reason=error.strerror or type(error).__name__)
        return
    except MemfixError as error:
        yield Row(name, path, stat.st_size, stat.st_mtime_ns, reason=error.message.removeprefix(f"{file} "))
        return
    if reason := _unread(known):
        yield Row(name, path, stat.st_size, stat.st_mtime_ns, reason=reason)
    elif known.content is Content.PICTURE and is_mask(file):
        tally.pass_over(PassedOver.MASK, name)
    elif known.content is Content.PICTURE:
        yield Row(name, path, stat.st_size, stat.st_mtime_ns)
    elif known.content is Content.TAR:
        yield from _members(file, path, name, stat, tally)
    elif held.pictures:
        yield from _table_rows(file, path, name, stat, held.unread)
    elif held.unread:
        yield Row(name, path, stat.st_size, stat.st_mtime_ns, reason=_columns_unread(held.unread))
    else:
        tally.pass_over(passed_over_as(name), name)


def _unread(known: Known) -> str:
    """Why pictures that a file may hold are not read; nothing where there is no such file."""
    if known.content is Content.FOREIGN:
        return f"is {known.format}, a format that memfix does not read"
    return f"is an {known.content}" if known.content in {Content.PACKED, Content.CLOSED} else ""


def _columns_unread(columns: Sequence[str]) -> str:
    return f"has columns that may hold pictures and are not read: {', '.join(columns)}"


def _members(tar: Path, path: str, name: str, stat: os.stat_result, tally: Tally) -> Iterator[Row]:
    try:
        references = read_references(str(tar), [], tally=tally)
    except MemfixError as error:
        yield Row(name, path, stat.st_size, stat.st_mtime_ns, reason=error.message.removeprefix(f"{tar} "))
        return
    for reference in sorted(references, key=lambda r: r.file_name):
        place = reference.path.rpartition("#")[2]
        member = reference.file_name.removeprefix(f"{tar.name}/")
        size = int(place.rpartition("+")[2])
        yield Row(f"{name}/{member}", f"{path}#{place}", size, stat.st_mtime_ns, text=reference.text)


def _table_rows(table: Path, path: str, name: str, stat: os.stat_result, columns: Sequence[str]) -> Iterator[Row]:
    """The pictures in a table, column by column; what it names and does not hold, or is not read, is told in one row.

    `columns` are those that are not read.
    """
    wrong, rows, elsewhere = WrongRows(skip=True), list[Row](), 0
    try:
        for reference in read_references(str(table), [], wrong):
            if embedded.container(reference.path) == table.resolve():
                place = reference.path.rpartition("#")[2]
                named = embedded.ordered_name(f"{name}#{place}")
                rows.append(Row(named, f"{path}#{place}", stat.st_size, stat.st_mtime_ns, text=reference.text))
            else:
                elsewhere += 1
    except MemfixError as error:
        yield Row(name, path, stat.st_size, stat.st_mtime_ns, reason=error.message.removeprefix(f"{table} "))
        return
    reasons = [_columns_unread(columns)] if columns else []
    if unread := elsewhere + wrong.count + wrong.pictures:
        reasons.append(f"has {unread:,} rows without a picture in them; what they name is not looked for")
    if reasons:
        yield Row(name, path, stat.st_size, stat.st_mtime_ns, reason="; it ".join(reasons))
    yield from sorted(rows, key=lambda row: row.key)
