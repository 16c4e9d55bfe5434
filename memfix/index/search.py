"""Exact search: the inner product of queries with every vector of an index, a block at a time (FAISS, BLAS inside)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from memfix.errors import MemfixError
from memfix.index.store import BLOCK, Ids, Store, Vectors

QUERIES = 4096  # searched in one reading of the index


class Neighbours(NamedTuple):
    """[q, k] each, the closest first; -inf and -1 where the index holds fewer than k."""

    scores: Vectors
    ids: Ids


def search(store: Store, queries: Vectors, k: int, block: int = BLOCK) -> Neighbours:
    """The k vectors of largest inner product (cosine) for each of [q, d] queries.

    Memory beyond queries and result is that of one block of vectors, block · d floats, and FAISS's tiles.
    """
    queries = checked(store, queries)
    parts = [_search(store, queries[i : i + QUERIES], k, block) for i in range(0, len(queries), QUERIES)]
    return Neighbours(np.concatenate([p.scores for p in parts]), np.concatenate([p.ids for p in parts]))


def checked(store: Store, queries: Vectors) -> Vectors:
    """Queries as FAISS takes them. Raises MemfixError if they cannot come from the descriptor of the index."""
    d = store.manifest.dimension
    if queries.ndim != 2 or queries.shape[1] != d:
        raise MemfixError(
            f"Queries of shape {list(queries.shape)} do not fit {store.path}, whose vectors have {d} numbers.",
            f"Describe the pictures with {store.manifest.descriptor}.",
        )
    return np.ascontiguousarray(queries, np.float32)


def _search(store: Store, queries: Vectors, k: int, block: int) -> Neighbours:
    import faiss

    best = nothing(len(queries), k)
    for start, vectors in store.blocks(block):
        scores, ids = faiss.knn(queries, vectors, min(k, len(vectors)), metric=faiss.METRIC_INNER_PRODUCT)
        best = best_of_both(best, Neighbours(scores, ids + start))
    return best


def nothing(queries: int, k: int) -> Neighbours:
    """The result of a search in nothing."""
    return Neighbours(np.full((queries, k), -np.inf, np.float32), np.full((queries, k), -1, np.int64))


def best_of_both(first: Neighbours, second: Neighbours) -> Neighbours:
    """The best k of both, k being that of the first, which wins ties."""
    scores = np.concatenate([first.scores, second.scores], axis=1)
    ids = np.concatenate([first.ids, second.ids], axis=1)
    order = np.argsort(-scores, axis=1, kind="stable")[:, : first.scores.shape[1]]
    return Neighbours(np.take_along_axis(scores, order, 1), np.take_along_axis(ids, order, 1))
