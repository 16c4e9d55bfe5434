"""Moving averages of weights against those of diffusers, bit by bit."""

import torch
from diffusers.training_utils import EMAModel
from torch import nn

from memfix.unlearn.train.averages import Averages


def test_averages_are_those_of_diffusers() -> None:
    generator = torch.Generator().manual_seed(0)
    weights = [nn.Parameter(torch.randn(5, 3, generator=generator)), nn.Parameter(torch.randn(4, generator=generator))]
    mine, theirs = Averages(weights), EMAModel(weights)
    for _ in range(30):
        with torch.no_grad():
            for w in weights:
                w.add_(torch.randn(w.shape, generator=generator))
        mine.step(weights)
        theirs.step(weights)
        assert all(torch.equal(a, b) for a, b in zip(mine.values, theirs.shadow_params, strict=True))
    before = [w.detach().clone() for w in weights]
    mine.store(weights)
    mine.copy_to(weights)
    assert all(torch.equal(w, a) for w, a in zip(weights, theirs.shadow_params, strict=True))
    mine.restore(weights)
    assert all(torch.equal(w, b) for w, b in zip(weights, before, strict=True))


def test_an_average_of_many_steps_keeps_at_most_so_much() -> None:
    weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    mine, theirs = Averages([weight]), EMAModel([weight])
    mine.steps = theirs.optimization_step = 10**6
    weight.data.fill_(1.0)
    mine.step([weight])
    theirs.step([weight])
    assert mine.values[0].item() == theirs.shadow_params[0].item() > 0
