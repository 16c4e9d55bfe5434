"""Every mode of siss has the two gradients of the definition in the mean, held against their closed form."""

from typing import NamedTuple

import pytest
import torch
from tiny import Noise, Words
from torch import nn

from memfix.unlearn.data.bank import Bank, Target
from memfix.unlearn.data.draws import Draw
from memfix.unlearn.objective.methods import SISS_TERMS
from memfix.unlearn.objective.terms import View

SHAPE = (1, 2, 2)
WINDOW = (30, 34)
DRAWS, SIZE = 40, 500


class Linear(nn.Module):
    """Answers a·m + b·c at a point m under a text whose embedding has the mean c."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.tensor(0.3)), nn.Parameter(torch.tensor(-0.8))

    def network(self, noisy, t, conditioning):
        return self.a * noisy + self.b * conditioning.tokens.mean((1, 2))[:, None, None, None]

    def taken(self) -> torch.Tensor:
        gradient = torch.stack([self.a.grad, self.b.grad]).double()
        self.zero_grad()
        return gradient


def expected(model: Linear, noise: Noise, items: list[tuple[str, torch.Tensor]]) -> torch.Tensor:
    """∇ E‖ε - a·m - b·c‖² over timesteps of the window, these items alike, and ε ~ N(0, 1); m = γz + σε.

    By hand, in d dimensions: ∂a = -2 (σd - a(γ²‖z‖² + σ²d) - bcγ Σz) and ∂b = 2c (aγ Σz + bcd).
    """
    a, b, parts = model.a.item(), model.b.item(), []
    for t in range(*WINDOW):
        g, s = float(noise.signal_scale[t]), float(noise.noise_scale[t])
        for text, z in items:
            c, d, total = float(Words()[text].mean()), z.numel(), float(z.sum())
            size = float(z.square().sum())
            by_a = -2 * (s * d - a * (g**2 * size + s**2 * d) - b * c * g * total)
            parts.append(torch.tensor([by_a, 2 * c * (a * g * total + b * c * d)], dtype=torch.float64))
    return torch.stack(parts).mean(0)


class Case(NamedTuple):
    targets: list[Target]
    prior: list[tuple[str, torch.Tensor]]


def pictures(n: int, seed: int) -> list[torch.Tensor]:
    return list(0.7 * torch.randn(n, *SHAPE, generator=torch.Generator().manual_seed(seed)))


OWN = Target("a", pictures(1, 0), pictures(2, 1))
BARE = Target("b", pictures(2, 2))
SKY = [("sky", z) for z in pictures(3, 3)]
CASES = {"own": Case([OWN], []), "borrowed": Case([BARE], SKY), "both": Case([OWN, BARE], SKY)}


def means(items: list[tuple[str, torch.Tensor]], targets: list[Target], model: Linear, noise: Noise) -> torch.Tensor:
    """Targets count alike, and within one its pictures."""
    own = [[(text, z) for text, z in items if text == t.text] or SKY for t in targets]
    return torch.stack([expected(model, noise, o) for o in own]).mean(0)


@pytest.mark.parametrize("mixture", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("name", CASES)
def test_expectation_is_that_of_the_two_losses(name: str, mixture: float) -> None:
    targets, prior = CASES[name]
    model, noise = Linear(), Noise("epsilon")
    bank = Bank(targets, prior, Words(), noise)
    wanted = (
        means([(t.text, z) for t in targets for z in t.keep], targets, model, noise),
        means([(t.text, z) for t in targets for z in t.forget], targets, model, noise),
    )
    batches = [bank.draw(Draw(0, i), SIZE, 0, mixture, WINDOW) for i in range(DRAWS)]
    for mode, terms in SISS_TERMS.items():
        for term, exact in zip(terms, wanted, strict=True):
            found = []
            for batch in batches:
                term(batch, model.network, View("epsilon")).backward()
                found.append(model.taken())
            error = torch.stack(found).std(0) / DRAWS**0.5
            assert (error < 0.05 * exact.norm()).all()  # sharp enough to see a mode that is wrong
            assert ((torch.stack(found).mean(0) - exact).abs() < 4 * error).all(), mode
