"""What a build has to do: folder and index merged, both in the same order, and cut into segments. Reads no picture.

A plan is a folder, `plan/`, made once and then worked on by any number of processes: `plan.json` lists the segments of
the index to come in order, `<name>.jsonl` the rows of each one that is new. Its cuts depend on folder and index alone,
so neither the number of processes nor a restart changes what is built.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from memfix.files import atomic_folder, remove_folder, sha256, write_atomic
from memfix.index.rows import Row, as_line, from_line, read_lines, write_lines
from memfix.index.store import Segment, Store


class Planned(NamedTuple):
    """A row to be, and the place of its forerunner among the rows of the segment that is replaced."""

    row: Row
    old: int | None


@dataclass
class Counts:
    """Files that were not in the index, whose size, time or address differs, that are gone, that are as before."""

    new: int = 0
    changed: int = 0
    removed: int = 0
    same: int = 0

    @property
    def differences(self) -> int:
        """How many files call for work."""
        return self.new + self.changed + self.removed

    def follow(self, later: Counts) -> None:
        """Add what a later plan of the same build does."""
        self.new, self.changed, self.removed = (
            self.new + later.new, self.changed + later.changed, self.removed + later.removed,
        )  # fmt: skip
        self.same = later.same


class Plan:
    """A plan on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        data = json.loads((path / "plan.json").read_text())
        self.segments: list[str] = data["segments"]
        self.counts = Counts(**data["counts"])
        self.pictures: dict[str, int] = data["pictures"]

    def read(self, segment: str) -> tuple[str | None, list[Planned]]:
        """The segment that is replaced, if any, and the rows of the new one."""
        header, *lines = read_lines(self.path / f"{segment}.jsonl")
        planned = [Planned(old=line.pop("old", None), row=from_line(line)) for line in lines]
        return header["replaces"], planned


class Walk:
    """The rows of a folder, of which the next can be looked at."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows = iter(rows)
        self.head = next(self._rows, None)

    def pop(self) -> Row:
        """The next row."""
        row, self.head = self.head, next(self._rows, None)
        assert row is not None
        return row


def merge_segment(old: list[Row], walk: Walk, counts: Counts) -> Iterator[Planned]:
    """The rows of a segment and the files up to its last row: what the segment becomes."""
    for place, row in enumerate(old):
        if row.frame:  # it comes with its file
            continue
        while walk.head is not None and walk.head.key < row.key:
            counts.new += 1
            yield Planned(walk.pop(), None)
        if walk.head is None or walk.head.key != row.key:
            counts.removed += 1
            continue
        found = walk.pop()
        if row.unchanged(found):
            counts.same += 1
            yield Planned(row, place)
        else:
            counts.changed += 1
            yield Planned(found, place)


def rest(walk: Walk, counts: Counts) -> Iterator[Planned]:
    """The files behind the last row of the index."""
    while walk.head is not None:
        counts.new += 1
        yield Planned(walk.pop(), None)


def cut(rows: Iterable[Planned], size: int) -> Iterator[list[Planned]]:
    """Rows in pieces of `size`; the last one holds up to twice as many, so that no crumb is left."""
    piece: list[Planned] = []
    for row in rows:
        piece.append(row)
        if len(piece) == 2 * size:
            yield piece[:size]
            del piece[:size]
    if piece:
        yield piece


def compare(store: Store, found: Iterable[Row], counts: Counts) -> Iterator[tuple[str | None, list[Planned] | None]]:
    """Segments of the index to come, in order: (segment that stays, None), or (segment that is replaced, new rows)."""
    walk = Walk(found)
    names = [segment.name for segment in store.manifest.segments]
    for name in names:
        before = counts.differences
        for piece in cut(merge_segment(store.rows(name), walk, counts), store.manifest.segment_size):
            yield name, None if counts.differences == before else piece
    yield from ((None, piece) for piece in cut(rest(walk, counts), store.manifest.segment_size))


def make_plan(store: Store, found: Iterable[Row]) -> Plan | None:
    """Write the plan that takes the index to what was found; None if it is there already."""
    path, counts, number = store.path / "plan", Counts(), store.manifest.next_segment
    segments, pictures = list[str](), dict[str, int]()
    with ExitStack() as stack:
        draft: Path | None = None  # made where there is something to write into it: no difference, no plan
        for base, piece in compare(store, found, counts):
            if piece is None:
                assert base is not None
                segments.append(base)
                continue
            draft = draft or stack.enter_context(atomic_folder(path))
            name, number = f"{number:08d}", number + 1
            lines: list[dict[str, object]] = [as_line(p.row) | ({} if p.old is None else {"old": p.old}) for p in piece]
            write_lines(draft / f"{name}.jsonl", [{"replaces": base}, *lines])
            segments.append(name)
            pictures[name] = len(piece)
        if not counts.differences:
            return None
        draft = draft or stack.enter_context(atomic_folder(path))
        write_atomic(
            draft / "plan.json", json.dumps({"segments": segments, "pictures": pictures, "counts": asdict(counts)})
        )
        _tidy(store, (segment.name for segment in store.manifest.segments))
    return Plan(path)


def commit(store: Store, plan: Plan) -> Store | None:
    """Make the segments of a plan the index; None if some are not there yet.

    A crash in the middle leaves a plan whose segments are all there, and is mended by committing again.
    """
    if not plan.path.exists() or Plan(plan.path).segments != plan.segments:  # another process was faster
        return Store.open(store.path)
    if not all(store.file(name, ".jsonl").exists() for name in plan.segments):
        return None
    known = {segment.name: segment for segment in store.manifest.segments}
    segments = tuple(known.get(name) or _segment(store, name) for name in plan.segments)
    number = 1 + max((int(name) for name in (*plan.pictures, *known)), default=-1)
    manifest = store.manifest.model_copy(update={"segments": segments, "next_segment": number})
    store.save(manifest)
    remove_folder(plan.path)
    _tidy(store, plan.segments)
    return Store(store.path, manifest)


def _tidy(store: Store, segments: Iterable[str]) -> None:
    """Remove what is no part of these segments: replaced ones, and files of processes that were killed."""
    listed = {f"{name}{suffix}" for name in segments for suffix in (".npy", ".jsonl")}
    for file in (store.path / "segments").glob("*"):
        if file.name not in listed:
            file.unlink()


def _segment(store: Store, name: str) -> Segment:
    rows = store.rows(name)
    readable = sum(not row.reason for row in rows)
    return Segment(name=name, rows=len(rows), vectors=readable, sha256=sha256([store.file(name, ".jsonl")]))
