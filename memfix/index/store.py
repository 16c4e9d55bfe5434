"""An index folder: descriptors in segments, the rows they belong to, and a manifest that says what made them.

    manifest.json           descriptor, precision, folder, segments in order
    segments/<name>.npy     [n, d] float16 or float32, in order of the readable rows
    segments/<name>.jsonl   rows, readable or not; its presence says that the segment is complete
    plan/                   what is being built, see plan.py
    approximate.*           see approximate.py

A segment is written once, and replaced as a whole. Segments hold the rows in the order of `Row.key`, so the id of a
vector is its place among all readable pictures, however often and by however many processes the index was built. Knows
nothing of pictures.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from functools import lru_cache
from hashlib import sha256
from itertools import accumulate
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from memfix.config.choices import Precision
from memfix.errors import MemfixError
from memfix.files import atomic_file, held_in_turn, require_no_file
from memfix.files import sha256 as file_sha256
from memfix.index.rows import Row, from_line, keys_of, read_lines
from memfix.measures.descriptor import Descriptor

SEGMENT_SIZE = 8192
BLOCK = 16384

Vectors = NDArray[np.float32]
Ids = NDArray[np.int64]


class Segment(BaseModel):
    """A file of vectors; `sha256` is that of its rows, which hold the hash of every picture."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    rows: int
    vectors: int
    sha256: str


class Manifest(BaseModel):
    """What the vectors are, and where."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[3] = 3
    descriptor: str
    identity: str
    weights: str = ""  # what to ask for to get the descriptor's weights again; nothing if it has none
    dimension: int
    precision: Precision
    segment_size: int
    folder: str
    file: str = ""  # the one of the folder that was given; nothing for all of it
    next_segment: int = 0
    segments: tuple[Segment, ...] = ()

    @property
    def source(self) -> str:
        """What was given to `memfix index`."""
        return str(Path(self.folder, self.file))


class Store:
    """An index folder, as its manifest was when it was opened."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path, self.manifest = path, manifest
        self._known = {segment.name: segment for segment in manifest.segments}
        self._ends = [0, *accumulate(segment.vectors for segment in manifest.segments)]
        self._cached_rows = lru_cache(maxsize=32)(self._readable_rows)

    # -- opening ------------------------------------------------------------------------------------------------

    @classmethod
    def open(cls, path: Path) -> Store:
        """The index in a folder. Raises MemfixError where there is none, or a damaged one."""
        file = path / "manifest.json"
        try:
            return cls(path, Manifest.model_validate_json(file.read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise MemfixError(
                f"{path} is not an index: it has no manifest.json.", "Make one with: memfix index DIR"
            ) from None
        except (ValidationError, UnicodeDecodeError):
            raise MemfixError(
                f"{file} is damaged, or was written by another version of memfix.",
                "Restore it, or remove the folder and make the index again.",
            ) from None

    @classmethod
    def create(
        cls, path: Path, source: Path, descriptor: Descriptor, precision: Precision | None = None,
        segment_size: int = SEGMENT_SIZE,
    ) -> Store:  # fmt: skip
        """A new index of `source`, or the one that is in `path`, if it is of the same descriptor and precision.

        Without a precision, that of the index that is there will do, and a new one takes float16.
        """
        require_no_file(path)
        path.mkdir(parents=True, exist_ok=True)
        with held_in_turn(path):
            if not (path / "manifest.json").exists():
                if any(not p.name.startswith(".") for p in path.iterdir()):
                    raise MemfixError(f"{path} is not empty, and is not an index.", "Give another folder to --out.")
                empty = cls.empty(path, source, descriptor, precision or Precision.FLOAT16, segment_size)
                empty.save(empty.manifest)
            store = cls.open(path)
            store.require(descriptor)
            store._require_source(source)
            store._follow_weights(descriptor)
        have = store.manifest.precision
        if precision not in (None, have):
            raise MemfixError(f"{path} holds {have}, not {precision}.", "Give another folder to --out.")
        return store

    @classmethod
    def empty(
        cls, path: Path, source: Path, descriptor: Descriptor, precision: Precision = Precision.FLOAT16,
        segment_size: int = SEGMENT_SIZE,
    ) -> Store:  # fmt: skip
        """An index without vectors, of which nothing is written yet."""
        folder, file = _parted(source)
        manifest = Manifest(
            descriptor=descriptor.name, identity=descriptor.identity, weights=_weights(descriptor),
            dimension=descriptor.dimension, precision=precision, segment_size=segment_size,
            folder=folder, file=file,
        )  # fmt: skip
        return cls(path, manifest)

    def save(self, manifest: Manifest) -> None:
        """Put another manifest in place of this one's file."""
        with atomic_file(self.path / "manifest.json") as file:
            file.write(manifest.model_dump_json(indent=1).encode() + b"\n")

    def require(self, descriptor: Descriptor) -> None:
        """Refuse vectors of another descriptor, of other weights, or prepared otherwise."""
        m = self.manifest
        have, other = (m.descriptor, m.identity, m.dimension), _named(descriptor)
        if have != other:
            raise MemfixError(
                f"{self.path} was made with {m.descriptor} ({m.identity}), not with {other[0]} ({other[1]}); "
                "their vectors cannot be compared.",
                f"Use {m.descriptor} with the same weights, or give another folder to --out.",
            )

    def _require_source(self, source: Path) -> None:
        """Refuse another folder or file, whose pictures would take the place of all; one that was moved may go on."""
        own = Path(self.manifest.source)
        folder, file = _parted(source)
        if own == Path(folder, file):
            return
        if own.exists():
            raise MemfixError(f"{self.path} is the index of {own}, not of {source}.", "Give another folder to --out.")
        self.manifest = self.manifest.model_copy(update={"folder": folder, "file": file})
        self.save(self.manifest)

    def _follow_weights(self, descriptor: Descriptor) -> None:
        """The same weights may lie elsewhere by now."""
        if self.manifest.weights != _weights(descriptor):
            self.manifest = self.manifest.model_copy(update={"weights": _weights(descriptor)})
            self.save(self.manifest)

    # -- content ------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        """The number of vectors."""
        return self._ends[-1]

    @property
    def content(self) -> str:
        """A hash of descriptor and rows: the same for the same pictures."""
        segments = "".join(segment.sha256 for segment in self.manifest.segments)
        return sha256(f"{self.manifest.identity}\0{segments}".encode()).hexdigest()

    @property
    def vectors_sha256(self) -> str:
        """A hash of all vectors, which are read to their end.

        Raises MemfixError where the files of rows or vectors are not those that the manifest, and so `content`, is of.
        """
        names = [segment.name for segment in self.manifest.segments]
        for name in names:
            self._require_rows(name)
            self.mapped(name)
        return file_sha256(self.file(name, ".npy") for name in names)

    def file(self, segment: str, suffix: str) -> Path:
        """The path of a segment's .npy or .jsonl."""
        return self.path / "segments" / f"{segment}{suffix}"

    def rows(self, segment: str) -> list[Row]:
        """All rows of a segment, readable or not. Raises MemfixError if they are not those that its vectors are of."""
        self._require_rows(segment)
        return [from_line(line) for line in read_lines(self.file(segment, ".jsonl"))]

    def unreadable(self) -> Iterator[Row]:
        """The rows without a vector; only segments that have any are read."""
        for segment in self.manifest.segments:
            if segment.rows > segment.vectors:
                yield from (row for row in self.rows(segment.name) if row.reason)

    def all_rows(self) -> Iterator[Row]:
        """All rows of the index, one segment in memory at a time."""
        for segment in self.manifest.segments:
            yield from self.rows(segment.name)

    def mapped(self, segment: str) -> NDArray[np.floating]:
        """[n, d] vectors of a segment in their precision, mapped from the file, which nothing written to it reaches.

        Raises MemfixError if the file is gone, broken, or holds another number of vectors than the segment.
        """
        file = self.file(segment, ".npy")
        try:
            array: NDArray[np.floating] = np.load(file, mmap_mode="c", allow_pickle=False)
        except FileNotFoundError:
            raise self._damaged(file, "is missing") from None
        except (ValueError, EOFError):
            raise self._damaged(file, "cannot be read as vectors") from None
        wanted = (self._known[segment].vectors, self.manifest.dimension)
        if array.shape != wanted:
            raise self._damaged(file, f"holds {list(array.shape)} numbers, not {list(wanted)}")
        return array

    def _require_rows(self, segment: str) -> None:
        """Rows that shift against the vectors would name other pictures. A segment in the making has no hash yet."""
        file, known = self.file(segment, ".jsonl"), self._known.get(segment)
        if not file.is_file():
            raise self._damaged(file, "is missing")
        if known and file_sha256([file]) != known.sha256:
            raise self._damaged(file, "does not hold the rows that its vectors were made for")

    def _damaged(self, file: Path, problem: str) -> MemfixError:
        return MemfixError(
            f"{file} {problem}.",
            f"Restore it from a copy, or remove {self.path} and make the index again: "
            f"memfix index {self.manifest.source} --out {self.path}",
        )

    def row(self, vector: int) -> Row:
        """The picture of a vector."""
        segment = self._segment_of(vector)
        return self._readable(segment)[vector - self._ends[segment]]

    def __contains__(self, file_name: object) -> bool:
        """Whether there is a vector for a picture of this name."""
        return isinstance(file_name, str) and self.find(file_name) is not None

    def find(self, file_name: str) -> int | None:
        """The vector of a picture by its name; None if the index has no such picture, or none for it."""
        return next((found for key in keys_of(file_name) if (found := self._find(key)) is not None), None)

    def _find(self, key: list[str]) -> int | None:
        segments = [place for place, segment in enumerate(self.manifest.segments) if segment.vectors]
        at = bisect_right(segments, key, key=lambda place: self._readable(place)[0].key) - 1
        if at < 0:
            return None
        rows = self._readable(segments[at])
        row = bisect_left(rows, key, key=lambda row: row.key)
        return self._ends[segments[at]] + row if row < len(rows) and rows[row].key == key else None

    def _readable(self, place: int) -> list[Row]:
        return self._cached_rows(self.manifest.segments[place].name)

    def _readable_rows(self, segment: str) -> list[Row]:
        return [row for row in self.rows(segment) if not row.reason]

    def _segment_of(self, vector: int) -> int:
        if not 0 <= vector < len(self):
            raise IndexError(f"vector {vector} of {len(self)}")
        return int(np.searchsorted(self._ends, vector, side="right")) - 1

    def vectors(self, ids: Sequence[int] | Ids) -> Vectors:
        """[n, d] of n ids, in their order; sorted ids read fastest."""
        ids = np.asarray(ids, np.int64)
        out = np.empty((len(ids), self.manifest.dimension), np.float32)
        segments = np.searchsorted(self._ends, ids, side="right") - 1
        for segment in np.unique(segments):
            places = np.flatnonzero(segments == segment)
            out[places] = self.mapped(self.manifest.segments[segment].name)[ids[places] - self._ends[segment]]
        return out

    def blocks(self, size: int = BLOCK, start: int = 0) -> Iterator[tuple[int, Vectors]]:
        """The vectors from id `start` on, as (first id, [up to `size`, d]).

        A block is overwritten by the next. Segments are mapped one at a time: what stays in memory is one block.
        """
        block = np.empty((size, self.manifest.dimension), np.float32)
        target, filled = torch.from_numpy(block), 0
        for segment, first, end in zip(self.manifest.segments, self._ends, self._ends[1:], strict=False):
            if end <= start:
                continue
            array, at = self.mapped(segment.name), max(start - first, 0)
            while at < len(array):
                part = array[at : at + size - filled]
                target[filled : filled + len(part)].copy_(torch.from_numpy(part))  # converts on all cores
                at, filled = at + len(part), filled + len(part)
                if filled == size:
                    yield first + at - size, block
                    filled = 0
        if filled:
            yield len(self) - filled, block[:filled]


def _named(descriptor: Descriptor) -> tuple[str, str, int]:
    return descriptor.name, descriptor.identity, descriptor.dimension


def _parted(source: Path) -> tuple[str, str]:
    """The folder that paths of an index are relative to, and the one file of it that was given, if so."""
    whole = source.resolve()
    return (str(whole.parent), whole.name) if whole.is_file() else (str(whole), "")


def _weights(descriptor: Descriptor) -> str:
    return descriptor.weights.name if descriptor.weights else ""
