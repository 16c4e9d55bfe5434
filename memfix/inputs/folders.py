"""The pictures of a folder, and the tars and tables that hold some. All else in it is counted, by reason."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from memfix.errors import MemfixError
from memfix.files import Found, files_below, is_hidden
from memfix.inputs.contents import Content, Known, content_of, is_mask
from memfix.inputs.tally import PassedOver, Tally
from memfix.inputs.wrong_rows import WrongRows

BESIDE_PICTURES = {".txt", ".caption", ".cap", ".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet"}
PASSED_OVER = {Content.FOREIGN: PassedOver.FOREIGN, Content.CLOSED: PassedOver.CLOSED}


class Holder(NamedTuple):
    """A file of a folder, with its name there, that is a picture or may hold some."""

    name: str
    path: Path
    content: Content


def parts(folder: Path, wrong: WrongRows, tally: Tally) -> Iterator[Holder]:
    """Pictures, tars and parquet tables of a folder, sorted by name. Links are followed, hidden files passed over.

    What cannot be entered or opened, and what is packed, may be pictures: it goes to `wrong`. Raises MemfixError if
    there is no folder.
    """
    for found in files_below(folder):
        path = folder / found.path
        if is_missing(found):
            wrong.add_picture(str(path), f"cannot be read: {found.problem}", "Restore what is there, or remove it.")
            continue
        if is_hidden(found.path):
            tally.pass_over(PassedOver.HIDDEN, str(path))
            continue
        try:
            known = content_of(path) if path.is_file() else Known(Content.OTHER)
        except OSError as error:
            wrong.add_picture(str(path), f"cannot be read: {error.strerror}", "Restore what is there, or remove it.")
            continue
        if known.content is Content.PICTURE and is_mask(path):
            tally.pass_over(PassedOver.MASK, str(path))
        elif known.content in {Content.PICTURE, Content.TAR, Content.TABLE}:
            yield Holder(found.path, path, known.content)
        elif known.content is Content.PACKED:
            wrong.add_picture(str(path), "is an archive of pictures", "Unpack it, or remove it.")
        else:
            tally.pass_over(PASSED_OVER.get(known.content, passed_over_as(found.path)), str(path))


def passed_over_as(name: str) -> PassedOver:
    """Why a file that is no picture is passed over: as what captions are in, or as anything else."""
    is_beside = PurePosixPath(name).suffix.lower() in BESIDE_PICTURES
    return PassedOver.CAPTIONS if is_beside else PassedOver.OTHER


def is_missing(found: Found) -> bool:
    """Whether what cannot be read may have been pictures; hidden links to nowhere are locks of editors."""
    return bool(found.problem) and not is_hidden(found.path)


def required(folder: Path, flag: str = "DIR") -> Path:
    """The folder itself. Raises MemfixError if there is none."""
    if not folder.is_dir():
        raise MemfixError(f"There is no folder of images at {folder}.", f"Give a folder of images to {flag}.")
    return folder
