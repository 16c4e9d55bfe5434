"""The pictures that an index was made from, opened where they were then, and only if they are still the same."""

from __future__ import annotations

from pathlib import Path
from shlex import quote

from PIL import Image

from memfix.errors import MemfixError
from memfix.index.pictures import examine
from memfix.index.rows import Row
from memfix.index.store import Store
from memfix.inputs.embedded import ordered_name
from memfix.inputs.inside import container, parted
from memfix.inputs.opening import open_image


class Originals:
    """Pictures by the rows of an index."""

    def __init__(self, store: Store) -> None:
        self.folder = Path(store.manifest.folder)
        self._store = store

    def address(self, row: Row) -> str:
        """Where a picture is: a path, or a place in a tar or table."""
        return str(self.folder / row.path)

    def find(self, file_name: str, address: str) -> int | None:
        """The vector of the picture at an address; `file_name` is its name in the index if it lies in a tar."""
        inside = Path(address).is_relative_to(self.folder)
        own = Path(address).relative_to(self.folder).as_posix() if inside else file_name
        frame = parted(address)[1]
        behind = f"#{frame + 1}" if frame else ""
        for name in (file_name, own, ordered_name(own.removesuffix(behind)) + behind):
            vector = self._store.find(name)
            if vector is not None and self.address(self._store.row(vector)) == address:
                return vector
        return None

    def open(self, row: Row) -> Image.Image:
        """Decode a picture. Raises MemfixError, naming it, if it is gone or is another one than was indexed.

        Its bytes are compared each time: a copy that keeps times and sizes can put another picture in its place.
        """
        address = self.address(row)
        if not container(address).is_file():
            raise self._gone(address)
        if examine(address).sha256 != row.sha256:
            raise MemfixError(
                f"{address} has changed since {self._store.path} was made.",
                f"Restore it, or give it a new time, since by that and its size changes are found, and "
                f"{self._update(self._store.manifest.source, container(address))}",
            )
        return open_image(address)

    def _gone(self, address: str) -> MemfixError:
        if self.folder.is_dir():
            return MemfixError(
                f"{address} is in {self._store.path}, but not on disk.",
                f"Restore it, or {self._update(self._store.manifest.source)}",
            )
        return MemfixError(
            f"{address} cannot be read: there is no {self.folder}, which {self._store.path} was made from.",
            f"Mount or restore it. If it was moved to FOLDER, {self._update('FOLDER')}",
        )

    def _update(self, folder: str, changed: Path | None = None) -> str:
        touch = f"touch {quote(str(changed))}; " if changed else ""
        return f"bring the index up to date: {touch}memfix index {folder} --out {self._store.path}"
