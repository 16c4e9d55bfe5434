"""From pictures to segments: plan, describe what is new, put the segments in place; resumed and shared by rank."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from itertools import chain, islice, takewhile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from memfix.errors import MemfixError
from memfix.files import atomic_file, held, held_in_turn
from memfix.index.pictures import READ_AHEAD, Looked, ahead, decoded, examine, picture_batches
from memfix.index.plan import Counts, Plan, commit, compare, make_plan
from memfix.index.rows import Row, as_line, write_lines
from memfix.index.store import Store, Vectors
from memfix.index.walk import walk_source
from memfix.inputs.frames import NotOwn, frames_behind
from memfix.inputs.tally import PassedOver, Tally
from memfix.measures.descriptor import Descriptor
from memfix.world import ALONE, World

OWN_RANK = "Wait for it, or give each process its own --process-index."


class Built(NamedTuple):
    """What came of a build; it is not `complete` while other processes have segments to build."""

    store: Store
    counts: Counts
    complete: bool
    tally: Tally
    """What the folder holds besides pictures, as far as this process looked at it."""


def build(
    store: Store, source: Path, descriptor: Descriptor, world: World = ALONE, *,
    batch_size: int = 32, workers: int = 1, watch: Callable[[int, int], None] = lambda done, total: None,
) -> Built:  # fmt: skip
    """Bring an index up to what its folder or file holds; `watch` hears how many pictures of how many are dealt with.

    Killed at any moment, it goes on behind the last finished segment when it is called again.
    """
    counts = Counts()
    with held(store.path, f".rank-{world.label}.lock", OWN_RANK):
        while True:
            tally = Tally()
            store, plan, resumed = prepare(store, source, tally)
            if plan is None:
                counts.same = sum(not row.frame for row in store.all_rows())
                return Built(store, counts, True, tally)
            done, total = 0, sum(plan.pictures[name] for name in world.shard(plan.pictures))
            for more in describe(store, plan, descriptor, world, batch_size, workers, tally):
                done += more
                watch(done, total)
            counts.follow(plan.counts)
            finished = finish(store, plan)
            if finished is None or not resumed or not world.alone:
                return Built(finished or store, counts, finished is not None, tally)
            store = finished  # an old plan was carried out: look again for what came since


def prepare(store: Store, source: Path, tally: Tally | None = None) -> tuple[Store, Plan | None, bool]:
    """The index as it is, the plan for it, and whether that is an old one; no plan when there is nothing to do.

    Other processes wait for the first. Raises MemfixError when there is no picture at all: an index is not emptied
    because a disk is not mounted.
    """
    with held_in_turn(store.path):
        store = Store.open(store.path)
        if (store.path / "plan").exists():
            return store, Plan(store.path / "plan"), True
        found = walk_source(source, tally)
        first = next(found, None)
        if first is None:
            raise MemfixError(
                f"{source} contains no picture.", "Give images, webdataset tars or parquet tables, or a folder of them."
            )
        return store, make_plan(store, chain([first], found)), False


def preview(store: Store, source: Path, tally: Tally | None = None) -> Counts:
    """What a build would find, without writing anything."""
    counts = Counts()
    for _ in compare(store, walk_source(source, tally), counts):
        pass
    return counts


def newer(store: Store, source: Path) -> tuple[int, str]:
    """How many pictures were added to a source or changed since the index was made, and the name of the first."""
    counts, first = Counts(), ""
    for _, piece in compare(store, walk_source(source), counts):
        unknown = (p.row.file_name for p in piece or () if not p.row.sha256)
        first = first or next(unknown, "")
    return counts.new + counts.changed, first


def finish(store: Store, plan: Plan) -> Store | None:
    """The finished index, or None while other processes still have segments to build."""
    with held_in_turn(store.path):
        return commit(store, plan)


def describe(
    store: Store, plan: Plan, descriptor: Descriptor, world: World, batch_size: int, workers: int, tally: Tally
) -> Iterator[int]:
    """Build the missing segments of a rank, yielding how many further files are dealt with. `tally` hears of frames
    that are not described."""
    with ThreadPoolExecutor(workers) as pool:
        for name in world.shard(plan.pictures):
            if store.file(name, ".jsonl").exists():
                yield plan.pictures[name]
                continue
            yield from _Segment(store, plan, name, tally).build(descriptor, pool, batch_size)


class _Segment:
    """One segment in the making: rows of files, vectors for those that are readable, and the frames behind them."""

    def __init__(self, store: Store, plan: Plan, name: str, tally: Tally) -> None:
        self._store, self._name, self._folder = store, name, Path(store.manifest.folder)
        self._tally = tally
        base, self._planned = plan.read(name)
        old = [] if base is None else store.rows(base)
        self._old_rows, self._base = old, None if base is None else store.mapped(base)
        self._old_vector = np.cumsum([not row.reason for row in old]) - 1  # a row's place among those with a vector
        self._rows = [planned.row for planned in self._planned]
        shape = len(self._rows), store.manifest.dimension
        self._vectors: NDArray[np.floating] = np.zeros(shape, store.manifest.precision.value)
        self._frames: dict[int, list[tuple[Row, Vectors]]] = {}
        self._further: dict[int, int] = {}

    def build(self, descriptor: Descriptor, pool: Executor, batch_size: int) -> Iterator[int]:
        """Carry over what is as it was, describe the rest, write the files."""
        open_places = [i for i, planned in enumerate(self._planned) if not self._settle(i, planned.row)]
        yield len(self._rows) - len(open_places)
        looked = ahead(pool, lambda i: examine(self._path(i)), open_places, READ_AHEAD)
        fresh = ((i, found) for i, found in looked if not self._settle(i, self._seen(i, found)))
        done = 0
        for batch in decoded(pool, picture_batches(fresh, batch_size), self._path):
            images = [(i, image) for i, image in batch if not isinstance(image, str)]
            for i, reason in batch:
                if isinstance(reason, str):
                    self._rows[i] = self._rows[i]._replace(reason=reason)
            if images:
                self._fill([i for i, _ in images], descriptor([image for _, image in images]).numpy())
            for i, image in images:
                if self._further.get(i):
                    self._describe_frames(i, image, descriptor, batch_size)
            done += len(batch)
            yield len(batch)
        yield len(open_places) - done
        self._write()

    def _path(self, place: int) -> str:
        return str(self._folder / self._planned[place].row.path)

    def _seen(self, place: int, found: Looked) -> Row:
        """The row once its file was read."""
        row = self._rows[place] = self._rows[place]._replace(sha256=found.sha256, reason=found.reason)
        self._further[place] = found.further
        return row

    def _settle(self, place: int, row: Row) -> bool:
        """Whether the picture needs no decoding: it has no vector, or the one that it had before."""
        old = self._planned[place].old
        if row.reason or old is None or row.sha256 != self._old_rows[old].sha256 or self._old_rows[old].reason:
            return bool(row.reason)
        assert self._base is not None
        self._vectors[place] = self._base[self._old_vector[old]]
        before, row = self._old_rows[old], self._rows[place]
        row = self._rows[place] = row._replace(same_frames=before.same_frames, unused_frames=before.unused_frames)
        for at in takewhile(lambda at: self._old_rows[at].frame, range(old + 1, len(self._old_rows))):
            vector = self._base[self._old_vector[at]].astype(np.float32)
            self._frames.setdefault(place, []).append((row.further(self._old_rows[at].frame), vector))
        return True

    def _describe_frames(self, place: int, first: Image.Image, descriptor: Descriptor, batch_size: int) -> None:
        """Each further frame that is a picture of its own gets a row behind that of its file."""
        same, kept, row = 0, self._frames.setdefault(place, []), self._rows[place]
        unused = self._further[place]
        own = self._own_frames(place, first)
        while batch := list(islice(own, batch_size)):
            pictures = [(frame, found) for frame, found in batch if isinstance(found, Image.Image)]
            same += sum(found is NotOwn.SAME for _, found in batch)
            vectors = descriptor([image for _, image in pictures]).numpy() if pictures else np.zeros((0, 0), np.float32)
            for (frame, _), vector in zip(pictures, vectors, strict=True):
                if np.isfinite(vector).all():
                    kept.append((row.further(frame), vector))
        unused -= same + len(kept)
        self._rows[place] = row._replace(same_frames=same, unused_frames=unused)
        self._tally.pass_over(PassedOver.AGAIN, row.file_name, same)
        self._tally.pass_over(PassedOver.FRAMES, row.file_name, unused)

    def _own_frames(self, place: int, first: Image.Image) -> Iterator[tuple[int, Image.Image | NotOwn]]:
        """The frames behind the first one by their numbers; one is not used where a file is called as it would be."""
        for address, found in frames_behind(self._path(place), first):
            yield int(address.rpartition("#")[2]), NotOwn.UNUSED if Path(address).is_file() else found

    def _fill(self, places: list[int], vectors: NDArray[np.float32]) -> None:
        self._vectors[places] = vectors
        for broken in np.unique(np.nonzero(~np.isfinite(vectors))[0]):
            i = places[int(broken)]
            self._rows[i] = self._rows[i]._replace(reason="has no finite descriptor")

    def _write(self) -> None:
        """The vectors, then the rows, whose presence completes the segment."""
        rows, vectors, kind = list[Row](), [self._vectors[:0]], self._vectors.dtype
        for place, row in enumerate(self._rows):
            further = [] if row.reason else self._frames.get(place, [])
            rows += [row, *(frame for frame, _ in further)]
            vectors += [] if row.reason else [self._vectors[place : place + 1]]
            vectors += [vector[None].astype(kind) for _, vector in further]
        with atomic_file(self._store.file(self._name, ".npy")) as file:
            np.save(file, np.concatenate(vectors), allow_pickle=False)
        write_lines(self._store.file(self._name, ".jsonl"), map(as_line, rows))
