"""The pictures of a folder, in one fixed order and without holding their list. Opens none of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from memfix.errors import MemfixError
from memfix.index.rows import Row
from memfix.inputs.references import SUFFIXES, TAR, read_references


def walk_folder(folder: Path) -> Iterator[Row]:
    """Every picture, files and members of webdataset tars, ordered by the parts of its name.

    Memory is that of the largest single folder or tar. Links to files are followed, links to folders are not.
    """
    return _walk(required(folder), "", "")


def required(folder: Path) -> Path:
    """The folder itself. Raises MemfixError if there is none."""
    if not folder.is_dir():
        raise MemfixError(f"There is no folder {folder}.", "Give a folder of images or of webdataset tars.")
    return folder


def _walk(folder: Path, path: str, name: str) -> Iterator[Row]:
    try:
        with os.scandir(folder / path) as entries:
            listed = sorted((_text(entry.name), entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
    except OSError as error:  # a folder that may not be read
        yield Row(name.rstrip("/") or ".", path.rstrip("/") or ".", 0, 0, reason=_why(error))
        return
    for shown, own, is_folder in listed:
        suffix = os.path.splitext(own)[1].lower()  # noqa: PTH122  # a Path for each of a billion names is slow
        if is_folder:
            yield from _walk(folder, f"{path}{own}/", f"{name}{shown}/")
        elif suffix == TAR or suffix in SUFFIXES:
            yield from _file(folder, f"{path}{own}", f"{name}{shown}", suffix == TAR)


def _file(folder: Path, path: str, name: str, is_tar: bool) -> Iterator[Row]:
    file = folder / path
    try:
        stat = file.stat()
    except OSError as error:  # a link to nowhere
        yield Row(name, path, 0, 0, reason=_why(error))
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


def _text(name: str) -> str:
    """A name that can be printed and written, also where the file system holds bytes that are no text."""
    return name.encode("utf-8", "backslashreplace").decode()


def _why(error: OSError) -> str:
    return error.strerror or type(error).__name__
