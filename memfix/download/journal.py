"""The journal of a folder of fetched pictures: one line a finished URL, only appended. Knows nothing of fetching."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from memfix.download.fetched import Fetched, Status
from memfix.errors import MemfixError
from memfix.files import held, require_no_file

NAME = "fetch.jsonl"
PARTIAL = ".part-"


class Journal:
    """The last word on every URL, in memory and on disk. Open with `Journal.open`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / NAME
        self.records: dict[str, Fetched] = {}
        self._read()

    @classmethod
    @contextmanager
    def open(cls, folder: Path) -> Iterator[Journal]:
        """Hold a folder against other processes; what an interrupted one left half done is removed.

        Raises MemfixError for a folder that holds other things, is in use, or has a damaged journal.
        """
        require_no_file(folder)
        if folder.exists() and not (folder / NAME).exists() and any(p.name != ".lock" for p in folder.iterdir()):
            raise MemfixError(f"{folder} is not empty and holds no {NAME}.", "Give another folder to -o.")
        folder.mkdir(parents=True, exist_ok=True)
        with held(folder):
            for partial in folder.glob(f"{PARTIAL}*"):
                partial.unlink()
            yield cls(folder)

    def append(self, record: Fetched) -> None:
        """Add a line, in one write."""
        self.records[record.url] = record
        with self.path.open("ab") as file:
            file.write(f"{record.model_dump_json(exclude_defaults=True)}\n".encode())

    def picture(self, record: Fetched) -> Path | None:
        """The file of a fetched URL, if it is there whole."""
        if record.status is not Status.FETCHED:
            return None
        path = self.folder / record.file_name
        try:
            return path if path.stat().st_size == record.bytes else None
        except OSError:
            return None

    def _read(self) -> None:
        self.path.touch()
        with self.path.open("r+b") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):  # the process that wrote it was killed
                    file.seek(-len(line), os.SEEK_END)
                    file.truncate()
                    break
                try:
                    record = Fetched.model_validate_json(line)
                except ValueError as error:
                    raise MemfixError(
                        f"{self.path}:{number} is damaged: {str(error).splitlines()[0]}",
                        "Delete that line; its URL is then fetched again.",
                    ) from None
                self.records[record.url] = record
