"""The pictures of a folder, in one fixed order and without holding their list. Opens none of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from memfix.errors import MemfixError
from memfix.files import files_below, printable
from memfix.index.rows import Row
from memfix.inputs.references import SUFFIXES, TAR, is_missing, read_references


def walk_folder(folder: Path) -> Iterator[Row]:
    """Every picture, files and members of webdataset tars, ordered by the parts of its name.

    Memory is that of the largest single folder or tar. Links are followed, see `files_below`; one to nowhere, and a
    folder that may not be read, is a row without a picture.
    """
    for found in files_below(required(folder)):
        suffix = os.path.splitext(found.path)[1].lower()  # noqa: PTH122  # a Path for each of a billion names is slow
        if is_missing(found):
            yield Row(printable(found.path), found.path, 0, 0, reason=found.problem)
        elif suffix == TAR or suffix in SUFFIXES:
            yield from _file(folder, found.path, printable(found.path), suffix == TAR)


def required(folder: Path) -> Path:
    """The folder itself. Raises MemfixError if there is none."""
    if not folder.is_dir():
        raise MemfixError(f"There is no folder {folder}.", "Give a folder of images or of webdataset tars.")
    return folder


def _file(folder: Path, path: str, name: str, is_tar: bool) -> Iterator[Row]:
    file = folder / path
    try:
        stat = file.stat()
    except OSError as error:  # gone since it was listed
        yield Row(name, path, 0, 0, reason=error.strerror or type(error).__name__)
        return
    if not file.is_file():
        return
    if is_tar:
        yield from _members(file, path, name, stat)
    else:
        yield Row(name, path, stat.st_size, stat.st_mtime_ns)


def _members(tar: Path, path: str, name: str, stat: os.stat_result) -> Iterator[Row]:
    try:
        references = read_references(str(tar), [])
    except MemfixError as error:
        yield Row(name, path, stat.st_size, stat.st_mtime_ns, reason=error.message.removeprefix(f"{tar} "))
        return
    for reference in sorted(references, key=lambda r: r.file_name):
        place = reference.path.rpartition("#")[2]
        member = reference.file_name.removeprefix(f"{tar.name}/")
        yield Row(f"{name}/{member}", f"{path}#{place}", int(place.rpartition("+")[2]), stat.st_mtime_ns)
