"""Hashes of file contents. Knows nothing of what the files are."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

CHUNK = 1 << 20


def sha256(files: Iterable[Path]) -> str:
    """One hash over the contents of files, in order of their names; of a single file, what `sha256sum` prints."""
    total = hashlib.sha256()
    for path in sorted(files):
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                total.update(chunk)
    return total.hexdigest()
