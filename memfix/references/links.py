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
from memfix.references.forest import Forest
from memfix.references.numbered import IndexReferences

FIRST_NEIGHBOURS = 8  # the reference itself among them; eight times as many where that brings up members
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
        self._forest = Forest()
        self._numbers = list[int]()  # by the place that a reference has in the forest
        self._place: dict[int, int] = {}
        self._followed: set[int] = set()

    def of(self, number: int) -> set[int]:
        """The group of a reference, itself among it."""
        (place,) = self._places([number])
        roots = self._forest.roots()
        return {self._numbers[i] for i in np.flatnonzero(roots == roots[place])}

    def groups(self, numbers: Iterable[int]) -> list[set[int]]:
        """The groups that some references belong to, each once."""
        places, roots = self._places(numbers), self._forest.roots()
        found: dict[int, set[int]] = {root: set() for root in roots[places].tolist()}
        for number, root in zip(self._numbers, roots.tolist(), strict=True):
            if root in found:
                found[root].add(number)
        return list(found.values())

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
            looked_at = min(8 * looked_at or FIRST_NEIGHBOURS, self._most)
            size = max(1, CELLS // looked_at)
            growing = [self._grown(rows[i : i + size], looked_at) for i in range(0, len(rows), size)]
            rows = np.concatenate(growing)

    def _grown(self, rows: Ids, k: int) -> Ids:
        """Those of some references whose k neighbours brought new members to their groups."""
        found = self._references.neighbours(self._references.vectors(rows), k)
        own = self._places(rows.tolist())
        others = np.array([self._place.get(number, -1) for number in found.ids.flatten().tolist()], np.int64)
        roots = np.append(self._forest.roots(), -1)  # the last one is of what has no place
        known = roots[own][:, None] == roots[others].reshape(found.ids.shape)
        row, column = np.nonzero(~known & (found.ids >= 0) & (found.scores >= LIKELY))
        if not len(row):
            return np.empty(0, np.int64)
        pairs = Pairs(rows[row], found.ids[row, column], found.scores[row, column])
        same = self._same(pairs)
        first, second = pairs.first[same], pairs.second[same]
        self._forest.join_pairs(self._places(first.tolist()), self._places(second.tolist()))
        return np.unique(first)

    def _places(self, numbers: Iterable[int]) -> Ids:
        """Where references are in the forest; those that are new to it get a place."""
        numbers = list(numbers)
        for number in numbers:
            if number not in self._place:
                self._place[number] = len(self._numbers)
                self._numbers.append(number)
        self._forest.add(len(self._numbers) - len(self._forest))
        return np.array([self._place[number] for number in numbers], np.int64)
