"""Rows of any table that others publish, one at a time, with their lines. Knows nothing of what the columns mean.

A wrong row goes to WrongRows; a file that is wrong as a whole is a MemfixError.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from memfix.errors import MemfixError
from memfix.files import files_below
from memfix.inputs import columns, embedded, separated
from memfix.inputs.wrong_rows import WrongRows

SUFFIXES = {".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet"}
METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
BATCH = 1024  # rows of parquet in memory at once


class TableRow(NamedTuple):
    """Cells by normal column name. `line` is the first line of the row; in JSON and parquet its number, from 1."""

    line: int
    cells: dict[str, Any]


def rows(path: Path, wrong: WrongRows) -> Iterator[TableRow]:
    """The rows of a table, by its suffix (one of SUFFIXES); all but JSON are streamed."""
    match path.suffix.lower():
        case ".csv" | ".tsv":
            return (TableRow(*row) for row in separated.separated_rows(path, lines(path, wrong), wrong))
        case ".jsonl" | ".ndjson":
            return _jsonl(path, wrong)
        case ".json":
            return _json(path, wrong)
        case ".parquet":
            return _parquet(path, wrong)
        case suffix:
            raise MemfixError(
                f"{path}: a file ending in '{suffix}' is not a known table.",
                f"Known endings: {', '.join(sorted(SUFFIXES))}.",
            )


def metadata(folder: Path) -> Path | None:
    """The table of an imagefolder."""
    return next((folder / name for name in METADATA if (folder / name).is_file()), None)


def metadata_below(folder: Path) -> list[Path]:
    """The tables of imagefolders in a folder, at any depth: one for each split."""
    folders = sorted({path.parent for found in files_below(folder) if (path := folder / found.path).name in METADATA})
    return [table for inner in folders if (table := metadata(inner))]


def existing(table: Path, name: str) -> str | None:
    """The absolute path of an image that a table names, relative to the table, or its address in it.

    None if it is not there.
    """
    try:
        if embedded.container(name) == table.resolve():
            return name
        path = (table.parent / name).resolve()
        return str(path) if path.is_file() else None
    except (OSError, ValueError):  # a name too long for the system, or with a zero byte in it
        return None


def lines(path: Path, wrong: WrongRows) -> Iterator[tuple[int, str]]:
    """Numbered lines of a UTF-8 file, with or without byte order mark, line ends kept."""
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
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
            item = json.loads(text)
        except json.JSONDecodeError as error:
            wrong.add(f"{path}:{number}", f"is not JSON: {error.msg} at column {error.colno}", "Correct the line.")
            continue
        except RecursionError:
            wrong.add(f"{path}:{number}", "is nested too deeply", 'Write {"text": "…"} there.')
            continue
        yield from _item(path, number, item, wrong)


def _json(path: Path, wrong: WrongRows) -> Iterator[TableRow]:
    try:
        data = json.loads(path.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise MemfixError(f"{path} is not UTF-8 text (byte {error.start}).", "Save it as UTF-8.") from None
    except json.JSONDecodeError as error:
        raise MemfixError(f"{path}:{error.lineno} is not JSON: {error.msg}.", "Correct the line.") from None
    except RecursionError:
        raise MemfixError(f"{path} is not a list of prompts: it is nested too deeply.", "Write a flat list.") from None
    for number, item in enumerate(_list_in(path, data), 1):
        yield from _item(path, number, item, wrong)


def _item(path: Path, number: int, item: Any, wrong: WrongRows) -> Iterator[TableRow]:
    if isinstance(item, str):
        yield TableRow(number, {"text": item})
    elif isinstance(item, dict):
        yield TableRow(number, {columns.normal(name): cell for name, cell in item.items()})
    else:
        wrong.add(f"{path}:{number}", "is not a JSON object", 'Write {"text": "…"} there.')


def _list_in(path: Path, data: Any) -> list[Any]:
    """The list itself, or the rows in an object.

    These are a list of objects with a known column; else columns of one length, by name; else the object itself, if it
    holds one text; else the only list there is.
    """
    if isinstance(data, list):
        return data
    cells = {columns.normal(k): v for k, v in data.items()} if isinstance(data, dict) else {}
    lists = {name: cell for name, cell in cells.items() if isinstance(cell, list)}
    for items in lists.values():
        if items and isinstance(items[0], dict) and any(columns.known(columns.normal(name)) for name in items[0]):
            return items
    if any(isinstance(cells.get(name), str) for name in columns.TEXT):
        return [data]
    held = {name: _column(cell) for name, cell in cells.items() if columns.known(name)}
    if columns.TEXT_OR_URL & {name for name, column in held.items() if column is not None}:
        return _transposed(path, {name: column for name, column in held.items() if column is not None})
    if len(lists) == 1:
        return next(iter(lists.values()))
    raise MemfixError(f"{path} contains no list of prompts.", 'Write ["…", …], [{"text": "…"}, …] or {"prompts": […]}.')


def _column(cell: Any) -> list[Any] | None:
    """The cells of a column: a list, or an object from row to cell, as pandas writes it; None if it is neither."""
    cells = list(cell.values()) if isinstance(cell, dict) else cell
    is_column = isinstance(cells, list) and not any(isinstance(item, dict) for item in cells)
    return cells if is_column else None


def _transposed(path: Path, held: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """Rows of columns. Raises MemfixError where these cannot belong together."""
    if len({len(column) for column in held.values()}) > 1:
        lengths = ", ".join(f"{len(column)} {name}" for name, column in held.items())
        raise MemfixError(f"{path} has columns of different lengths: {lengths}.", 'Write [{"text": "…"}, …].')
    return [dict(zip(held, row, strict=True)) for row in zip(*held.values(), strict=True)]


def _parquet(path: Path, wrong: WrongRows) -> Iterator[TableRow]:
    """Known columns of text and lists of text; pictures inside the table are `file_name`s: their addresses."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, buffer_size=embedded.BUFFER) as file:
            names = [f.name for f in file.schema_arrow if columns.known(columns.normal(f.name)) and _is_text(f.type)]
            pictures = _pictures(file)
            number = 0
            for batch in _batches(file, names, pictures):
                for i in range(batch.num_rows):
                    number += 1
                    try:
                        (cells,) = batch.slice(i, 1).to_pylist()
                    except UnicodeDecodeError as error:
                        wrong.add(f"{path}:{number}", f"is not UTF-8 text (byte {error.start})", "Write it as UTF-8.")
                        continue
                    held = embedded.named(path, pictures, number, cells.pop(pictures)) if pictures else []
                    named = {columns.normal(name): cell for name, cell in cells.items()}
                    yield TableRow(number, named | ({columns.IMAGE[0]: held} if held else {}))
    except (pa.ArrowException, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise MemfixError(f"{path} cannot be read as parquet: {reason}", "Replace the file.") from None


def _pictures(file: Any) -> str:
    """The column that holds pictures, of several the one of the most usual name; nothing if there is none."""
    kinds = {f.name: f.type for f in file.schema_arrow}
    found = [name for name in kinds if columns.normal(name) in columns.IMAGE and embedded.is_pictures(kinds[name])]
    return min(found, key=lambda name: columns.IMAGE.index(columns.normal(name)), default="")


def _batches(file: Any, names: list[str], pictures: str) -> Iterator[Any]:
    """Rows of the named columns, with that of the pictures as `embedded.named` wants it."""
    if not pictures:
        yield from file.iter_batches(BATCH, columns=names)
        return
    for group in range(file.num_row_groups):
        more = embedded.leaves(file, pictures, group)
        size = embedded.ROWS if more == [pictures] else BATCH
        yield from file.iter_batches(size, row_groups=[group], columns=[*names, *more])


def _is_text(kind: Any) -> bool:
    import pyarrow.types as types

    if types.is_list(kind) or types.is_large_list(kind) or types.is_dictionary(kind):
        kind = kind.value_type
    return bool(types.is_string(kind) or types.is_large_string(kind))
