"""The bytes of a list: of a file, or of what is piped in, which is read once and kept."""

from __future__ import annotations

import sys
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import IO, TextIO

DASH, STDIN = "-", Path("/dev/stdin")
"""What stands for it on the command line, and what it is called in a run."""


def binary(path: Path) -> IO[bytes]:
    """A list to be read from its beginning. Raises OSError."""
    return BytesIO(_read(sys.stdin)) if path == STDIN else path.open("rb")


def base_folder(table: Path) -> Path:
    """The folder that paths in a table are relative to."""
    return Path() if table == STDIN else table.parent


@lru_cache(1)
def _read(stream: TextIO) -> bytes:
    return stream.buffer.read()
