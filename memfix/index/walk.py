"""The pictures of a folder, in one fixed order and without holding their list. Decodes none of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from memfix.errors import MemfixError
from memfix.files import files_below, printable
from memfix.index.rows import Row
from memfix.inputs.contents import Content, Known, content_of, is_hidden
from memfix.inputs.folders import is_missing, passed_over_as, required
from memfix.inputs.references import read_references
from memfix.inputs.tables import held_in
from memfix.inputs.tally import PassedOver, Tally


def walk_folder(folder: Path, tally: Tally | None = None) -> Iterator[Row]:
    """Every picture, files and members of webdataset tars, ordered by the parts of its name.

    Memory is that of the largest single folder or tar. Links are followed, see `files_below`; one to nowhere, a folder
    that may not be read, and what may hold pictures that an index does not read, is a row without a picture. All else
    goes to `tally`.
    """
    tally = tally or Tally()
    for found in files_below(required(folder)):
        if is_missing(found):
            yield Row(printable(found.path), found.path, 0, 0, reason=found.problem)
        elif is_hidden(found.path):
            tally.pass_over(PassedOver.HIDDEN, printable(found.path))
        else:
            yield from _file(folder / found.path, found.path, printable(found.path), tally)


def _file(file: Path, path: str, name: str, tally: Tally) -> Iterator[Row]:
    try:
        stat = file.stat()
        known = content_of(file) if file.is_file() else Known(Content.OTHER)
        reason = _unread(file, known)
    except OSError as error:  # gone since it was listed, or kept from us
        yield Row(name, path, 0, 0, reason=error.strerror or type(error).__name__)
        return
    except MemfixError as error:
        reason = error.message.removeprefix(f"{file} ")
    if reason:
        yield Row(name, path, stat.st_size, stat.st_mtime_ns, reason=reason)
    elif known.content is Content.PICTURE:
        yield Row(name, path, stat.st_size, stat.st_mtime_ns)
    elif known.content is Content.TAR:
        yield from _members(file, path, name, stat, tally)
    else:
        tally.pass_over(passed_over_as(name), name)


def _unread(file: Path, known: Known) -> str:
    """Why pictures that a file may hold are not read; nothing where there is no such file."""
    match known.content:
        case Content.FOREIGN:
            return f"is {known.format}, a format that memfix does not read"
        case Content.PACKED | Content.CLOSED:
            return f"is an {known.content}"
        case Content.TABLE if held_in(file).pictures:
            return "holds pictures inside a table, which an index does not read"
    return ""


def _members(tar: Path, path: str, name: str, stat: os.stat_result, tally: Tally) -> Iterator[Row]:
    try:
        references = read_references(str(tar), [], tally=tally)
    except MemfixError as error:
        yield Row(name, path, stat.st_size, stat.st_mtime_ns, reason=error.message.removeprefix(f"{tar} "))
        return
    for reference in sorted(references, key=lambda r: r.file_name):
        place = reference.path.rpartition("#")[2]
        member = reference.file_name.removeprefix(f"{tar.name}/")
        yield Row(f"{name}/{member}", f"{path}#{place}", int(place.rpartition("+")[2]), stat.st_mtime_ns)
