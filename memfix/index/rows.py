"""What an index knows of one picture, as a line of JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from memfix.files import atomic_file


class Row(NamedTuple):
    """A picture: its name, its address in the folder, what its file looked like, and why it has no vector, if so.

    `text` is its caption in a tar or table; that of other pictures is read where it lies. Rows of pictures behind the
    first one of a file follow that of the file, whose size, time and hash they have; `frame` is which of its pictures
    one is, from 2 on.
    """

    file_name: str
    path: str
    size: int
    mtime_ns: int
    sha256: str = ""
    reason: str = ""
    text: str = ""
    frame: int = 0

    def behind(self, frame: int) -> Row:
        """The row of a further picture in the same file, from 2 on."""
        return self._replace(
            file_name=frame_name(self.file_name, frame), path=f"{self.path}#{frame}", frame=frame, reason=""
        )

    @property
    def file(self) -> str:
        """The name of the file or member that the picture is in, or of the table's cell."""
        return self.file_name.rpartition("/")[0] if self.frame else self.file_name

    @property
    def key(self) -> list[str]:
        """What rows are ordered by: a folder's files come where the folder does."""
        return self.file_name.split("/")

    def unchanged(self, other: Row) -> bool:
        """Whether both tell of the same file, as far as its address, size and time say."""
        return (self.path, self.size, self.mtime_ns) == (other.path, other.size, other.mtime_ns)


def frame_name(file_name: str, frame: int) -> str:
    """The name of a further picture in a file, from 2 on: it comes right behind that of the file, in order."""
    return f"{file_name}/#{frame:06}"


def write_lines(path: Path, lines: Iterable[dict[str, object]]) -> None:
    """JSON Lines, whole or absent. ASCII: names from outside cannot break a line or the encoding."""
    with atomic_file(path) as file:
        for line in lines:
            file.write(json.dumps(line).encode() + b"\n")


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a file written by `write_lines`."""
    with path.open("rb") as file:
        for line in file:
            yield json.loads(line)


def as_line(row: Row) -> dict[str, object]:
    """A row without what goes without saying."""
    line = {k: v for k, v in row._asdict().items() if v != Row._field_defaults.get(k)}
    return line if row.path != row.file_name else {k: v for k, v in line.items() if k != "path"}


def from_line(line: dict[str, Any]) -> Row:
    """The row of a line."""
    return Row(**{"path": line["file_name"], **line})
