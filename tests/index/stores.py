"""Stores of given vectors, written as a build would."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from memfix.config.choices import Precision
from memfix.files import atomic_file, sha256
from memfix.index.rows import Row, as_line, write_lines
from memfix.index.store import Manifest, Segment, Store


def unit(n: int, d: int, seed: int = 0) -> NDArray[np.float32]:
    x = np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def make_store(
    folder: Path, vectors: NDArray[np.float32], cuts: tuple[int, ...], precision: Precision = Precision.FLOAT32
) -> Store:
    """Segments that begin at `cuts`, with an unreadable picture in each that has room for one."""
    manifest = Manifest(
        descriptor="given", identity="vectors of a test", dimension=vectors.shape[1], precision=precision,
        segment_size=8192, folder=str(folder),
    )  # fmt: skip
    store, segments, first = Store(folder / "store", manifest), [], 0
    for number, part in enumerate(np.split(vectors, cuts)):
        name = f"{number:08d}"
        with atomic_file(store.file(name, ".npy")) as file:
            np.save(file, part.astype(precision.value))
        rows = [Row(f"{i}.png", f"{i}.png", 1, 1, f"{i}") for i in range(first, first + len(part))]
        rows.insert(1, Row(f"{first}-broken.png", f"{first}-broken.png", 1, 1, "", "broken"))
        write_lines(store.file(name, ".jsonl"), map(as_line, rows))
        written = sha256([store.file(name, ".jsonl")])
        segments.append(Segment(name=name, rows=len(rows), vectors=len(part), sha256=written))
        first += len(part)
    store.save(manifest.model_copy(update={"segments": tuple(segments)}))
    return Store.open(store.path)
