"""The loop on a real UNet: what a step does to the weights."""

import math
from pathlib import Path

import pytest
import torch

from memfix.config import UnlearnSettings
from memfix.models import lora, pipeline
from memfix.models.latents import NoiseSchedule
from memfix.models.text import TextCache
from memfix.unlearn.bank import Bank, Target
from memfix.unlearn.methods import METHODS
from memfix.unlearn.trainer import lr_factor, train


def bank_for(pipe) -> Bank:
    texts = TextCache(pipe)
    texts.add(["a", "sky"])
    generator = torch.Generator().manual_seed(0)
    z = [torch.randn(4, 8, 8, generator=generator) for _ in range(6)]
    return Bank([Target("a", z[:1], z[1:3])], [("sky", x) for x in z[3:]], texts, NoiseSchedule(pipe))


def steps(pipe, parameters, **settings) -> list:
    chosen = UnlearnSettings(train_batch_size=8, prior_batch_size=4, max_train_steps=3, **settings)
    return list(train(pipe.unet, parameters, bank_for(pipe), METHODS["siss"], chosen, "no"))


def test_same_seed_gives_the_same_weights(model_folder: Path) -> None:
    results = []
    for _ in range(2):
        pipe = pipeline.load(pipeline.locate(str(model_folder)))
        records = steps(pipe, list(pipe.unet.requires_grad_(True).parameters()), weights="full", learning_rate=1e-3)
        results.append((torch.cat([p.flatten() for p in pipe.unet.parameters()]).detach(), records[-1].loss_keep))
    assert torch.equal(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]


def test_records_carry_the_ratio(model_folder: Path) -> None:
    pipe = pipeline.load(pipeline.locate(str(model_folder)))
    for record in steps(pipe, list(pipe.unet.requires_grad_(True).parameters()), weights="full", forget_ratio=0.2):
        assert -record.scale * record.norm_forget == pytest.approx(0.2 * record.norm_keep, rel=1e-4)


def test_accumulated_passes_equal_one_pass_of_their_items(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two passes over the same draw give the gradients of one pass over it."""
    original = Bank.draw

    def same_draw(self, generator, *args):
        return original(self, torch.Generator().manual_seed(7), *args)

    monkeypatch.setattr(Bank, "draw", same_draw)
    weights = []
    for passes in (1, 2):
        pipe = pipeline.load(pipeline.locate(str(model_folder)))
        steps(
            pipe, list(pipe.unet.requires_grad_(True).parameters()), weights="full", gradient_accumulation_steps=passes
        )
        weights.append(torch.cat([p.flatten() for p in pipe.unet.parameters()]).detach())
    torch.testing.assert_close(*weights, rtol=1e-4, atol=1e-6)


def test_lora_trains_only_the_adapter(model_folder: Path) -> None:
    pipe = pipeline.load(pipeline.locate(str(model_folder)))
    before = {n: p.clone() for n, p in pipe.unet.named_parameters()}
    parameters = lora.add(pipe.unet, 2)
    steps(pipe, parameters, learning_rate=1e-2)
    after = dict(pipe.unet.named_parameters())
    assert all(
        torch.equal(
            p,
            after.get(n, after.get(n.replace(".weight", ".base_layer.weight").replace(".bias", ".base_layer.bias"), p)),
        )
        for n, p in before.items()
    )
    assert any(p.abs().max() > 0 for n, p in after.items() if "lora_B" in n)


def test_forgetting_raises_the_forget_loss_against_the_keep_loss(model_folder: Path) -> None:
    """The sign of the forget term: with it, the forget image is denoised worse than with plain fine-tuning."""
    losses = []
    for ratio in (1e-9, 0.5):
        pipe = pipeline.load(pipeline.locate(str(model_folder)))
        chosen = UnlearnSettings(
            weights="full", learning_rate=3e-3, train_batch_size=16, prior_batch_size=4, max_train_steps=40,
            forget_ratio=ratio,
        )  # fmt: skip
        parameters = list(pipe.unet.requires_grad_(True).parameters())
        records = list(train(pipe.unet, parameters, bank_for(pipe), METHODS["siss"], chosen, "no"))
        losses.append(sum(r.loss_forget for r in records[-5:]))
    assert losses[1] > losses[0]


def test_learning_rate_by_hand() -> None:
    level = UnlearnSettings(lr_warmup_steps=3, max_train_steps=8)
    assert [lr_factor(i, level) for i in range(5)] == [0.25, 0.5, 0.75, 1, 1]
    falling = UnlearnSettings(lr_warmup_steps=0, max_train_steps=8, lr_scheduler="cosine")
    assert [lr_factor(i, falling) for i in (0, 4)] == [1, pytest.approx(0.5)]
    assert lr_factor(7, falling) == pytest.approx(0.5 * (1 + math.cos(math.pi * 7 / 8)))
