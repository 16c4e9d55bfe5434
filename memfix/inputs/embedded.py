"""Pictures inside a parquet table: columns of {bytes, path}, as `datasets` stores them, of bytes, or of lists.

A picture's address is `/a/b.parquet#image:3+0`: column, row from 1, and place in the list of the row. Nothing is
unpacked, and listing rows of {bytes, path} reads no picture.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from functools import lru_cache
from io import BytesIO
from itertools import accumulate, islice
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

from memfix.inputs import columns
from memfix.inputs.contents import Content, by_bytes, by_name
from memfix.inputs.encoded import is_encoded
from memfix.inputs.seeming import seems_to_name, texts_inside

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

ADDRESS = re.compile(r"(?s)(.+)#([^#]*):(\d+)\+(\d+)")
ROWS = 16  # read at once, with their pictures
BEHIND = 64 << 20  # bytes of rows that are kept behind the last one: several threads do not read in strict order
BUFFER = 1 << 20  # bytes read ahead: a row group is not loaded as a whole, but page by page
FILES = 4  # kept open

_lock = Lock()


def is_pictures(kind: pa.DataType) -> bool:
    """Whether a column has the form of pictures, or of sounds: {bytes, path}, or lists of them."""
    import pyarrow.types as types

    kind = _single(kind)
    return bool(types.is_struct(kind)) and {"bytes", "path"} <= {field.name for field in kind}


def picture_columns(file: ParquetFile) -> list[str]:
    """The columns that hold pictures: by form and usual name, else by what is in their first cells."""
    found = []
    for field in file.schema_arrow:
        formed = is_pictures(field.type)
        if (formed and columns.normal(field.name) in columns.IMAGE) or (
            (formed or _is_bytes(field.type)) and _begins_with_pictures(file, field.name)
        ):
            found.append(field.name)
    return found


def _single(kind: pa.DataType) -> pa.DataType:
    """What a column of lists holds lists of; of another column its own type."""
    import pyarrow.types as types

    listed = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return kind.value_type if listed else kind


def unread_columns(file: ParquetFile) -> list[str]:
    """The columns that may hold pictures and are not read: with bytes or levels of grey somewhere in their cells."""
    read = picture_columns(file)
    unread = [f.name for f in file.schema_arrow if f.name not in read and (_has_bytes(f.type) or _has_levels(f.type))]
    return unread + encoded_columns(file)


def encoded_columns(file: ParquetFile) -> list[str]:
    """The columns of text that begin with pictures as text."""
    names = [field.name for field in file.schema_arrow if _is_text(field.type)]
    return [name for name in names if any(map(is_encoded, _first_texts(file, name)))]


def naming_columns(file: ParquetFile) -> list[str]:
    """The columns of texts, also in lists and cells of cells, that begin with what seems to name pictures."""
    names = [field.name for field in file.schema_arrow if _has_text(field.type) and not _has_bytes(field.type)]
    return [name for name in names if any(map(seems_to_name, _first_texts(file, name)))]


def _first_texts(file: ParquetFile, column: str) -> Iterator[str]:
    try:
        for item in _first_items(file, column):
            text = item.decode("latin-1") if isinstance(item, bytes) else item
            yield from (text, *texts_inside(text)) if isinstance(text, str) else texts_inside(text)
    except UnicodeDecodeError:  # its other columns are read without it
        return


def _has_text(kind: pa.DataType) -> bool:
    return _is_text(kind) or any(map(_has_text, _inner(kind)))


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow.types as types

    kind = kind.value_type if types.is_dictionary(kind) else kind
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _has_bytes(kind: pa.DataType) -> bool:
    import pyarrow.types as types

    if types.is_dictionary(kind):
        return _has_bytes(kind.value_type)
    return _is_bytes(kind) or any(map(_has_bytes, _inner(kind)))


def _is_bytes(kind: pa.DataType) -> bool:
    import pyarrow.types as types

    kind = _single(kind)
    kind = kind.value_type if types.is_dictionary(kind) else kind
    forms = (types.is_binary, types.is_large_binary, types.is_fixed_size_binary, types.is_binary_view)
    return any(is_form(kind) for is_form in forms)


def _has_levels(kind: pa.DataType, depth: int = 0) -> bool:
    """Whether cells are lists of bytes as numbers, or of lists of lists of numbers, as arrays are kept in a table."""
    import pyarrow.types as types

    if depth and types.is_uint8(kind):
        return True
    if types.is_integer(kind) or types.is_floating(kind):
        return depth > 2
    depth = depth + 1 if _single(kind) is not kind else 0
    return any(_has_levels(inner, depth) for inner in _inner(kind))


def _inner(kind: pa.DataType) -> list[pa.DataType]:
    """The types of the cells in a cell."""
    kind = getattr(kind, "storage_type", kind)
    return [kind.field(i).type for i in range(kind.num_fields)]


def _begins_with_pictures(file: ParquetFile, column: str) -> bool:
    """Whether one of the first items of a column that are not empty holds a picture, or names one."""
    return any(_is_picture(item) for item in _first_items(file, column))


def _first_items(file: ParquetFile, column: str) -> Iterator[Any]:
    """The first items in the cells of a column that are not empty; of texts, which may be none, their bytes."""
    batches = (batch.column(0) for batch in file.iter_batches(ROWS, columns=[column]))
    cells = (c for b in batches for c in (b.cast("large_binary") if _is_text(b.type) else b).to_pylist())
    items = (item for cell in cells for item in (cell if isinstance(cell, list) else [cell]) if item)
    return islice(filter(_says_something, items), ROWS)


def _says_something(item: Any) -> bool:
    return bool(not isinstance(item, dict) or item.get("bytes") or item.get("path"))


def _is_picture(item: Any) -> bool:
    held, name = (item.get("bytes"), item.get("path")) if isinstance(item, dict) else (item, None)
    known = by_bytes(BytesIO(held), len(held)) if held else by_name(str(name or ""))
    return known is not None and known.content is Content.PICTURE


def leaves(file: ParquetFile, column: str, group: int) -> list[str]:
    """What must be read of a row group to know which rows hold pictures: not the pictures, if all or none do."""
    chunks = [file.metadata.row_group(group).column(i) for i in range(file.metadata.num_columns)]
    held = [c for c in chunks if c.path_in_schema.split(".")[0] == column]
    for chunk in held:
        if chunk.path_in_schema.endswith(".bytes"):
            known = chunk.statistics is not None and chunk.statistics.has_null_count
            if known and chunk.statistics.null_count == 0:
                return [c.path_in_schema for c in held if c.path_in_schema.endswith(".path")]
    return [column]


def named(table: Path, column: str, row: int, cell: Any) -> list[str]:
    """Addresses of the pictures in a cell, as `leaves` read it; the path of one that lies beside the table."""
    found = []
    for place, item in enumerate(cell if isinstance(cell, list) else [cell]):
        if not item:
            continue
        if not isinstance(item, dict) or item.get("bytes", b"not read") is not None:
            found.append(f"{table.resolve()}#{_written(column)}:{row}+{place}")
        elif item.get("path"):
            found.append(str(item["path"]))
    return found


def _written(column: str) -> str:
    """The name of a column as addresses have it: what parts an address may be in it."""
    return column.replace("%", "%25").replace("#", "%23")


def container(address: str) -> Path | None:
    """The table of an address; None if it is none."""
    match = ADDRESS.fullmatch(address)
    return Path(match[1]) if match else None


def ordered_name(address: str) -> str:
    """A name for the picture at an address that sorts as rows do: a.parquet/image:000000003+0. Others as they are."""
    match = ADDRESS.fullmatch(address)
    return f"{match[1]}/{match[2]}:{int(match[3]):09}+{match[4]}" if match else address


def read(address: str) -> bytes | None:
    """The bytes at an address; None if it is none but an ordinary path. Raises OSError. Fast in the order of rows."""
    import pyarrow as pa

    match = ADDRESS.fullmatch(address)
    if match is None or Path(address).is_file():
        return None
    path, column, row, place = Path(match[1]), unquote(match[2]), int(match[3]), int(match[4])
    stat = path.stat()
    try:
        with _lock:
            cell = _reader(path, column, stat.st_mtime_ns, stat.st_size).at(row - 1)
        item = (cell if isinstance(cell, list) else [cell])[place]
        held = item["bytes"] if isinstance(item, dict) else memoryview(item)
    except (pa.ArrowException, LookupError, TypeError) as error:
        raise OSError(f"{path} holds no picture in row {row} of column {column}") from error
    return bytes(held)


class _Reader:
    """One column of a file, read forward; a row before those that are kept starts its row group again."""

    def __init__(self, path: Path, column: str) -> None:
        from pyarrow.parquet import ParquetFile

        self._file, self._column = ParquetFile(path, buffer_size=BUFFER), column
        groups = (self._file.metadata.row_group(i).num_rows for i in range(self._file.num_row_groups))
        self._starts = list(accumulate(groups, initial=0))
        self._coming: Iterator[pa.RecordBatch] = iter(())
        self._kept, self._next = deque[_Rows](), 0

    def at(self, row: int) -> Any:
        """The cell of a row, from 0. Raises IndexError beyond the last."""
        if not 0 <= row < self._starts[-1]:
            raise IndexError(row)
        group = bisect_right(self._starts, row) - 1
        if not self._kept or row < self._kept[0].first or self._next < self._starts[group]:
            self._coming = self._batches(group)
            self._kept.clear()
            self._next = self._starts[group]
        while row >= self._next:
            batch = next(self._coming)
            self._kept.append(_Rows(self._next, batch.column(0).to_pylist(), batch.nbytes))
            self._next += batch.num_rows
            while len(self._kept) > 1 and sum(rows.size for rows in self._kept) > BEHIND:
                self._kept.popleft()
        return next(rows.cells[row - rows.first] for rows in reversed(self._kept) if rows.first <= row)

    def _batches(self, group: int) -> Iterator[pa.RecordBatch]:
        """From a row group on, one of them at a time: of several, more would be held."""
        for i in range(group, self._file.num_row_groups):
            yield from self._file.iter_batches(ROWS, row_groups=[i], columns=[self._column])


class _Rows(NamedTuple):
    """Cells of a column, the number of the first one, and how many bytes they take."""

    first: int
    cells: list[Any]
    size: int


@lru_cache(FILES)
def _reader(path: Path, column: str, mtime_ns: int, size: int) -> _Reader:  # another file under the name is read anew
    return _Reader(path, column)
