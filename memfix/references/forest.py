"""Things that belong together, by however long a chain of pairs. Knows nothing of pictures."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

Places = NDArray[np.int64]


class Forest:
    """Union-find over n things; the root of a group is its smallest member."""

    def __init__(self, n: int = 0) -> None:
        self._parent: Places = np.arange(n)

    def __len__(self) -> int:
        """How many things there are."""
        return len(self._parent)

    def add(self, count: int) -> None:
        """More things behind the others, each a group of its own."""
        self._parent = np.concatenate([self._parent, len(self) + np.arange(count)])

    def roots(self, things: Places | None = None) -> Places:
        """[m] roots of m things, or of all; paths are shortened on the way."""
        things = np.arange(len(self)) if things is None else things
        at = self._parent[things]
        while not np.array_equal(above := self._parent[at], at):
            at = above
        self._parent[things] = at
        return at

    def join(self, a: int, b: int) -> None:
        """Make one group of the groups of two things."""
        first, second = sorted(self.roots(np.array([a, b])).tolist())
        self._parent[second] = first

    def join_pairs(self, first: Places, second: Places) -> None:
        """Join each of m things with the one beside it."""
        a, b = self.roots(first), self.roots(second)
        apart = a != b
        roots, at = np.unique(np.concatenate([a[apart], b[apart]]), return_inverse=True)
        if not len(roots):
            return
        rows, columns = np.split(at, 2)
        links = coo_matrix((np.ones(len(rows), bool), (rows, columns)), (len(roots), len(roots)))
        groups, label = connected_components(links, directed=False)
        smallest: Places = np.full(groups, len(self))
        np.minimum.at(smallest, label, roots)
        self._parent[roots] = smallest[label]

    def join_equal(self, things: Iterable[Hashable]) -> None:
        """Join those of the n things that are equal; an empty one is equal to nothing."""
        first: dict[Hashable, int] = {}
        for i, thing in enumerate(things):
            if thing and (same := first.setdefault(thing, i)) != i:
                self.join(same, i)

    def link(self, rows: Places, columns: Places, close: NDArray[np.bool_]) -> None:
        """Join every row with the columns it is close to; `close`, [rows, columns], is spent.

        Only what is not one group yet is looked at.
        """
        if close.any():
            close &= self.roots(rows)[:, None] != self.roots(columns)[None, :]
            i, j = np.nonzero(close)
            self.join_pairs(rows[i], columns[j])

    def groups(self) -> list[Places]:
        """Groups of two or more, the largest first, members in order."""
        roots = self.roots()
        order = np.argsort(roots, kind="stable")
        members = np.split(order, np.flatnonzero(np.diff(roots[order])) + 1)
        return sorted((m for m in members if len(m) > 1), key=lambda m: (-len(m), int(m[0])))
