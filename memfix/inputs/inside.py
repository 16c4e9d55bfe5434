"""Pictures that are no files of their own, by address: in a tar or in a parquet table."""

from __future__ import annotations

from pathlib import Path

from memfix.inputs import embedded, tars


def container(address: str) -> Path:
    """The file that holds a picture: the tar or table of an address, else the path itself."""
    if Path(address).is_file():  # a name may look like an address
        return Path(address)
    return embedded.container(address) or tars.container(address)


def read(address: str) -> bytes | None:
    """The bytes at an address; None if it is none but an ordinary path. Raises OSError."""
    inside = tars.read(address)
    return embedded.read(address) if inside is None else inside
