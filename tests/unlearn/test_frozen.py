"""Prior items that are held to what the model answered before it was trained."""

from pathlib import Path

import pytest
import torch
from test_modifiers import conditional
from tiny import Net, bank_of, parts

from memfix.config.unlearn import UnlearnSettings
from memfix.models import loading
from memfix.models.conditioning import Conditioning
from memfix.models.denoiser import frozen, network_of
from memfix.models.prediction import target
from memfix.unlearn.data.bank import Bank
from memfix.unlearn.data.draws import Draw
from memfix.unlearn.objective.methods import METHODS
from memfix.unlearn.objective.modifiers import parameter_group
from memfix.unlearn.train.trainer import Trainer


def points(channels: int, side: int, width: int) -> tuple[torch.Tensor, torch.Tensor, Conditioning]:
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(3, channels, side, side, generator=generator), torch.tensor([5, 50, 90]),
        Conditioning(torch.randn(3, 7, width, generator=generator)),
    )  # fmt: skip


@pytest.mark.parametrize("group", ["all", "cross-attention"])
def test_a_trained_adapter_changes_no_original_answer(model_folder: Path, group: str) -> None:
    """Asking leaves the training as it was: the same weights move, and the adapter is on."""
    model = loading.load(loading.locate(str(model_folder)))
    unet = model.denoiser.module
    asked = points(4, 8, unet.config.cross_attention_dim)
    before = network_of(unet, "no")(*asked).detach()
    model.adapters.add(2)
    trained = list(parameter_group(model.denoiser.trained(), group).values())
    network = model.denoiser.frozen("no")
    with torch.no_grad():
        for p in trained:
            p.add_(0.1)
    changed = network_of(unet, "no")(*asked).detach()
    answer = network(*asked)
    assert not answer.requires_grad
    torch.testing.assert_close(answer, before)
    assert not torch.allclose(changed, before, atol=1e-3)
    torch.testing.assert_close(network_of(unet, "no")(*asked).detach(), changed)
    assert {id(p) for p in unet.parameters() if p.requires_grad} == {id(p) for p in trained}


def test_full_weights_are_kept_in_a_copy() -> None:
    unet = conditional()
    asked = points(unet.config.in_channels, 8, unet.config.cross_attention_dim)
    before = network_of(unet, "no")(*asked).detach()
    network = frozen(unet, "no")
    with torch.no_grad():
        for p in unet.parameters():
            p.add_(0.1)
    torch.testing.assert_close(network(*asked), before)
    assert all(p.requires_grad for p in unet.parameters())


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "flow_prediction"])
def test_what_agrees_with_the_original_does_not_move(kind: str) -> None:
    """A model that is as it was has nothing to learn from prior items; from their pictures it would."""
    drawn = bank_of(kind)
    bank = Bank(drawn.targets[:1], drawn.prior, drawn.texts, drawn.schedule)
    settings = UnlearnSettings(train_batch_size=2, prior_batch_size=16, max_train_steps=1, weights="full")
    norms = {}
    for held in (False, True):
        model = Net()
        original = frozen(model, "no") if held else None
        trainer = Trainer(
            *parts(model), bank, METHODS["naive"], settings, "no", original=original
        )  # fmt: skip
        [batch] = trainer._draw()
        answer = model.network(batch.prior.noisy, batch.prior.t, batch.prior.conditioning).detach()
        wanted = target(batch.prior.noisy, batch.prior.clean, batch.prior.signal, batch.prior.noise, kind)
        norms[held] = float((answer - wanted).square().mean())
    assert norms[True] < 1e-9
    assert norms[False] > 0.1


def test_held_items_keep_the_model_where_it_was() -> None:
    """Trained on nothing but a forget term and prior items, a held model moves less where the prior items are."""
    drawn = bank_of("epsilon")
    moved = {}
    for held_to in ("picture", "model"):
        model = Net()
        original = frozen(model, "no")
        settings = UnlearnSettings(
            train_batch_size=4, prior_batch_size=16, max_train_steps=40, learning_rate=3e-3, weights="full"
        )
        held = original if held_to == "model" else None
        list(Trainer(*parts(model), drawn, METHODS["siss"], settings, "no", original=held))
        prior = drawn.draw(Draw(9), 2, 64, 0.5, (0, 100)).prior
        answers = (net(prior.noisy, prior.t, prior.conditioning) for net in (model.network, original))
        moved[held_to] = float(torch.stack([next(answers) - next(answers)]).square().mean())
    assert moved["model"] < 0.5 * moved["picture"]
