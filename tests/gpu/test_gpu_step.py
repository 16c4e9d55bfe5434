"""A trainer's step on a device: where its tensors are, in which precision, compiled, in 8 bits, taken up again."""

from importlib.util import find_spec
from itertools import islice
from pathlib import Path

import pytest
import torch
from gpu_devices import DEVICES, ONLY_CUDA

from memfix.config.unlearn import UnlearnSettings
from memfix.models.model import DiffusionModel
from memfix.unlearn.data.bank import Bank, Target
from memfix.unlearn.objective.methods import METHODS, get_method
from memfix.unlearn.train.adversary import Adversary
from memfix.unlearn.train.checkpoint import Checkpoints
from memfix.unlearn.train.trainer import Trainer

pytestmark = pytest.mark.slow  # each precision and method, also on the CPU

DTYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SMALL = {"train_batch_size": 4, "prior_batch_size": 2, "max_train_steps": 4, "learning_rate": 1e-3}


def bank_of(model: DiffusionModel) -> Bank:
    """Two prompts, with all that any method needs."""
    texts = model.text.keep(["a", "b", "sky", "c", None])
    generator = torch.Generator().manual_seed(0)
    z = [torch.randn(4, 8, 8, generator=generator) for _ in range(10)]
    targets = [
        Target("a", z[:1], z[1:3], [z[8][None]], ["c"]),
        Target("b", z[3:4], z[4:6], [z[9][None]], ["c"]),
    ]
    return Bank(targets, [("sky", x) for x in z[6:8]], texts, model.schedule)


def trainer_of(
    model: DiffusionModel, weights: str = "full", method: str = "siss", precision: str = "no", **values
) -> Trainer:
    settings = UnlearnSettings.model_validate({**SMALL, "weights": weights, "method": method, **values})
    model.prepare_training(weights, 2, 0, settings.use_dora)
    if settings.gradient_checkpointing:
        model.denoiser.save_memory()
    held = model.denoiser.frozen(precision) if settings.prior_target == "model" else None
    network = model.denoiser.network(precision, settings.torch_compile)
    weights_by_name = model.denoiser.trained()
    return Trainer(network, weights_by_name, bank_of(model), get_method(method), settings, precision, original=held)


def take(trainer: Trainer, steps: int) -> list:
    return list(islice(trainer, steps))


def weights_of(trainer: Trainer) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.parameters])


def assert_sound(trainer: Trainer, records: list, on: str) -> None:
    """Weights, gradients' heirs and averages on the device, in fp32; losses and norms are numbers."""
    kept = [trainer.averages.values] if trainer.averages else []
    state = [v for own in trainer.optimizer.state.values() for v in own.values() if torch.is_tensor(v) and v.ndim]
    assert state
    for tensor in [*trainer.parameters, *state, *(p for own in kept for p in own)]:
        assert tensor.device.type == on
    assert {p.dtype for p in trainer.parameters} == {torch.float32}
    assert weights_of(trainer).isfinite().all()
    numbers = [x for r in records for x in (r.loss_keep, r.loss_forget, r.norm_keep, r.norm_forget)]
    assert torch.tensor(numbers).isfinite().all()


@DEVICES
@pytest.mark.parametrize("method", METHODS)
def test_every_method_takes_steps_on_the_device(on: str, model, method: str) -> None:
    trainer = trainer_of(model, method=method)
    before = weights_of(trainer)
    assert_sound(trainer, take(trainer, 2), on)
    assert not torch.equal(before, weights_of(trainer))


@DEVICES
@pytest.mark.parametrize(
    "values",
    [
        {"weights": "lora", "use_dora": True},
        {"prior_target": "model", "use_ema": True},
        {"weights": "lora", "prior_target": "model"},
        {"saliency": 0.5, "snr_gamma": 5, "forget_low_pass": 0.5},
        {"parameter_prior": 0.5, "gradient_accumulation_steps": 2},
        {"siss_mode": "no-is", "gradient_checkpointing": True},
    ],
    ids=str,
)
def test_every_modifier_takes_steps_on_the_device(on: str, model, values: dict) -> None:
    trainer = trainer_of(model, **values)
    assert_sound(trainer, take(trainer, 2), on)


@DEVICES
@pytest.mark.parametrize("precision", DTYPES)
def test_steps_against_an_adversary_are_taken_on_the_device(on: str, model, precision: str) -> None:
    trainer = trainer_of(model, "lora", precision=precision)
    trainer.adversary = adversary = Adversary(bank_of(model), model.denoiser.network(precision))
    assert_sound(trainer, take(trainer, 3), on)
    tokens = {name: t for name, t in adversary.state().items() if "numbers" not in name}
    assert any("exp_avg" in name for name in tokens)
    assert {t.device.type for t in tokens.values()} == {on}
    assert all(t.isfinite().all() for t in tokens.values())
    on_disk = {name: t.cpu() for name, t in adversary.state().items()}
    adversary.take_up(on_disk)  # as from a checkpoint
    assert {name: t.device.type for name, t in adversary.state().items() if name in tokens} == dict.fromkeys(tokens, on)
    assert_sound(trainer, take(trainer, 1), on)


@DEVICES
@pytest.mark.parametrize("precision", DTYPES)
def test_arithmetic_is_in_the_precision_asked_for(on: str, model, precision: str) -> None:
    seen = set()
    hook = model.denoiser.module.conv_out.register_forward_hook(
        lambda _, args, out: seen.add((out.device.type, out.dtype))
    )
    trainer = trainer_of(model, precision=precision)
    records = take(trainer, 2)
    hook.remove()
    assert seen == {(on, DTYPES[precision])}
    assert_sound(trainer, records, on)


@DEVICES
def test_precisions_agree(on: str, model) -> None:
    """The first losses, before rounding has led the weights apart."""
    losses = {}
    for precision in ("no", "bf16", "fp16"):
        [record] = take(trainer_of(model, precision=precision, learning_rate=1e-9), 1)
        losses[precision] = record.loss_keep, record.loss_forget
    for precision in ("bf16", "fp16"):
        assert losses[precision] == pytest.approx(losses["no"], rel=0.05)


@DEVICES
@pytest.mark.parametrize("weights", ["lora", "full"])
def test_training_goes_on_bit_for_bit(on: str, model, tmp_path: Path, weights: str, repeatable: None) -> None:
    first = trainer_of(model, weights)
    start = weights_of(first)
    take(first, 2)
    Checkpoints(tmp_path, first).save()
    take(first, 2)
    whole = weights_of(first)
    with torch.no_grad():
        for p in first.parameters:
            p.zero_()
    network = model.denoiser.network("no")
    second = Trainer(
        network, first.weights, bank_of(model), get_method("siss"), first.settings, "no", original=first.original
    )
    assert Checkpoints(tmp_path, second).restore() == 2
    take(second, 2)
    assert torch.equal(weights_of(second), whole)
    assert not torch.equal(start, whole)
    assert second.parameters[0].device.type == on


@ONLY_CUDA
def test_a_compiled_step_is_the_step(on: str, model) -> None:
    results = []
    for compiled in (False, True):
        trainer = trainer_of(model, learning_rate=1e-9, torch_compile=compiled)
        [record] = take(trainer, 1)
        results.append((record.loss_keep, record.loss_forget, record.norm_keep, record.norm_forget))
    assert results[1] == pytest.approx(results[0], rel=0.01)
    assert torch._dynamo.utils.counters["frames"]["ok"] > 0


@ONLY_CUDA
@pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
def test_eight_bit_adamw_takes_steps(on: str, model) -> None:
    trainer = trainer_of(model, use_8bit_adam=True)
    before = weights_of(trainer)
    assert_sound(trainer, take(trainer, 3), on)
    assert not torch.equal(before, weights_of(trainer))
