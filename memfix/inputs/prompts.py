"""Prompt lists as others publish them: lines of text, or any table with the column names in use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from memfix.demo import LISTS, list_path
from memfix.errors import ExitCode, MemfixError
from memfix.inputs import columns, tables
from memfix.inputs.captions import missing
from memfix.inputs.wrong_rows import WrongRows
from memfix.records import Prompt, Role

HINT = f"One of these columns must hold the text: {', '.join(columns.TEXT)}; and one of these, if any, the images: " + (
    f"{', '.join((*columns.IMAGE[:4], *columns.URL[:2]))}."
)


class PromptRow(NamedTuple):
    """One text of a list. `references` are absolute paths of files that exist, `urls` as they are written."""

    line: int
    text: str
    references: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    ground_truth: str = ""


def read_prompts(
    source: str, role: Role = Role.PROMPT, limit: int | None = None, wrong: WrongRows | None = None
) -> list[Prompt]:
    """Read a prompt list; a text that comes again is read once, with the references and URLs of all its rows.

    With `limit`, reading ends at the first text beyond it. Raises MemfixError, naming file and line, for a missing,
    empty or malformed list; `wrong` says what becomes of single wrong rows.
    """
    wrong = wrong or WrongRows()
    path = list_file(source)
    merged: dict[str, PromptRow] = {}
    for row in stream(path, wrong):
        known = merged.get(row.text)
        if known is None and len(merged) == limit:
            break
        merged[row.text] = _merge(known, row) if known else row
    if not merged:
        left_out = f" that can be read; {wrong.first[0]}" if wrong.first else ""
        raise MemfixError(f"{path} contains no prompt{left_out}.", "Write one prompt per line.")
    prefix = "p" if role is Role.PROMPT else "c"
    return [
        Prompt(
            id=f"{prefix}{i:04d}", text=row.text, role=role, source=f"{path}:{row.line}",
            references=row.references, urls=row.urls, ground_truth=row.ground_truth,
        )
        for i, row in enumerate(merged.values(), 1)
    ]  # fmt: skip


def list_file(source: str) -> Path:
    """The file of a prompt list: a bundled one by its name, a file, or the table of an imagefolder."""
    path = list_path(source) if source in LISTS and not Path(source).exists() else Path(source)
    if path.is_dir():
        return _list_of(path)
    if not path.is_file():
        raise MemfixError(
            f"There is no prompt list {path}.", "Give a text file with one prompt per line.", ExitCode.USAGE
        )
    return path


def _list_of(folder: Path) -> Path:
    """The table of an imagefolder, its own or the one in a folder of it."""
    found = tables.metadata(folder)
    below = [] if found else tables.metadata_below(folder)
    if len(below) > 1:
        names = ", ".join(str(table) for table in below[:3])
        raise MemfixError(f"There are {len(below)} prompt lists in the folder {folder}: {names}.", "Give one of them.")
    found = found or next(iter(below), None)
    if found is None:
        raise MemfixError(
            f"There is no prompt list in the folder {folder}.",
            f"Put one of these there: {', '.join(tables.METADATA)}.",
        )
    return found


def stream(path: Path, wrong: WrongRows, images: bool = True) -> Iterator[PromptRow]:
    """Every text of a list in order, repeated ones too; a row of several paraphrases gives one each.

    Without `images` nothing is read of a row but its texts.
    """
    if path.suffix.lower() not in tables.SUFFIXES:
        for number, text in tables.lines(path, wrong):
            if text.strip():
                yield PromptRow(number, text.strip())
        return
    for number, cells in tables.rows(path, wrong):
        try:
            texts = columns.texts(cells)
            names, urls = (columns.images(cells), tuple(columns.urls(cells))) if images else ([], ())
        except columns.WrongCellError as error:
            wrong.add(f"{path}:{number}", str(error), HINT)
            continue
        references = tuple(_files(path, number, names, wrong))
        for text in texts:
            yield PromptRow(number, text, references, urls, columns.ground_truth(cells))


def _files(path: Path, number: int, names: Sequence[str], wrong: WrongRows) -> Iterator[str]:
    """Those images of a row that are there."""
    for name in names:
        file = tables.existing(path, name)
        if file is None:
            missing(wrong, path, number, name)
        else:
            yield file


def _merge(first: PromptRow, again: PromptRow) -> PromptRow:
    return first._replace(
        references=_union(first.references, again.references),
        urls=_union(first.urls, again.urls),
        ground_truth=first.ground_truth or again.ground_truth,
    )


def _union(first: Sequence[str], second: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*first, *second)))
