"""Pictures that are no files of their own, by address: in a tar, in a parquet table, or behind the first in a file.

The address of the second picture in a file or member is `ADDRESS#2`.
"""

from __future__ import annotations

import re
from pathlib import Path

from memfix.inputs import embedded, tars

FRAME_OF = re.compile(r"(?s)(.+)#([2-9]|[1-9]\d{1,5})")


def parted(address: str) -> tuple[str, int]:
    """The file or member that a picture is in, and which of its frames it is, from 0."""
    match = FRAME_OF.fullmatch(address)
    if match is None or Path(address).is_file():  # a name may look like an address
        return address, 0
    return match[1], int(match[2]) - 1


def container(address: str) -> Path:
    """The file that holds a picture: the tar, table or file of an address, else the path itself."""
    address, _ = parted(address)
    if Path(address).is_file():
        return Path(address)
    return embedded.container(address) or tars.container(address)


def read(address: str) -> bytes | None:
    """The bytes at an address, those of all frames; None for an ordinary path. Raises OSError."""
    address, _ = parted(address)
    inside = tars.read(address)
    return embedded.read(address) if inside is None else inside
