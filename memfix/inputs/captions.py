"""What folders say of their pictures: the tables of imagefolders, in any folder of them, and a.txt beside a.png.

Of text beside a picture, what counts is what sd-scripts trains on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Set
from pathlib import Path, PurePosixPath
from posixpath import normpath

from memfix.inputs import columns, tables
from memfix.inputs.beside import DOUBLE, JSON, SUFFIXES_BESIDE, TEXT_LIMIT, texts_in
from memfix.inputs.contents import HEAD, POINTER, by_head
from memfix.inputs.encoded import require_no_encoded
from memfix.inputs.further import further_pictures
from memfix.inputs.no_prompts import PULL
from memfix.inputs.paths import existing, spellings
from memfix.inputs.tally import PassedOver, Tally
from memfix.inputs.wrong_rows import WrongRows

REPEATED_FOLDER = re.compile(r"\d+_(.+)")
"""The folder of sd-scripts: how often a pass takes its pictures, and the caption of those that have none."""

NOTHING_SAID = b" \t\xef\xbb\xbf"  # with a byte order mark
UNREAD_COLUMN = "rows with a column of texts or of pictures that is not read"
FURTHER_MISSING = "names in a further column of images are not those of files"
FIRST_LINE = "of a caption of several lines the first one was taken, which sd-scripts trains on unless it has wildcards"
OF_NAMES: dict[str, Callable[[str], str]] = {
    "names": lambda stem: stem.partition("_")[0].strip(),
    "whole-names": str.strip,
}
"""How trainings make captions of names of pictures, given without their ending: EveryDream's way and OneTrainer's."""

OF_NAME = "captions that are names of pictures, as --captions-from asks for where a picture has none"
OF_FOLDER = "captions that are the name of the folder, which sd-scripts trains on where a picture has none"


def captions(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Captions of some pictures of a folder, by their names in it; what is wrong with the tables says nothing."""
    return _captions(folder, set(names), WrongRows(skip=True), Tally(), whole=False)


def all_captions(
    folder: Path, names: Iterable[str], wrong: WrongRows, tally: Tally, captions_from: str | None = None
) -> dict[str, str]:
    """The same of all pictures that there are: entries of tables whose picture is missing go to `wrong` too."""
    return _captions(folder, set(names), wrong, tally, whole=True, captions_from=captions_from)


def _captions(
    folder: Path, names: Set[str], wrong: WrongRows, tally: Tally, whole: bool, captions_from: str | None = None
) -> dict[str, str]:
    found: dict[str, str] = {}
    for table in _tables(folder, names):
        place = table.parent.relative_to(folder).as_posix()
        for line, name, text in named_images(table, wrong, tally):
            own = next((n for s in spellings(name) if (n := normpath(f"{place}/{s}")) in names), None)
            path, root = None if own else existing(table, name), folder.resolve()
            if path and Path(path).is_relative_to(root):
                own = Path(path).relative_to(root).as_posix()
            if own is not None and own in names:
                found[own] = text or found.get(own, "")
            elif whole and own is None:
                _elsewhere(wrong, table, line, name, path)
    texts = {
        name: found.get(name) or next(iter(beside(folder / name, wrong, None, captions_from)), "") for name in names
    }
    return {name: text for name, text in texts.items() if text}


def _elsewhere(wrong: WrongRows, table: Path, line: int, name: str, path: str | None) -> None:
    """Take note of an image that the table of a folder names and that is not in the folder."""
    if path is None:
        missing(wrong, table, line, name)
        return
    hint = "Put it into the folder, or give the table itself."
    wrong.add_picture(f"{table}:{line}:", f"the image {name} is outside of the folder", hint)


def _tables(folder: Path, names: Iterable[str]) -> Iterator[Path]:
    """The tables of the folders that pictures lie in, the outermost first: an inner one knows better."""
    inside = {parent for name in names for parent in PurePosixPath(name).parents} | {PurePosixPath()}
    for inner in sorted(inside, key=lambda path: (len(path.parts), path)):
        yield from tables.metadata(folder / inner)


def named_images(table: Path, wrong: WrongRows, tally: Tally | None = None) -> Iterator[tuple[int, str, str]]:
    """Line, image as written, and caption, for every image that a table names; of further columns, if it is there.

    What is not there, and columns that are not read, go to `tally`.
    """
    tally = tally or Tally()
    for line, cells in tables.rows(table, wrong):
        try:
            require_no_encoded(cells)
            more = further_pictures(table, cells)
            names = [*columns.images(cells), *columns.perhaps(cells)]
            text = next(iter(columns.texts(cells, required=False)), "")
        except columns.WrongCellError as error:
            wrong.add(f"{table}:{line}", str(error), f"See the columns {', '.join(columns.IMAGE[:4])}.")
            continue
        if not names and not more.pictures and not more.missing:
            if cells.get(columns.IMAGE[0]) == [] and not columns.urls(cells):
                tally.pass_over(PassedOver.NO_PICTURE, f"{table}:{line}")
                continue
            urls = " but URLs; 'memfix fetch' makes files of them" if columns.urls(cells) else ""
            wrong.add(
                f"{table}:{line}",
                f"names no image file{urls}",
                f"Name it in a column {columns.IMAGE[0]}, or drop the row.",
            )
        for name in more.missing:
            tally.alter(FURTHER_MISSING, f"{name} ({table}:{line})")
        if more.unread:
            tally.alter(UNREAD_COLUMN, f"column '{more.unread}' ({table}:{line})")
        names += more.pictures
        for name in names:
            yield line, name, text


def missing(wrong: WrongRows, table: Path, line: int, name: str) -> None:
    """Take note of an image that a table names and that is not there."""
    wrong.add_picture(f"{table}:{line}:", f"there is no reference image {name}", "Correct or drop the path.")


def beside(picture: Path, wrong: WrongRows, tally: Tally | None = None, captions_from: str | None = None) -> list[str]:
    """The captions in the text files beside a picture, each once; else its name, where one of OF_NAMES is asked for;
    else that of its folder; nothing if there is none.

    Several files may have one each, of which one was trained on. `tally` counts what is not taken as it is written.
    """
    tally, found, unfetched = tally or Tally(), list[str](), False
    for file in _files_beside(picture):
        suffix = file.suffix.lower()
        try:
            data = _caption_file(file)
            if data.startswith(POINTER):
                wrong.add(str(file), "is a pointer of Git LFS, which stands for a caption that was not fetched", PULL)
                unfetched = True
                continue
            lines = [data] if suffix == JSON else [line for line in data.splitlines() if line.strip(NOTHING_SAID)]
            found += texts_in(lines[0], suffix) if lines else []
        except UnicodeDecodeError:
            wrong.add(str(file), "is not UTF-8 text", "Save it as UTF-8.")
            continue
        except OSError as error:
            wrong.add(str(file), f"cannot be read: {error.strerror}", "Restore it, or correct its rights.")
            continue
        if len(lines) > 1:
            tally.alter(FIRST_LINE, str(file))
    if unfetched:  # its picture has a caption, and it is not its name
        return list(dict.fromkeys(found))
    if not found and captions_from and (own := columns.clean(OF_NAMES[captions_from](picture.stem))):
        tally.alter(OF_NAME, str(picture))
        return [own]
    if not found and picture.parent.is_dir() and (named := REPEATED_FOLDER.fullmatch(picture.parent.name)):
        tally.alter(OF_FOLDER, str(picture))
        return [columns.clean(named[1])]
    return list(dict.fromkeys(found))


def _files_beside(picture: Path) -> list[Path]:
    """Where the caption of a.png may be: in a.txt, a.png.txt, a.caption.txt, or a.TXT as some systems write it."""
    suffixes = [written for suffix in (*SUFFIXES_BESIDE, DOUBLE) for written in (suffix, suffix.upper())]
    return [file for s in suffixes for file in (picture.with_suffix(s), picture.with_name(picture.name + s))]


def _caption_file(file: Path) -> bytes:
    """What is in a file beside a picture; nothing where there is none, or if it is a picture itself. Raises OSError."""
    if not file.is_file():
        return b""
    with file.open("rb") as opened:
        data = opened.read(TEXT_LIMIT)
    return data if by_head(data[:HEAD]) is None else b""
