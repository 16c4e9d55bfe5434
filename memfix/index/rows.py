"""What an index knows of one picture, as a line of JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from memfix.files import atomic_file
from memfix.inputs.inside import FRAME_OF


class Row(NamedTuple):
    """A picture: its name, its address in the folder, what its file looked like, and why it has no vector, if so.

    `text` is its caption in a tar or table; that of other pictures is read where it lies. A further frame of a file has
    a row of its own behind that of the file, `m.tif#2`, whose `frame` is 2.
    """

    file_name: str
    path: str
    size: int
    mtime_ns: int
    sha256: str = ""
    reason: str = ""
    text: str = ""
    frame: int = 0
    same_frames: int = 0
    """Of the first frame: how many behind it are the same as one before them, and have no row."""
    unused_frames: int = 0
    """How many are not used for another reason."""

    @property
    def key(self) -> list[str]:
        """What rows are ordered by: a folder's files come where the folder does, and frames directly behind theirs."""
        return [*self.whole.split("/"), _place(self.frame)] if self.frame else self.file_name.split("/")

    @property
    def whole(self) -> str:
        """The name of the file or member that a picture is in."""
        return self.file_name.removesuffix(f"#{self.frame}")

    def further(self, frame: int) -> Row:
        """The row of a frame behind this one, counted from 1."""
        return self._replace(
            file_name=f"{self.file_name}#{frame}", path=f"{self.path}#{frame}", frame=frame,
            same_frames=0, unused_frames=0,
        )  # fmt: skip

    def unchanged(self, other: Row) -> bool:
        """Whether both tell of the same file, as far as its address, size and time say."""
        return (self.path, self.size, self.mtime_ns) == (other.path, other.size, other.mtime_ns)


def keys_of(file_name: str) -> list[list[str]]:
    """The keys that the row of a name may have: a file may be called like a frame of another one."""
    frame = FRAME_OF.fullmatch(file_name)
    return [file_name.split("/"), *([[*frame[1].split("/"), _place(int(frame[2]))]] if frame else [])]


def _place(frame: int) -> str:
    return f"{frame:06}"


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
