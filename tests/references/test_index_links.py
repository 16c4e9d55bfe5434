"""Groups that grow along an index, on directions in a plane whose angles are known."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from memfix.measures.descriptor import Pixels
from memfix.references.links import LIKELY, Links, Pairs
from memfix.references.numbered import IndexReferences
from tests.index.stores import make_store

ANGLES = np.array([0.0, 8, 18, 29, 90, 95, 180])
"""Degrees: a chain of four whose ends are 29 apart, a pair, and one by itself."""


class Confirming:
    """Says yes to pairs of at most so many degrees apart, and remembers what it was asked."""

    def __init__(self, degrees: float) -> None:
        self.least, self.asked = np.cos(np.radians(degrees)), list[tuple[int, int]]()
        self.lowest = 1.0

    def __call__(self, pairs: Pairs) -> NDArray[np.bool_]:
        self.asked += zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)
        self.lowest = min(self.lowest, float(pairs.cosines.min()))
        return pairs.cosines >= self.least


@pytest.fixture
def references(tmp_path: Path) -> IndexReferences:
    vectors = np.zeros((len(ANGLES), Pixels.dimension), np.float32)
    vectors[:, 0], vectors[:, 1] = np.cos(np.radians(ANGLES)), np.sin(np.radians(ANGLES))
    return IndexReferences(make_store(tmp_path, vectors, (3, 5)), Pixels(), [])


def test_a_chain_is_one_group_from_whichever_end_it_is_followed(references: IndexReferences) -> None:
    for start in range(4):
        links = Links(references, Confirming(12))
        links.follow([start])
        assert [links.of(i) for i in range(4)] == [{0, 1, 2, 3}] * 4


def test_each_group_is_given_once_and_unlikely_pairs_are_never_opened(references: IndexReferences) -> None:
    same = Confirming(12)
    links = Links(references, same)
    links.follow([6, 3, 0, 4])
    assert sorted(map(sorted, links.groups([0, 3, 4, 6]))) == [[0, 1, 2, 3], [4, 5], [6]]
    assert same.lowest >= LIKELY
    assert not {pair for pair in same.asked if 6 in pair}


def test_what_nobody_confirms_stays_apart(references: IndexReferences) -> None:
    links = Links(references, Confirming(5.1))
    links.follow(range(7))
    assert sorted(map(sorted, links.groups(range(7)))) == [[0], [1], [2], [3], [4, 5], [6]]


def test_nothing_is_searched_twice(references: IndexReferences) -> None:
    same = Confirming(12)
    links = Links(references, same)
    links.follow([0])
    assert same.asked
    same.asked.clear()
    links.follow([2, 3])
    assert same.asked == []
    assert links.of(5) == {5}  # never followed, so nothing is known of it


def test_a_bound_on_neighbours_bounds_the_group(references: IndexReferences) -> None:
    """Of two neighbours one is the picture itself, and 0 and 1 are each other's nearest."""
    links = Links(references, Confirming(12), most=2)
    links.follow([0])
    assert links.of(0) == {0, 1}
