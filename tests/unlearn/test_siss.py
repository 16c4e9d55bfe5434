"""SISS against hand-worked numbers, its identities, and an independent float64 computation."""

import math

import pytest
import torch

from memfix.unlearn import siss


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


def test_expectation_is_the_two_pass_gradient() -> None:
    """E[∇SISS_λ] = ∇(two separate losses) on a linear model, where both can be averaged over many draws."""
    generator = torch.Generator().manual_seed(0)
    n, signal, noise, mixture = 400_000, 0.6, 0.8, 0.5
    x, a = torch.tensor(0.7), torch.tensor(-0.4)
    slope = torch.tensor(0.3, dtype=torch.float64)  # network(m) = slope · m

    def gradient(m: torch.Tensor, clean: torch.Tensor, weight: torch.Tensor) -> float:
        eps = (m - signal * clean) / noise
        return (weight * -2 * (eps - slope * m) * m).double().mean().item()

    eps = torch.randn(n, generator=generator)
    from_forget = torch.arange(n) < n * mixture
    m = signal * torch.where(from_forget, a, x) + noise * eps
    d = siss.log_density_ratio(
        m.reshape(-1, 1), x.expand(n, 1), a.expand(n, 1), torch.full((n,), signal), torch.full((n,), noise)
    )
    w = siss.importance_weights(d, mixture)
    keep_points, forget_points = signal * x + noise * eps, signal * a + noise * eps
    one = torch.ones(n)
    assert gradient(m, x, w.keep) == pytest.approx(gradient(keep_points, x, one), abs=0.01)
    assert gradient(m, a, w.forget) == pytest.approx(gradient(forget_points, a, one), abs=0.01)
