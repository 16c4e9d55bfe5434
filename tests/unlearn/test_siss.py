"""SISS against hand-worked numbers, its identities, and an independent float64 computation."""

import math

import pytest
import torch

from memfix.unlearn.objective import siss


def test_weights_by_hand() -> None:
    # one dimension, γ = 0.6, σ = 0.8, x = 1, a = -1, m = 0.2:
    # D = ((0.2 - 0.6)² - (0.2 + 0.6)²) / (2 · 0.64) = (0.16 - 0.64) / 1.28 = -0.375
    one = torch.ones(1, 1, 1, 1)
    d = siss.log_density_ratio(0.2 * one, one, -one, torch.tensor([0.6]), torch.tensor([0.8]))
    assert d.item() == pytest.approx(-0.375, abs=1e-7)
    w = siss.importance_weights(d, 0.5)
    assert w.keep.item() == pytest.approx(1 / (0.5 + 0.5 * math.exp(-0.375)), rel=1e-6)
    assert w.forget.item() == pytest.approx(1 / (0.5 * math.exp(0.375) + 0.5), rel=1e-6)


@pytest.mark.parametrize("mixture", [0.0, 0.01, 0.25, 0.5, 0.9, 1.0])
def test_weights_sum_to_one_and_stay_finite(mixture: float) -> None:
    d = torch.tensor([-1e5, -700.0, -30.0, -1.0, 0.0, 1.0, 30.0, 700.0, 1e5], dtype=torch.float64)
    w = siss.importance_weights(d, mixture)
    assert torch.isfinite(w.keep).all()
    assert torch.isfinite(w.forget).all()
    torch.testing.assert_close((1 - mixture) * w.keep + mixture * w.forget, torch.ones_like(d))


@pytest.mark.parametrize("mixture", [0.2, 0.5, 1.0])
def test_one_sided_weights_by_hand(mixture: float) -> None:
    """Those of the mixture in the limit of D → ±∞; nothing is drawn on the keep side of a mixture of 1."""
    w = siss.one_sided(torch.tensor([True, False])[: 2 - int(mixture)], mixture)
    assert w.forget[0] == pytest.approx(1 / mixture)
    assert w.keep[0] == 0
    if mixture < 1:
        assert (w.keep[1], w.forget[1]) == (pytest.approx(1 / (1 - mixture)), 0)
        limit = siss.importance_weights(torch.tensor([1e5, -1e5]), mixture)
        torch.testing.assert_close(w, limit)
