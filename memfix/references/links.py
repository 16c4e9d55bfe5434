"""Which references of an index belong together: found by the descriptor, confirmed by a comparison the caller gives.

A group grows from the references that came up: their neighbours in the index, those of what was found, and so on,
however many there are. Nothing else of the index is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from memfix.index.store import Ids, Vectors
from memfix.references.numbered import IndexReferences

FIRST = 8  # neighbours looked at, the reference itself among them; eight times as many where that brings up members
CELLS = 1 << 14  # neighbours held at once, or all of one reference
LIKELY = 0.5
"""Least cosine of a pair that is worth opening. On the bundled references, as JPEG of quality 20 or at 24 of 64 pixels,
the descriptor `pixels` keeps 0.948 or more and `sscd` with the bundled weights 0.719."""


class Pairs(NamedTuple):
    """[n] each: pairs of references by number, and the cosine of their descriptors."""

    first: Ids
    second: Ids
    cosines: Vectors


class Links:
    """Groups of references, of which any member knows all others. `same` confirms pairs: [n] bool.

    `most` bounds the neighbours that are looked at for any one reference, and so the size of its group, about.
    """

    def __init__(
        self, references: IndexReferences, same: Callable[[Pairs], NDArray[np.bool_]], most: int | None = None
    ) -> None:
        self._references, self._same = references, same
        self._most = min(len(references), most or len(references))
        self._group: dict[int, set[int]] = {}
        self._followed: set[int] = set()

    def of(self, number: int) -> set[int]:
        """The group of a reference that was followed, itself among it."""
        return self._group.get(number, {number})

    def groups(self, numbers: Iterable[int]) -> list[set[int]]:
        """The groups that some references belong to, each once."""
        return list({id(group): group for group in map(self.of, numbers)}.values())

    def follow(self, numbers: Iterable[int]) -> None:
        """Find the groups of references. What was followed before is not searched again."""
        wave = set(numbers) - self._followed
        while wave:
            self._followed |= wave
            self._search(np.array(sorted(wave), np.int64))
            wave = set().union(*self.groups(wave)) - self._followed

    def _search(self, rows: Ids) -> None:
        looked_at = 0
        while len(rows) and looked_at < self._most:
            looked_at = min(8 * looked_at or FIRST, self._most)
            size = max(1, CELLS // looked_at)
            growing = [self._grown(rows[i : i + size], looked_at) for i in range(0, len(rows), size)]
            rows = np.concatenate(growing)

    def _grown(self, rows: Ids, k: int) -> Ids:
        """Those of some references whose k neighbours brought new members to their groups."""
        found = self._references.neighbours(self._references.vectors(rows), k)
        known = [
            [i in group for i in ids]
            for group, ids in zip(map(self.of, rows.tolist()), found.ids.tolist(), strict=True)
        ]
        row, column = np.nonzero(~np.array(known) & (found.ids >= 0) & (found.scores >= LIKELY))
        if not len(row):
            return np.empty(0, np.int64)
        pairs = Pairs(rows[row], found.ids[row, column], found.scores[row, column])
        same = self._same(pairs)
        for a, b in zip(pairs.first[same].tolist(), pairs.second[same].tolist(), strict=True):
            self._join(a, b)
        return np.unique(pairs.first[same])

    def _join(self, a: int, b: int) -> None:
        small, large = sorted((self.of(a), self.of(b)), key=len)
        if small is large:
            return
        large |= small
        for member in {*small, a, b}:
            self._group[member] = large
