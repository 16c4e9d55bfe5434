"""Groups of near-copies against a graph search over all pairs."""

from pathlib import Path

import numpy as np
import pytest
from scipy.sparse.csgraph import connected_components

from memfix.references import near_copies as module
from memfix.references.forest import Forest
from memfix.references.near_copies import groups_in
from tests.index.stores import make_store, unit


def test_three_hundred_copies_are_one_group_of_three_hundred(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    vectors = unit(900, 32)
    copied = draw.permutation(900)[:310]
    vectors[copied[:300]] = vectors[copied[0]]
    vectors[copied[300:]] = vectors[copied[300]]
    found = groups_in(make_store(tmp_path, vectors, (100, 512)), 0.99)
    assert [g.tolist() for g in found] == [sorted(copied[:300].tolist()), sorted(copied[300:].tolist())]


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.9])
def test_components_of_all_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threshold: float) -> None:
    monkeypatch.setattr(module, "STORED_ROWS", 16)
    monkeypatch.setattr(module, "STORED_COLUMNS", 50)
    vectors = unit(300, 6, seed=3)
    found = groups_in(make_store(tmp_path, vectors, (130,)), threshold)
    _, label = connected_components(vectors @ vectors.T >= threshold, directed=False)
    expected = [np.flatnonzero(label == c).tolist() for c in np.unique(label) if (label == c).sum() > 1]
    assert [g.tolist() for g in found] == sorted(expected, key=lambda g: (-len(g), g[0]))
    assert threshold < 0.9 or len(found) > 5


def test_a_chain_is_a_group(tmp_path: Path) -> None:
    angles = np.arange(40) * 0.1
    chain = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    assert [len(g) for g in groups_in(make_store(tmp_path, chain, (7,)), np.cos(0.11))] == [40]
    assert groups_in(make_store(tmp_path, chain, (7,)), np.cos(0.09)) == []


def test_forest_by_hand() -> None:
    forest = Forest(6)
    for a, b in ((4, 5), (1, 2), (5, 2), (3, 3)):
        forest.join(a, b)
    assert forest.roots(np.arange(6)).tolist() == [0, 1, 1, 3, 1, 1]
    assert [g.tolist() for g in forest.groups()] == [[1, 2, 4, 5]]


@pytest.mark.parametrize("seed", range(5))
def test_pairs_join_as_one_by_one(seed: int) -> None:
    draw = np.random.default_rng(seed)
    one, many = Forest(200), Forest(200)
    for _ in range(4):
        a, b = draw.integers(0, 200, (2, 30))
        for pair in zip(a.tolist(), b.tolist(), strict=True):
            one.join(*pair)
        many.join_pairs(a, b)
        assert many.roots().tolist() == one.roots().tolist()
    many.join_pairs(a, b)  # what is one group already
    assert many.roots().tolist() == one.roots().tolist()


def test_a_forest_grows() -> None:
    forest = Forest()
    forest.add(2)
    forest.join(0, 1)
    forest.add(3)
    forest.join_pairs(np.array([4]), np.array([1]))
    assert len(forest) == 5 and forest.roots().tolist() == [0, 0, 2, 3, 0]


def test_equal_things_are_joined_and_empty_ones_are_not() -> None:
    forest = Forest(6)
    forest.join_equal(["a", "", "b", "a", "", "a"])
    assert forest.roots().tolist() == [0, 1, 2, 0, 4, 0]
