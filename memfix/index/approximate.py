"""Approximate search: FAISS finds candidates in a compressed inverted file, which are then scored exactly.

So every score is the true one, and only the nearest vector may be missed; how often is measured when the file is
written, on vectors of the index that look for their nearest neighbour other than themselves.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from memfix.config.choices import Compression
from memfix.errors import MemfixError
from memfix.files import atomic_file, write_atomic
from memfix.index.search import Neighbours, checked, nothing, search
from memfix.index.store import BLOCK, Ids, Store, Vectors

PER_LIST = 39  # training vectors a list, the fewest FAISS takes without complaint
PROBES = 1000  # vectors that recall is measured on
PER_CENTROID = 64  # vectors of the sample that k-means looks at, for each centroid
ITERATIONS = 10  # of k-means; more hardly move the lists
CHUNK = 256  # queries whose candidates are scored at once


@dataclass(frozen=True)
class Approximation:
    """What a file of candidates is, and how often its nearest vector is the nearest one (`recall`, at rank 1)."""

    content: str
    compression: Compression
    lists: int
    probed: int
    recall: float
    bytes_per_vector: float


class Approximate:
    """Candidates on disk beside the segments, for the content of the store that they were made from."""

    def __init__(self, store: Store) -> None:
        """Open it. Raises MemfixError if there is none, or if the store has changed since."""
        import faiss

        hint = f"Write it: memfix index {store.manifest.source} --out {store.path} --approximate sq8"
        try:
            self.report = Approximation(**json.loads(_report(store).read_text()))
            index: Any = faiss.read_index(str(_candidates(store)))
        except (OSError, ValueError, TypeError, RuntimeError):
            raise MemfixError(f"{store.path} has no approximate index.", hint) from None
        if self.report.content != store.content:
            raise MemfixError(f"{_candidates(store)} is older than the index.", hint)
        self._store, self._index = store, index
        self._index.nprobe = self.report.probed

    def search(self, queries: Vectors, k: int) -> Neighbours:
        """As `search.search`, in a fraction of the time; the scores are exact, a neighbour may be missed."""
        return _search(self._store, self._index, checked(self._store, queries), k)


def build(store: Store, compression: Compression, target: float = 0.95, seed: int = 0) -> Approximation:
    """Train on a sample, add every vector block by block, probe as many lists as `target` recall at rank 1 takes.

    Memory: the candidates, d + 8 (`sq8`) or up to 72 (`pq`) bytes a vector, and the sample, 39 vectors a list.
    """
    import faiss

    draw = np.random.default_rng(seed)
    lists = number_of_lists(len(store))
    needed = max(PER_LIST * lists, PER_LIST * 256 if compression is Compression.PQ else 0)
    if len(store) < needed or len(store) < 2:
        raise MemfixError(
            f"{store.path} holds {len(store):,} vectors, too few for {compression}, which needs {max(needed, 2):,}.",
            "Use exact search, which is fast for so few vectors.",
        )
    index = _untrained(store, lists, compression, seed)
    index.train(store.vectors(_sample(draw, len(store), needed)))
    for _, vectors in store.blocks(BLOCK):
        index.add(vectors)
    probed, recall = _tune(store, index, lists, _sample(draw, len(store), PROBES), target)
    with atomic_file(_candidates(store)) as file:
        faiss.write_index(index, file.name)  # by the name that it has until it is whole
        size = Path(file.name).stat().st_size
        _report(store).unlink(missing_ok=True)  # a report beside another file's candidates would lie
    report = Approximation(store.content, compression, lists, probed, recall, round(size / len(store), 1))
    write_atomic(_report(store), json.dumps(asdict(report), indent=1) + "\n")
    return report


def fresh(store: Store, compression: Compression, target: float) -> Approximation | None:
    """The report of the file that is there, if it fits the store as it is and reaches the target."""
    try:
        report = Approximation(**json.loads(_report(store).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    wanted = (store.content, compression)
    if (report.content, report.compression) != wanted or not _candidates(store).is_file():
        return None
    return report if report.recall >= target or report.probed == report.lists else None


def number_of_lists(vectors: int) -> int:
    """Twice the square root, as a power of two: assigning a vector and scanning a list then cost about the same."""
    return 1 << max(0, int(np.log2(max(1, min(2 * vectors**0.5, vectors / PER_LIST)))))


def _untrained(store: Store, lists: int, compression: Compression, seed: int) -> Any:
    import faiss

    d = store.manifest.dimension
    pieces = max(m for m in range(1, max(2, min(64, d // 4) + 1)) if d % m == 0)
    recipe = f"IVF{lists},SQ8" if compression is Compression.SQ8 else f"IVF{lists},PQ{pieces}x8"
    index: Any = faiss.index_factory(d, recipe, faiss.METRIC_INNER_PRODUCT)
    clusterings = [index.cp]
    if compression is Compression.PQ:
        clusterings.append(index.pq.cp)
        index.do_polysemous_training = False  # for a filter that is not used, and slow
    for clustering in clusterings:
        clustering.niter, clustering.seed, clustering.max_points_per_centroid = ITERATIONS, seed + 1, PER_CENTROID
    return index


def _sample(draw: np.random.Generator, vectors: int, size: int) -> Ids:
    return np.sort(draw.choice(vectors, min(size, vectors), replace=False))


def _tune(store: Store, index: Any, lists: int, probes: Ids, target: float) -> tuple[int, float]:
    """The fewest lists, doubling, that reach the target, and the recall reached."""
    queries = store.vectors(probes)
    truth = _nearest_other(search(store, queries, 2), probes)
    probed = 1
    while True:
        index.nprobe = probed
        found = _nearest_other(_search(store, index, queries, 2), probes)
        recall = float(np.mean(found >= truth - 1e-5))  # by score: of two equally near ones, either will do
        if recall >= target or probed == lists:
            return probed, recall
        probed *= 2


def _nearest_other(neighbours: Neighbours, own: Ids) -> Vectors:
    """[q] score of the nearest vector that is not the query itself."""
    others: Vectors = np.where(neighbours.ids == own[:, None], -np.inf, neighbours.scores).max(1)
    return others


def _search(store: Store, index: Any, queries: Vectors, k: int) -> Neighbours:
    if not len(queries):
        return nothing(0, k)
    parts = [_rescored(store, index, queries[i : i + CHUNK], k) for i in range(0, len(queries), CHUNK)]
    return Neighbours(np.concatenate([p.scores for p in parts]), np.concatenate([p.ids for p in parts]))


def _rescored(store: Store, index: Any, queries: Vectors, k: int) -> Neighbours:
    """The best k of four times as many candidates, at least 32, by their true inner products."""
    _, ids = index.search(queries, max(4 * k, 32))
    distinct, places = np.unique(ids, return_inverse=True)
    vectors = store.vectors(np.maximum(distinct, 0))
    scores = np.einsum("qd,qcd->qc", queries, vectors[places.reshape(ids.shape)], optimize=True)
    scores = np.where(ids < 0, -np.inf, scores).astype(np.float32)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return Neighbours(np.take_along_axis(scores, order, 1), np.take_along_axis(ids, order, 1))


def _candidates(store: Store) -> Path:
    return store.path / "approximate.faiss"


def _report(store: Store) -> Path:
    return store.path / "approximate.json"
