"""Files that a stage left behind, known by digest: which ones there were, how many, and which changed since.

Knows nothing of headers or of what the stages mean.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from memfix.files import CHUNK, sha256

MOST_NAMED = 3  # files in a message


class FileDigest(NamedTuple):
    """A file of a run: its path there, and the sha256 of its bytes."""

    path: str
    sha256: str


class Overlay(NamedTuple):
    """A run folder, and a folder beside it whose files are about to take the place of those in the run."""

    run: Path
    beside: Path | None = None

    def file(self, path: str) -> Path:
        """Where a file of the run lies for now."""
        waiting = self.beside / path if self.beside else None
        return waiting if waiting and waiting.exists() else self.run / path

    def contents(self, name: str, apart: Iterable[str] = ()) -> list[FileDigest]:
        """A file, or all files of a folder but hidden ones and those `apart`; none if it is not there."""
        roots = [root for root in (self.run, self.beside) if root]
        found = {file.relative_to(root) for root in roots for file in _files(root / name)}
        paths = [path.as_posix() for path in sorted(found) if path.as_posix() not in apart]
        return [FileDigest(path, sha256([self.file(path)])) for path in paths]

    def lines(self, path: str) -> int:
        """How many lines a file has."""
        with self.file(path).open("rb") as file:
            return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(CHUNK), b""))


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from (file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
    elif path.exists():
        yield path


def digest_of_files(contents: Iterable[FileDigest]) -> str:
    """One hash over files by name and content: that of two that change places is another one."""
    return hashlib.sha256("".join(f"{c.sha256} {c.path}\n" for c in contents).encode()).hexdigest()


def as_sha256sum(contents: Iterable[FileDigest]) -> str:
    """Files and their digests as `sha256sum` writes them, for `sha256sum --check`."""
    return "".join(f"{c.sha256}  {c.path}\n" for c in contents)


def changed_files(text: str, name: str, now: Iterable[FileDigest]) -> list[str]:
    """The files of a name that differ from a list of them, those that are gone or new among them."""
    lines = (line.partition("  ") for line in text.splitlines())
    then = {path: digest for digest, _, path in lines if path == name or path.startswith(f"{name}/")}
    found = {c.path: c.sha256 for c in now}
    return sorted(path for path in then.keys() | found.keys() if then.get(path) != found.get(path))


def first_names(names: Sequence[str]) -> str:
    """Names for a message: the first ones, and how many more there are."""
    more = len(names) - MOST_NAMED
    return " and ".join([*names[:MOST_NAMED], *([f"{more} more files"] if more > 0 else [])])
