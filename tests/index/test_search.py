"""Stores and exact search against the plain matrix product."""

from pathlib import Path

import numpy as np
import pytest
from stores import make_store, unit

from memfix.config.choices import Precision
from memfix.errors import MemfixError
from memfix.index.build import build
from memfix.index.search import Neighbours, best_of_both, search
from memfix.index.store import Store
from memfix.measures.descriptor import Pixels
from tests.conftest import picture

CUTS = (1, 1, 40, 90)  # an empty segment among them


def test_rows_vectors_and_blocks_agree_across_segments(tmp_path: Path) -> None:
    vectors = unit(100, 8)
    store = make_store(tmp_path, vectors, CUTS)
    assert len(store) == 100 and [store.row(i).file_name for i in (0, 1, 39, 40, 99)] == [
        "0.png", "1.png", "39.png", "40.png", "99.png",
    ]  # fmt: skip
    np.testing.assert_array_equal(store.vectors([99, 0, 41, 0]), vectors[[99, 0, 41, 0]])
    for size in (1, 7, 64, 200):
        for start in (0, 1, 39, 95):
            blocks = [(first, block.copy()) for first, block in store.blocks(size, start)]
            np.testing.assert_array_equal(np.concatenate([b for _, b in blocks]), vectors[start:])
            assert [first for first, _ in blocks] == list(range(start, 100, size))
    with pytest.raises(IndexError):
        store.row(100)


@pytest.mark.parametrize(("precision", "error"), [(Precision.FLOAT32, 1e-6), (Precision.FLOAT16, 5e-4)])
def test_search_is_the_matrix_product(tmp_path: Path, precision: Precision, error: float) -> None:
    vectors, queries = unit(500, 32), unit(40, 32, seed=1)
    store = make_store(tmp_path, vectors, (10, 77, 300), precision)
    scores, ids = search(store, queries, 5, block=64)
    exact = queries @ vectors.astype(precision.value).astype(np.float32).T
    order = np.argsort(-exact, axis=1)[:, :5]
    np.testing.assert_array_equal(ids, order)
    np.testing.assert_allclose(scores, np.take_along_axis(queries @ vectors.T, order, 1), atol=error)


def test_fewer_vectors_than_neighbours(tmp_path: Path) -> None:
    store = make_store(tmp_path, unit(3, 4), (2,))
    scores, ids = search(store, unit(2, 4, 1), 5, block=2)
    assert sorted(ids[0, :3].tolist()) == [0, 1, 2] and (ids[:, 3:] == -1).all() and np.isneginf(scores[:, 3:]).all()
    with pytest.raises(MemfixError, match="4 numbers"):
        search(store, unit(2, 5), 1)


def test_merge_by_hand() -> None:
    first = Neighbours(np.array([[0.9, 0.5]], np.float32), np.array([[1, 2]]))
    second = Neighbours(np.array([[0.7, 0.5]], np.float32), np.array([[8, 9]]))
    both = best_of_both(first, second)
    assert both.ids.tolist() == [[1, 8]] and both.scores.tolist() == [[np.float32(0.9), np.float32(0.7)]]
    assert best_of_both(first, Neighbours(second.scores - 0.3, second.ids)).ids.tolist() == [[1, 2]]


def test_pictures_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    names = ["a.png", "b/1.png", "b/c/2.png", "b/3.png", "b.png", "ü/4.png", "x.png"]
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        picture(i, 16).save(folder / name)
    (folder / "b" / "broken.png").write_bytes(b"none")
    store = build(Store.create(tmp_path / "index", folder, Pixels(), segment_size=2), folder, Pixels()).store
    assert len(store.manifest.segments) == 4 and len(store) == len(names)
    found = [store.find(name) for name in names]
    assert [store.row(i).file_name for i in found if i is not None] == names
    for name in ("", "A.png", "b", "b/", "b/broken.png", "b/2.png", "zzz", "c.png"):
        assert store.find(name) is None
    assert Store.empty(tmp_path / "none", folder, Pixels()).find("a.png") is None
