"""Targets of the three prediction types by hand."""

import pytest
import torch

from memfix.models.prediction import implied_noise, target

DIFFUSION = torch.tensor([0.9, 0.6, 0.1]), torch.tensor([0.19**0.5, 0.8, 0.99**0.5])
FLOW = torch.tensor([0.9, 0.5, 0.1]), torch.tensor([0.1, 0.5, 0.9])
KINDS = {"epsilon": DIFFUSION, "v_prediction": DIFFUSION, "flow_prediction": FLOW}


@pytest.mark.parametrize("kind", KINDS)
def test_target_at_a_point_of_its_own_picture(kind: str) -> None:
    x, eps = torch.randn(3, 2, 4, 4), torch.randn(3, 2, 4, 4)
    signal, noise = KINDS[kind]
    g, s = signal.reshape(3, 1, 1, 1), noise.reshape(3, 1, 1, 1)
    m = g * x + s * eps
    wanted = {"epsilon": eps, "v_prediction": g * eps - s * x, "flow_prediction": eps - x}[kind]
    answer = target(m, x, signal, noise, kind)
    torch.testing.assert_close(answer, wanted, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(implied_noise(answer, m, signal, noise, kind), eps, atol=1e-4, rtol=1e-4)


def test_targets_of_another_picture_by_hand() -> None:
    # flow at t = 0.5: m = 0.5·1 + 0.5·3 = 2; from z = 2 it would take ε = (2 - 1)/0.5 = 2, so v = 2 - 2 = 0
    one = torch.ones(1, 1, 1, 1)
    half = torch.tensor([0.5])
    assert target(2 * one, 2 * one, half, half, "flow_prediction").item() == pytest.approx(0)
    # diffusion, γ = 0.6, σ = 0.8: from z = 2, m = 2 takes ε = (2 - 1.2)/0.8 = 1, v = 0.6·1 - 0.8·2 = -1
    scales = torch.tensor([0.6]), torch.tensor([0.8])
    assert target(2 * one, 2 * one, *scales, "epsilon").item() == pytest.approx(1)
    assert target(2 * one, 2 * one, *scales, "v_prediction").item() == pytest.approx(-1)


def test_unknown_prediction_type() -> None:
    one = torch.ones(1, 1, 1, 1)
    for function in (target, implied_noise):
        with pytest.raises(ValueError, match="unknown prediction type"):
            function(one, one, torch.ones(1), torch.ones(1), "score")
