"""Approximate search: exact scores, the recall that it reports, and a file that fits the store."""

import json
from pathlib import Path

import numpy as np
import pytest
from stores import make_store, unit

from memfix.config.choices import Compression
from memfix.errors import MemfixError
from memfix.index.approximate import Approximate, build, fresh, number_of_lists
from memfix.index.search import search

D = 16


def clustered(n: int, d: int) -> np.ndarray:
    """Families of four: every vector has near neighbours, as pictures of a crawl have."""
    x = np.repeat(unit(n // 4, d), 4, axis=0) + 0.5 * unit(n, d, seed=1)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.mark.parametrize(("compression", "n"), [(Compression.SQ8, 4000), (Compression.PQ, 10_000)])
def test_recall_is_as_reported_and_scores_are_exact(tmp_path: Path, compression: Compression, n: int) -> None:
    store = make_store(tmp_path, clustered(n, D), (1000, 1001))
    report = build(store, compression, target=0.9)
    assert report.recall >= 0.9 and report.probed < report.lists == number_of_lists(n)
    assert fresh(store, compression, 0.9) == report
    queries = clustered(n, D)[::9] + 0.05 * unit(len(range(0, n, 9)), D, seed=2)
    scores, ids = Approximate(store).search(queries, 3)
    exact = search(store, queries, 3)
    assert np.mean(ids[:, 0] == exact.ids[:, 0]) >= 0.9
    np.testing.assert_allclose(scores, np.einsum("qd,qkd->qk", queries, clustered(n, D)[ids]), atol=1e-5)
    assert (np.diff(scores) <= 0).all()


def test_refusals(tmp_path: Path) -> None:
    store = make_store(tmp_path, clustered(400, 8), ())
    with pytest.raises(MemfixError, match="has no approximate index"):
        Approximate(store)
    with pytest.raises(MemfixError, match="too few"):
        build(store, Compression.PQ)
    build(store, Compression.SQ8)
    report = store.path / "approximate.json"
    report.write_text(json.dumps({**json.loads(report.read_text()), "content": "other"}))
    assert fresh(store, Compression.SQ8, 0.1) is None
    with pytest.raises(MemfixError, match="older than the index"):
        Approximate(store)
