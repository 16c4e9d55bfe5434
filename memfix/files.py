"""Files that are whole or absent, folders that one process holds, hashes of contents."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from memfix.errors import MemfixError

CHUNK = 1 << 20
TEMPORARY = ".tmp"


def sha256(files: Iterable[Path]) -> str:
    """One hash over the contents of files, in order of their names; of a single file, what `sha256sum` prints."""
    total = hashlib.sha256()
    for path in sorted(files):
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                total.update(chunk)
    return total.hexdigest()


@contextmanager
def atomic(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which takes its name once the block has ended well and the bytes are on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomic(path: Path, text: str) -> None:
    """Write a text so that no reader, and no crash, ever sees half of it."""
    with atomic(path) as file:
        file.write(text.encode())


@contextmanager
def held(folder: Path, name: str = ".lock") -> Iterator[None]:
    """Keep every other process out of a folder, or out of the part of it that `name` stands for."""
    lock = FileLock(folder / name, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise MemfixError(
            f"{folder} is in use by another memfix process.", "Wait until it ends, or give another folder to -o."
        ) from None
    try:
        yield
    finally:
        lock.release()
