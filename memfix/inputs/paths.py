"""Paths as people and programs write them in tables and on command lines: also file:// URLs, and those of Windows."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit
from urllib.request import url2pathname

from memfix.inputs import embedded
from memfix.inputs.contents import SUFFIXES
from memfix.inputs.standard_input import base_folder

FILE_URL = "file:"
NUMBERED = re.compile(r"(?s)(.+\.\w{2,4})#\d+")  # Flickr8k: the number of a caption behind the name of its picture
OUTSIDE = "pictures that a list names outside of its folder"
"""This is told: a stranger's list may name what is not meant for a report."""

FOLDERS_NEAR = (
    "images", "Images", "../images", "../Images", "../val2017", "../train2017", "../val2014", "../train2014",
    "../Flicker8k_Dataset", "../flickr30k-images",
)  # fmt: skip
"""Where the pictures of lists lie that are published without them, from the folder of the list."""


def spellings(name: str) -> list[str]:
    """What a path may mean here, in the order to try: as it is written, as a file:// URL, with / for \\."""
    found = [name]
    if name[: len(FILE_URL)].lower() == FILE_URL:
        found.append(url2pathname(urlsplit(name.replace("\\", "/")).path))
    if numbered := NUMBERED.fullmatch(name):
        found.append(numbered[1])
    if "\\" in name:
        found.append(name.replace("\\", "/"))
    return found


def as_path(source: str) -> Path:
    """The path that a source on the command line means: the first spelling that is there, else as it is written."""
    return next((Path(s) for s in spellings(source) if names_something(Path(s))), Path(source))


def existing(table: Path, name: str, near: bool = False) -> str | None:
    """The absolute path of an image that a table names, relative to the table, or its address in it.

    With `near`, it may also lie in one of the usual folders beside the table, and lack its ending as kohya writes it.
    None if it is not there.
    """
    if embedded.container(name) == table.resolve():
        return name
    own = base_folder(table)
    folders, names = [own], spellings(name)
    if near:
        folders += [own / folder for folder in FOLDERS_NEAR]
        names += [f"{n}{suffix}" for n in names if not PurePosixPath(n).suffix for suffix in sorted(SUFFIXES)]
    for folder in folders:
        for path in (folder / spelled for spelled in names):
            if names_something(path) and path.is_file():
                return str(path.resolve())
    return None


def leads_out(table: Path, name: str, path: str) -> bool:
    """Whether a name in a table leads to a picture outside of the table's folder, and not by a link in there."""
    says_so = any(PurePosixPath(s).is_absolute() or ".." in PurePosixPath(s).parts for s in spellings(name))
    return says_so and not Path(path).is_relative_to(base_folder(table).resolve())


def names_something(path: Path) -> bool:
    """Whether anything bears a name, which may be none that the system can have."""
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long for the system, or with a zero byte in it
        return False
