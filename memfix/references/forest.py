"""Near-copies within an index: pictures linked by a similarity above a threshold, however long the chain, are a group.

Exact for groups of any size: every pair is compared, in blocks, and none is dropped for having too many neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from memfix.index.store import Ids, Store, Vectors

ROWS, COLUMNS = 1024, 8192  # of one block of similarities: 32 MiB


class Forest:
    """Union-find over n things; the root of a group is its smallest member."""

    def __init__(self, n: int) -> None:
        self._parent = np.arange(n)

    def roots(self, things: Ids) -> Ids:
        """[m] roots of m things; paths are shortened on the way."""
        at = self._parent[things]
        while not np.array_equal(above := self._parent[at], at):
            at = above
        self._parent[things] = at
        return at

    def join(self, a: int, b: int) -> None:
        """Make one group of the groups of two things."""
        first, second = sorted(self.roots(np.array([a, b])).tolist())
        self._parent[second] = first

    def link(self, rows: Ids, columns: Ids, close: NDArray[np.bool_]) -> None:
        """Join every row with the columns it is close to; `close`, [rows, columns], is spent.

        Only what is not one group yet is looked at, with one join a member and not one a pair.
        """
        if not close.any():
            return
        row_roots, column_roots = self.roots(rows), self.roots(columns)
        close &= row_roots[:, None] != column_roots[None, :]
        i, j = np.nonzero(close)
        if not len(i):
            return
        n = len(rows) + len(columns)
        links = coo_matrix((np.ones(len(i), bool), (i, j + len(rows))), (n, n))
        _, label = connected_components(links, directed=False)
        roots = np.concatenate([row_roots, column_roots])
        linked = np.unique(np.concatenate([i, j + len(rows)]))
        representative = dict(zip(label[linked][::-1].tolist(), roots[linked][::-1].tolist(), strict=True))
        for node in linked.tolist():
            self.join(int(roots[node]), representative[int(label[node])])

    def groups(self) -> list[Ids]:
        """Groups of two or more, the largest first, members in order."""
        roots = self.roots(np.arange(len(self._parent)))
        order = np.argsort(roots, kind="stable")
        members = np.split(order, np.flatnonzero(np.diff(roots[order])) + 1)
        return sorted((m for m in members if len(m) > 1), key=lambda m: (-len(m), int(m[0])))


def groups(store: Store, threshold: float) -> list[Ids]:
    """Groups of ids whose pictures are near-copies: connected components over similarities of at least `threshold`.

    Time is that of n²/2 inner products; memory, one block of similarities and eight bytes a vector.
    """
    forest = Forest(len(store))
    for rows, columns, similarities in _similarities(store):
        forest.link(rows, columns, similarities >= threshold)
    return forest.groups()


def _similarities(store: Store) -> Iterator[tuple[Ids, Ids, Vectors]]:
    """Every pair once or more, as (row ids, column ids, [rows, columns])."""
    for first, some in store.blocks(ROWS):
        for start, others in store.blocks(COLUMNS, start=first):
            yield np.arange(first, first + len(some)), np.arange(start, start + len(others)), some @ others.T
