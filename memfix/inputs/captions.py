"""What folders say of their pictures: the tables of imagefolders, in any folder of them, and a.txt beside a.png."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from pathlib import Path, PurePosixPath
from posixpath import normpath

from memfix.inputs import columns, tables
from memfix.inputs.contents import HEAD, by_head
from memfix.inputs.paths import existing, spellings
from memfix.inputs.wrong_rows import WrongRows

BESIDE = (".txt", ".caption")
LIMIT = 1 << 20  # bytes of a caption


def captions(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Captions of some pictures of a folder, by their names in it; what is wrong with the tables says nothing."""
    return _captions(folder, set(names), WrongRows(skip=True), whole=False)


def all_captions(folder: Path, names: Iterable[str], wrong: WrongRows) -> dict[str, str]:
    """The same of all pictures that there are: entries of tables whose picture is missing go to `wrong` too."""
    return _captions(folder, set(names), wrong, whole=True)


def _captions(folder: Path, names: Set[str], wrong: WrongRows, whole: bool) -> dict[str, str]:
    found: dict[str, str] = {}
    for table in _tables(folder, names):
        place = table.parent.relative_to(folder).as_posix()
        for line, name, text in named_images(table, wrong):
            own = next((n for s in spellings(name) if (n := normpath(f"{place}/{s}")) in names), None)
            if own is None and (path := existing(table, name)) is not None:
                root = folder.resolve()
                own = Path(path).relative_to(root).as_posix() if Path(path).is_relative_to(root) else name
            if own is not None and own in names:
                found[own] = text
            elif whole and own is None:
                missing(wrong, table, line, name)
    texts = {name: found.get(name) or beside(folder / name, wrong) for name in names}
    return {name: text for name, text in texts.items() if text}


def _tables(folder: Path, names: Iterable[str]) -> Iterator[Path]:
    """The tables of the folders that pictures lie in, the outermost first: an inner one knows better."""
    inside = {parent for name in names for parent in PurePosixPath(name).parents} | {PurePosixPath()}
    for inner in sorted(inside, key=lambda path: (len(path.parts), path)):
        if table := tables.metadata(folder / inner):
            yield table


def named_images(table: Path, wrong: WrongRows) -> Iterator[tuple[int, str, str]]:
    """Line, image as written, and caption, for every image that a table names."""
    for line, cells in tables.rows(table, wrong):
        try:
            names = [*columns.images(cells), *columns.perhaps(cells)]
            text = next(iter(columns.texts(cells, required=False)), "")
        except columns.WrongCellError as error:
            wrong.add(f"{table}:{line}", str(error), f"See the columns {', '.join(columns.IMAGE[:4])}.")
            continue
        if not names:
            urls = " but URLs; 'memfix fetch' makes files of them" if columns.urls(cells) else ""
            wrong.add(f"{table}:{line}", f"names no image file{urls}", f"Name it in a column {columns.IMAGE[0]}.")
        for name in names:
            yield line, name, text


def missing(wrong: WrongRows, table: Path, line: int, name: str) -> None:
    """Take note of an image that a table names and that is not there."""
    wrong.add_picture(f"{table}:{line}:", f"there is no reference image {name}", "Correct or drop the path.")


def beside(picture: Path, wrong: WrongRows) -> str:
    """The caption in the text file beside a picture; nothing if there is none."""
    for file in map(picture.with_suffix, BESIDE):
        try:
            with file.open("rb") as opened:
                data = opened.read(LIMIT)
            if by_head(data[:HEAD]) is None:  # else it is a picture itself
                return columns.clean(data.decode("utf-8-sig"))
        except UnicodeDecodeError:
            wrong.add(str(file), "is not UTF-8 text", "Save it as UTF-8.")
        except OSError:  # there is none
            continue
    return ""
