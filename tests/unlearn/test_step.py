"""What one step of the trainer does to the weights, against the whole of its definition spelt out in float64.

A plain gradient step takes the place of AdamW, whose first step is little more than a sign and would hide lengths.
"""

from collections.abc import Callable

import pytest
import torch
from naive import Naive
from test_trainer import vector
from tiny import Net, bank_of, parts

from memfix.config.unlearn import UnlearnSettings
from memfix.models.denoiser import frozen
from memfix.unlearn.data.bank import Bank, Batch
from memfix.unlearn.data.draws import Draw
from memfix.unlearn.objective.importance import ITEMS
from memfix.unlearn.objective.methods import METHODS
from memfix.unlearn.train.trainer import Trainer

KINDS = ["epsilon", "v_prediction", "flow_prediction"]
RATE = 0.1
SMALL = {
    "train_batch_size": 10, "prior_batch_size": 3, "max_train_steps": 1, "weights": "full", "learning_rate": RATE,
    "lr_warmup_steps": 0, "lr_scheduler": "constant", "adam_weight_decay": 0.0, "forget_cap": 1.8, "train_seed": 3,
}  # fmt: skip


def step(
    model: Net, name: str, bank: Bank, settings: UnlearnSettings, checkpoints=(), held=None,
    change: Callable[[Net], None] = lambda _: None,
) -> tuple[Batch, torch.Tensor, torch.Tensor]:  # fmt: skip
    """The batch of one step, the weights that it starts from, and what is taken off them over the rate.

    `change`: what happens to the weights between the making of the trainer and the step.
    """
    trainer = Trainer(
        *parts(model), bank, METHODS[name], settings, "no", checkpoints, original=held
    )  # fmt: skip
    trainer.optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    change(model)
    [batch], before = trainer._draw(), vector(model)
    next(iter(trainer))
    return batch, before.double(), (before - vector(model)).double() / RATE


def clipped(gradient: torch.Tensor, most: float) -> torch.Tensor:
    return gradient * min(1.0, most / float(gradient.norm()))


def check(found: torch.Tensor, wanted: torch.Tensor) -> None:
    assert wanted.norm() > 1e-3
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4 * float(wanted.norm()))


def moved(model: Net) -> None:
    """Away from where it was, another way for each weight."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.2 * torch.randn(p.shape, generator=generator))


def fisher(model: Net, kind: str, settings: UnlearnSettings, bank: Bank) -> torch.Tensor:
    """Mean squared gradient of the denoising loss, picture by picture: keep images, and in turn prior ones."""
    total = 0.0
    for n in range(ITEMS):
        batch = bank.draw(Draw(settings.train_seed, n, "fisher"), 1, 1, 0.0, (0, len(bank.schedule)))
        naive = Naive(model, batch, kind, settings, bank)
        total = total + naive.gradient(naive.error(batch.prior if n % 2 else batch.keep, 0)) ** 2 / ITEMS
    return total


@pytest.mark.parametrize("most", [1.0, 1e9])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", METHODS)
def test_a_step_is_the_combined_gradient_clipped(name: str, kind: str, most: float) -> None:
    model, bank = Net(), bank_of(kind)
    settings = UnlearnSettings(**SMALL, max_grad_norm=most, parameter_prior=0.0)
    batch, _, found = step(model, name, bank, settings)
    check(found, clipped(Naive(Net(), batch, kind, settings, bank).combined(name), most))


@pytest.mark.parametrize("most", [1.0, 1e9])
@pytest.mark.parametrize(("name", "prior"), [("vdu", None), ("vdu", 0.5), ("siss", 0.3), ("retrack", 0.9)])
def test_a_step_under_a_prior_of_the_keep_images(name: str, prior: float | None, most: float) -> None:
    """(1-γ) g + γ (θ - μ)/s², 1/s² the Fisher diagonal, damped, and 1 on average; for vdu γ is .99 by default."""
    model, bank = Net(), bank_of("v_prediction")
    settings = UnlearnSettings(**SMALL, max_grad_norm=most, parameter_prior=prior)
    mean = vector(model).double()
    batch, before, found = step(model, name, bank, settings, change=moved)

    precision = fisher(Net(), "v_prediction", settings, bank)
    precision = precision + 1e-3 * precision.mean()
    precision = precision / precision.mean()
    other = Net()
    moved(other)
    g, share = Naive(other, batch, "v_prediction", settings, bank).combined(name), 0.99 if prior is None else prior
    check(found, clipped((1 - share) * g + share * precision * (before - mean), most))


def test_a_step_under_a_prior_of_checkpoints() -> None:
    """μ and s² are the mean and the variance of three checkpoints."""
    model, bank, states = Net(), bank_of("epsilon"), []
    for i in range(3):
        generator = torch.Generator().manual_seed(i)
        states.append(
            {n: p.detach() + 0.1 * torch.randn(p.shape, generator=generator) for n, p in model.named_parameters()}
        )
    settings = UnlearnSettings(**SMALL, max_grad_norm=1e9)
    batch, before, found = step(model, "vdu", bank, settings, states)

    each = torch.stack([torch.cat([p.flatten() for p in s.values()]) for s in states]).double()
    variance = ((each - each.mean(0)) ** 2).mean(0)
    precision = 1 / (variance + 1e-3 * variance.mean())
    precision = precision / precision.mean()
    g = Naive(Net(), batch, "epsilon", settings, bank).combined("vdu")
    check(found, 0.01 * g + 0.99 * precision * (before - each.mean(0)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["siss", "naive", "anchor"])
def test_a_step_with_prior_items_held_to_the_model(name: str, kind: str) -> None:
    """What prior items and reworded keep pictures are held to are answers of the model before it moved."""
    model, bank = Net(), bank_of(kind)
    settings = UnlearnSettings(**SMALL, max_grad_norm=1e9, prior_target="model")
    batch, _, found = step(model, name, bank, settings, held=frozen(model, "no"), change=moved)
    other = Net()
    moved(other)
    naive, unmoved = Naive(other, batch, kind, settings, bank, Net()), Net().double()

    def prior() -> torch.Tensor:
        total, items = torch.zeros((), dtype=torch.float64), batch.prior
        for i in range(len(items)):
            point, t, words = (
                items.noisy[i : i + 1].double(),
                items.t[i : i + 1],
                items.conditioning.tokens[i : i + 1].double(),
            )
            wanted = unmoved(point, t, words)[0][0].detach()
            total = total + 10 * naive.size(naive.answer(point[0], items, i) - wanted, items, i) / len(batch)
        return total

    naive.prior = prior
    check(found, naive.combined(name))


@pytest.mark.parametrize("name", METHODS)
def test_a_step_under_a_saliency_mask(name: str) -> None:
    """The third of the weights with the largest gradient of the forget images moves, and clipping sees these alone."""
    model, bank = Net(), bank_of("epsilon")
    settings = UnlearnSettings(**SMALL, max_grad_norm=0.01, saliency=1 / 3, parameter_prior=0.0)
    batch, _, found = step(model, name, bank, settings)
    total = 0.0
    for n in range(ITEMS):
        item = bank.draw(Draw(settings.train_seed, n, "saliency"), 1, 0, 1.0, (0, len(bank.schedule)))
        naive = Naive(Net(), item, "epsilon", settings, bank)
        total = total + naive.gradient(naive.error(item.forget, 0))
    chosen = torch.zeros(len(total), dtype=torch.bool)
    chosen[total.abs().argsort(descending=True)[: len(total) // 3]] = True
    check(found, clipped(chosen * Naive(Net(), batch, "epsilon", settings, bank).combined(name), 0.01))
