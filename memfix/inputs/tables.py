"""Rows of any table that others publish, one at a time, with their lines. Knows nothing of what the columns mean.

A wrong row goes to WrongRows; a file that is wrong as a whole is a MemfixError.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from memfix.errors import MemfixError
from memfix.files import errors_of, files_below, is_hidden
from memfix.inputs import columns, embedded, separated
from memfix.inputs.contents import POINTER, Content, by_head
from memfix.inputs.json_lists import list_in, row_of
from memfix.inputs.no_prompts import PULL
from memfix.inputs.standard_input import binary
from memfix.inputs.tally import PassedOver, Tally
from memfix.inputs.text_lists import LINES_THAT_SHOW, Form, form_of
from memfix.inputs.wrong_rows import WrongRows


class Table(StrEnum):
    """Kinds of tables."""

    SEPARATED = "cells between separators"
    JSON_LINES = "an object of JSON a line"
    JSON = "JSON"
    PARQUET = "parquet"


SUFFIXES = {
    ".csv": Table.SEPARATED, ".tsv": Table.SEPARATED, ".jsonl": Table.JSON_LINES, ".ndjson": Table.JSON_LINES,
    ".json": Table.JSON, ".parquet": Table.PARQUET,
}  # fmt: skip
OF_TEXT = {
    Form.LINES: None, Form.SEPARATED: Table.SEPARATED, Form.JSON: Table.JSON, Form.JSON_LINES: Table.JSON_LINES,
}  # fmt: skip
NO_LISTS = {
    ".yaml", ".yml", ".toml", ".ini", ".cfg", ".md", ".rst", ".html", ".htm", ".xml", ".py", ".ipynb", ".sh", ".rtf",
    ".tex", ".doc", ".docx", ".xls", ".xlsx", ".ods", ".odt", ".npy", ".npz", ".pkl", ".pt", ".safetensors", ".arrow",
    ".feather", ".sqlite", ".db", ".zip", ".srt", ".vtt", ".ass", ".ssa",
}  # fmt: skip
"""Names of files that are no lines of text and none of these tables."""

COMPRESSED = (b"PK\x03\x04", b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"7z\xbc\xaf\x27\x1c", b"Rar!")
TEXT_HEAD = 1 << 16  # bytes that show what a text file is
METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
MAGIC = b"PAR1"
BATCH = 1024  # rows of parquet in memory at once


class TableRow(NamedTuple):
    """Cells by normal column name. `line` is the first line of the row; in JSON and parquet its number, from 1."""

    line: int
    cells: dict[str, Any]


def rows(path: Path, wrong: WrongRows) -> Iterator[TableRow]:
    """The rows of a table, by its suffix, else by what is in it; all but JSON are streamed.

    Raises MemfixError for a file that is no table.
    """
    match form(path):
        case Table.SEPARATED:
            return (TableRow(*row) for row in separated.separated_rows(path, lines(path, wrong), wrong))
        case Table.JSON_LINES:
            return _jsonl(path, wrong)
        case Table.JSON:
            return _json(path, wrong)
        case Table.PARQUET:
            return _parquet(path, wrong)
    raise MemfixError(
        f"{path} is not a known table.", f"Known endings: {', '.join(sorted(SUFFIXES))}; a text file may be one, too."
    )


def form(path: Path) -> Table | None:
    """What kind of table a file is; None for lines of text. Raises MemfixError for what is neither."""
    if known := SUFFIXES.get(path.suffix.lower()):
        begins = _beginning(path)
        _require_no_pointer(path, begins)
        return Table.PARQUET if begins.startswith(MAGIC) else known
    return Table.PARQUET if _head(path).startswith(MAGIC) else OF_TEXT[form_of(first_lines(path))]


def _beginning(path: Path) -> bytes:
    """The first bytes of a file under whatever name; nothing where it cannot be read."""
    try:
        with binary(path) as file:
            return file.read(len(POINTER))
    except OSError:  # reading it will say why
        return b""


def _require_no_pointer(path: Path, head: bytes) -> None:
    if head.startswith(POINTER):
        raise MemfixError(f"{path} is a pointer of Git LFS, which stands for a file that was not fetched.", PULL)


def first_lines(path: Path) -> list[str]:
    """Lines of a text file that show what it is, whole ones. Raises MemfixError as `form` does."""
    head = _head(path)
    found = head.decode("utf-8-sig", errors="replace").splitlines()[:LINES_THAT_SHOW]
    return found[:-1] if len(head) == TEXT_HEAD and len(found) > 1 else found


def _head(path: Path) -> bytes:
    """The beginning of a file of text. Raises MemfixError for what is none, or written for something else."""
    give = "Give lines of text (.txt), or a table: " + ", ".join(sorted(SUFFIXES)) + "."
    if path.suffix.lower() in NO_LISTS:
        raise MemfixError(f"{path} is no list that memfix reads: it ends in '{path.suffix}'.", give)
    try:
        with binary(path) as file:
            head = file.read(TEXT_HEAD)
    except OSError as error:
        raise MemfixError(f"{path} cannot be read: {error.strerror}.", "Restore it, or correct its rights.") from None
    _require_no_pointer(path, head)
    if head.startswith(COMPRESSED):
        raise MemfixError(f"{path} is compressed.", "Unpack it first.")
    if known := by_head(head):
        if known.content is not Content.TABLE:
            raise MemfixError(f"{path} is no list of texts, but a {known.format or known.content}.", give)
    elif b"\0" in head and not head.startswith((b"\xff\xfe", b"\xfe\xff")):  # UTF-16 is told as such
        raise MemfixError(f"{path} is no text.", give)
    if head.lstrip()[:9].lower() in {b"<!doctype", b"<html>", b"<?xml ver"} or head.lstrip()[:5].lower() == b"<html":
        raise MemfixError(f"{path} is a web page, and no list.", give)
    return head


def metadata(folder: Path) -> list[Path]:
    """The tables of an imagefolder: several tell of other pictures each, or of the same ones again."""
    return [folder / name for name in METADATA if (folder / name).is_file()]


def metadata_below(folder: Path) -> list[Path]:
    """The tables of imagefolders in a folder, at any depth: one for each split."""
    names = (found.path for found in files_below(folder) if not is_hidden(found.path))
    folders = sorted({path.parent for name in names if (path := folder / name).name in METADATA})
    return [table for inner in folders for table in metadata(inner)]


def lines(path: Path, wrong: WrongRows) -> Iterator[tuple[int, str]]:
    """Numbered lines of a UTF-8 file, with or without byte order mark, line ends kept."""
    with errors_of(path), binary(path) as file:
        head = file.read(TEXT_HEAD)
        of_old_mac = b"\r" in head.rstrip(b"\r") and b"\n" not in head
        file.seek(0)
        for number, raw in enumerate(file.read().split(b"\r") if of_old_mac else file, 1):
            try:
                text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                wrong.add(f"{path}:{number}", f"is not UTF-8 text (byte {error.start})", "Save the file as UTF-8.")
                continue
            yield number, text


def _jsonl(path: Path, wrong: WrongRows) -> Iterator[TableRow]:
    for number, text in lines(path, wrong):
        if not text.strip():
            continue
        try:
            item = json.loads(text, object_pairs_hook=columns.object_of)
        except columns.WrongCellError as error:
            wrong.add(f"{path}:{number}", str(error), columns.RENAME)
            continue
        except json.JSONDecodeError as error:
            wrong.add(f"{path}:{number}", f"is not JSON: {error.msg} at column {error.colno}", "Correct the line.")
            continue
        except RecursionError:
            wrong.add(f"{path}:{number}", "is nested too deeply", 'Write {"text": "…"} there.')
            continue
        yield from _item(path, number, item, wrong)


def _json(path: Path, wrong: WrongRows) -> Iterator[TableRow]:
    try:
        with errors_of(path), binary(path) as file:
            data = json.loads(file.read().decode("utf-8-sig"), object_pairs_hook=columns.object_of)
    except columns.WrongCellError as error:
        raise MemfixError(f"{path} {error}.", columns.RENAME) from None
    except UnicodeDecodeError as error:
        raise MemfixError(f"{path} is not UTF-8 text (byte {error.start}).", "Save it as UTF-8.") from None
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":  # an object a line
            yield from _jsonl(path, wrong)
            return
        raise MemfixError(f"{path}:{error.lineno} is not JSON: {error.msg}.", "Correct the line.") from None
    except RecursionError:
        raise MemfixError(f"{path} is not a list of prompts: it is nested too deeply.", "Write a flat list.") from None
    for number, item in enumerate(list_in(path, data), 1):
        yield from _item(path, number, item, wrong)


def _item(path: Path, number: int, item: Any, wrong: WrongRows) -> Iterator[TableRow]:
    if isinstance(item, str):
        yield TableRow(number, {"text": item})
    elif isinstance(item, dict):
        yield TableRow(number, row_of(item))
    else:
        wrong.add(f"{path}:{number}", "is not a JSON object", 'Write {"text": "…"} there.')


def has_texts(path: Path) -> bool:
    """Whether a parquet table has a column of prompts. Raises MemfixError if it cannot be read."""
    with _parquet_file(path) as file:
        texts = (columns.normal(f.name) in columns.TEXT and _is_text(f.type) for f in file.schema_arrow)
        return any(texts) or any(_is_text_inside(f.type) for f in file.schema_arrow)


class Held(NamedTuple):
    """Whether a parquet table has pictures in it, and its columns that may hold some and are not read."""

    pictures: bool = False
    unread: tuple[str, ...] = ()


def held_in(path: Path) -> Held:
    """What a parquet table has in it. Raises MemfixError if it cannot be read."""
    with _parquet_file(path) as file:
        return Held(bool(embedded.picture_columns(file)), tuple(embedded.unread_columns(file)))


def count_unread(path: Path, held: Held, tally: Tally) -> None:
    """Count the columns of a table that may hold pictures and are not read."""
    for column in held.unread:
        tally.pass_over(PassedOver.UNREAD, f"column '{column}' of {path}")


@contextmanager
def _parquet_file(path: Path) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, buffer_size=embedded.BUFFER) as file:
            yield file
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise MemfixError(f"{path} cannot be read as parquet: {reason}", "Replace the file.") from None


def _parquet(path: Path, wrong: WrongRows) -> Iterator[TableRow]:
    """Columns of texts that are read, or told of; pictures inside the table are `file_name`s: their addresses."""
    with _parquet_file(path) as file:
        if twice := columns.named_twice([columns.normal(name) for name in file.schema_arrow.names]):
            raise MemfixError(f"{path} names the column '{twice}' twice.", columns.RENAME)
        texts = [f.name for f in file.schema_arrow if _is_text(f.type)]
        names = [name for name in texts if columns.known(columns.normal(name))]
        names += [name for name in texts if name not in names and columns.OTHER_TEXT.fullmatch(columns.normal(name))]
        if not any(columns.normal(name) in columns.TEXT for name in names):
            names += [f.name for f in file.schema_arrow if _is_text_inside(f.type)]
        pictures = embedded.picture_columns(file)
        others = (*embedded.encoded_columns(file), *embedded.naming_columns(file))
        names += [name for name in dict.fromkeys(others) if name not in (*names, *pictures)]
        number = 0
        for batch in _batches(file, names, pictures):
            for i in range(batch.num_rows):
                number += 1
                try:
                    (cells,) = batch.slice(i, 1).to_pylist()
                except UnicodeDecodeError as error:
                    wrong.add(f"{path}:{number}", f"is not UTF-8 text (byte {error.start})", "Write it as UTF-8.")
                    continue
                held = [a for name in pictures for a in embedded.named(path, name, number, cells.pop(name))]
                row = row_of(cells)
                if held or (pictures and not row.get(columns.IMAGE[0])):
                    row |= {columns.IMAGE[0]: held}
                yield TableRow(number, row)


def _batches(file: Any, names: list[str], pictures: list[str]) -> Iterator[Any]:
    """Rows of the named columns, with those of pictures as `embedded.named` wants them."""
    if not pictures:
        yield from file.iter_batches(BATCH, columns=names)
        return
    for group in range(file.num_row_groups):
        more = [leaf for name in pictures for leaf in embedded.leaves(file, name, group)]
        size = embedded.ROWS if {*more} & {*pictures} else BATCH
        yield from file.iter_batches(size, row_groups=[group], columns=[*names, *more])


def _is_text_inside(kind: Any) -> bool:
    """Whether a column has cells of cells, one of them a text."""
    import pyarrow.types as types

    return bool(types.is_struct(kind)) and any(
        columns.normal(f.name) in columns.TEXT and _is_text(f.type) for f in kind
    )


def _is_text(kind: Any) -> bool:
    import pyarrow.types as types

    if types.is_list(kind) or types.is_large_list(kind) or types.is_dictionary(kind):
        kind = kind.value_type
    return bool(types.is_string(kind) or types.is_large_string(kind))
