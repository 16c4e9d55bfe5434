"""Options of a training that have a package of their own behind them: what they do to a step and to what is saved."""

import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import torch._dynamo.utils
from test_trainer import bank_for, vector
from tiny import Net, bank_of, parts

from memfix.config.unlearn import UnlearnSettings
from memfix.errors import MemfixError
from memfix.models import loading
from memfix.unlearn.objective.methods import METHODS
from memfix.unlearn.train.checkpoint import Checkpoints
from memfix.unlearn.train.trainer import Trainer, adam


def trainer(model: torch.nn.Module, **values) -> Trainer:
    given = {"train_batch_size": 6, "prior_batch_size": 2, "weights": "full", "learning_rate": 0.01} | values
    settings = UnlearnSettings(**given)
    taken = parts(model, compiled=settings.torch_compile)
    return Trainer(*taken, bank_of("epsilon"), METHODS["siss"], settings, "no")


def test_averages_by_hand() -> None:
    """After n steps the decay is n/(9 + n), as in diffusers; the first step's average is its weights."""
    model = Net()
    training, average = trainer(model, use_ema=True, max_train_steps=5), None
    for n, _ in enumerate(training):
        average = vector(model) if average is None else average + (1 - (1 + n) / (10 + n)) * (vector(model) - average)
    last = vector(model)
    training.finish()
    torch.testing.assert_close(vector(model), average)
    assert not torch.equal(vector(model), last)


def test_averages_change_no_step() -> None:
    results = []
    for use_ema in (False, True):
        model = Net()
        list(trainer(model, use_ema=use_ema, max_train_steps=3))
        results.append(vector(model))
    assert torch.equal(*results)


def go_on(folder: Path, steps: int, **values) -> torch.Tensor:
    model = Net()
    training = trainer(model, max_train_steps=steps, **values)
    checkpoints = Checkpoints(folder, training)
    checkpoints.restore()
    for _ in training:
        pass
    checkpoints.save()
    training.finish()
    return vector(model)


def test_averages_survive_an_interruption(tmp_path: Path) -> None:
    whole = go_on(tmp_path / "whole", 6, use_ema=True)
    go_on(tmp_path / "parts", 3, use_ema=True)
    assert torch.equal(go_on(tmp_path / "parts", 6, use_ema=True), whole)


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(MemfixError, match="bitsandbytes") as caught:
        trainer(Net(), use_8bit_adam=True, max_train_steps=1)
    assert "memfix[8bit]" in caught.value.hint


needs_bitsandbytes = pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")


@needs_bitsandbytes
def test_eight_bits_follow_the_whole_ones() -> None:
    torch.manual_seed(0)
    start, gradients = torch.randn(64, 128), torch.randn(20, 64, 128)
    ends = []
    for eight_bit in (False, True):
        weight = torch.nn.Parameter(start.clone())
        optimizer = adam([weight], 0.01, 0.1, eight_bit)
        for gradient in gradients:
            weight.grad = gradient.clone()
            optimizer.step()
        ends.append(weight.detach())
    assert not torch.equal(*ends)
    assert (ends[0] - ends[1]).norm() < 0.05 * (ends[0] - start).norm()


@needs_bitsandbytes
def test_eight_bits_survive_an_interruption(tmp_path: Path) -> None:
    whole = go_on(tmp_path / "whole", 6, use_8bit_adam=True)
    go_on(tmp_path / "parts", 3, use_8bit_adam=True)
    assert torch.equal(go_on(tmp_path / "parts", 6, use_8bit_adam=True), whole)


@pytest.mark.slow
def test_compiled_networks_take_the_same_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Captured and differentiated as a graph; what takes a C++ compiler minutes is left out."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    torch._dynamo.utils.counters.clear()
    results = []
    for compiled in (False, True):
        model = Net()
        records = list(trainer(model, torch_compile=compiled, max_train_steps=2))
        results.append((vector(model), records[-1].loss_forget))
    assert torch._dynamo.utils.counters["frames"]["ok"] > 0
    torch.testing.assert_close(*(weights for weights, _ in results), rtol=1e-4, atol=1e-5)
    assert results[0][1] == pytest.approx(results[1][1], rel=1e-4)


def test_dora_moves_lengths_and_is_what_was_trained(model_folder: Path, tmp_path: Path) -> None:
    model = loading.load(loading.locate(str(model_folder)))
    model.adapters.add(2, dora=True)
    weights = model.denoiser.trained()
    lengths = {n: p.detach().clone() for n, p in weights.items() if "magnitude" in n}
    settings = UnlearnSettings(train_batch_size=4, prior_batch_size=2, max_train_steps=2, learning_rate=0.01)
    assert (
        len(list(Trainer(model.denoiser.network("no"), weights, bank_for(model), METHODS["siss"], settings, "no"))) == 2
    )
    assert lengths and all(not torch.equal(before, weights[name]) for name, before in lengths.items())
