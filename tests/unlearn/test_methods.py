"""The routed SISS terms give the gradients of the plain definition: one answer at every mixture point, two losses."""

from pathlib import Path

import pytest
import torch
from torch import nn

from memfix.errors import MemfixError
from memfix.models import pipeline
from memfix.models.latents import NoiseSchedule
from memfix.models.text import TextCache
from memfix.unlearn import siss
from memfix.unlearn.bank import Bank, Batch, Target
from memfix.unlearn.methods import METHODS, get_method


@pytest.fixture(scope="module")
def bank(model_folder: Path) -> Bank:
    pipe = pipeline.load(pipeline.locate(str(model_folder)))
    texts = TextCache(pipe)
    texts.add(["a", "b", "sky"])
    generator = torch.Generator().manual_seed(0)

    def latents(n: int, scale: float = 1.0) -> list[torch.Tensor]:
        return [scale * torch.randn(4, 8, 8, generator=generator) for _ in range(n)]

    # small latents, so that many items are ambiguous and both sides of the routing are exercised
    targets = [Target("a", latents(2, 0.05), latents(3, 0.05)), Target("b", latents(1), [])]
    return Bank(targets, [("sky", z) for z in latents(3)], texts, NoiseSchedule(pipe))


class Linear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.seen = 0

    def forward(self, noisy: torch.Tensor, t: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        self.seen += len(noisy)
        return self.conv(noisy) + 1e-3 * t.reshape(-1, 1, 1, 1) + context.mean((1, 2)).reshape(-1, 1, 1, 1)


def draw(bank: Bank, window: tuple[int, int] = (0, 1000), seed: int = 3) -> Batch:
    return bank.draw(torch.Generator().manual_seed(seed), 16, 4, 0.5, window)


def gradient(model: nn.Module, loss: torch.Tensor) -> torch.Tensor:
    model.zero_grad()
    loss.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).clone()


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_routed_terms_are_the_definition(bank: Bank, prediction_type: str) -> None:
    model, batch = Linear(), draw(bank)
    d = siss.log_density_ratio(batch.noisy, batch.keep, batch.forget, batch.signal, batch.noise)
    w = siss.importance_weights(d, 0.5)
    answer = model(batch.noisy, batch.t, batch.context)
    prior = model(batch.prior_noisy, batch.prior_t, batch.prior_context)

    def loss(weight: torch.Tensor, clean: torch.Tensor) -> torch.Tensor:
        wanted = siss.target(batch.noisy, clean, batch.signal, batch.noise, prediction_type)
        return (weight * (answer - wanted).flatten(1).square().sum(1)).sum() / 16

    wanted = siss.target(batch.prior_noisy, batch.prior_clean, batch.prior_signal, batch.prior_noise, prediction_type)
    keep_loss = loss(w.keep.float(), batch.keep) + (prior - wanted).square().sum() / 16
    forget_loss = loss(w.forget.float(), batch.forget)
    keep, forget = gradient(model, keep_loss), None
    answer = model(batch.noisy, batch.t, batch.context)
    forget = gradient(model, loss(w.forget.float(), batch.forget))

    method = METHODS["siss"]
    routed_keep, routed_forget = (
        method.keep(batch, model, prediction_type),
        method.forget(batch, model, prediction_type),
    )
    torch.testing.assert_close(routed_keep, keep_loss, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(routed_forget, forget_loss, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(gradient(model, routed_keep), keep, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(
        gradient(model, method.forget(batch, model, prediction_type)), forget, rtol=1e-4, atol=1e-3
    )


def test_routing_spares_forward_passes(bank: Bank) -> None:
    model = Linear()
    far = Bank(
        [Target("a", [torch.full((4, 8, 8), 3.0)], [torch.full((4, 8, 8), -3.0)])],
        bank.prior,
        bank.texts,
        bank.schedule,
    )
    batch = draw(far, (0, 500))
    for term in (METHODS["siss"].keep, METHODS["siss"].forget):
        term(batch, model, "epsilon")
    assert model.seen == len(batch.t) + len(batch.prior_t)  # every item on one side only


def test_mixture_is_stratified(bank: Bank) -> None:
    for size, mixture, expected in [(16, 0.5, 8), (4, 0.01, 1), (4, 0.99, 3), (10, 0.3, 3)]:
        batch = bank.draw(torch.Generator().manual_seed(0), size, 0, mixture, (0, 1000))
        assert int(batch.from_forget.sum()) == expected
        assert batch.mixture == pytest.approx(expected / size)


def test_draws_are_seeded_and_stay_in_the_window(bank: Bank) -> None:
    first, second = draw(bank, (750, 800)), draw(bank, (750, 800))
    torch.testing.assert_close(first.noisy, second.noisy, rtol=0, atol=0)
    assert first.t.min() >= 750
    assert first.t.max() < 800
    times = torch.cat([draw(bank, (750, 800), seed=s).prior_t for s in range(20)])
    assert times.min() < 200 and times.max() > 800  # what must survive must survive everywhere


def test_unknown_method() -> None:
    with pytest.raises(MemfixError) as caught:
        get_method("sis")
    assert "siss" in caught.value.hint
