"""What is off a GPU or rounded on it while a model is trained, and copies that sample, change no picture."""

import numpy as np
import torch
from gpu_devices import DEVICES
from test_gpu_sampling import samples

from memfix.models.replicas import drawn_batches
from memfix.models.sampling import batches, plan_samples
from memfix.records import Prompt


def places(model) -> dict[str, str]:
    """Part → where it is."""
    parts = {"unet": model._pipe.unet, "vae": model._pipe.vae, "text_encoder": model._pipe.text_encoder}
    return {name: next(part.parameters()).device.type for name, part in parts.items()}


@DEVICES
def test_only_the_denoiser_stays_while_it_is_trained_and_samples_are_drawn_all_the_same(on: str, model) -> None:
    before = samples(model, "bf16")
    with model.denoiser_alone(), model.denoiser.in_halves("bf16"):
        assert places(model) == {"unet": on, "vae": "cpu", "text_encoder": "cpu"}
        halved = {p.dtype for p in model.denoiser.module.parameters()}
        assert halved == ({torch.float32, torch.bfloat16} if on == "cuda" else {torch.float32})
        with model.together():
            assert set(places(model).values()) == {on}
            meanwhile = samples(model, "bf16")
        assert places(model)["vae"] == "cpu"
    assert set(places(model).values()) == {on}
    assert {p.dtype for p in model.denoiser.module.parameters()} == {torch.float32}
    for drawn in (meanwhile, samples(model, "bf16")):
        assert np.array_equal(drawn, before)


@DEVICES
def test_copies_on_a_device_draw_what_the_model_draws(on: str, model) -> None:
    plan = plan_samples([Prompt(id="p", text="a")], range(6), steps=2, guidance=3.0)
    split = list(batches(plan, 2))
    alone, together = ([*drawn_batches(model, split, "bf16", places=there)] for there in ([], [torch.device(on)] * 2))
    for a, b in zip(alone, together, strict=True):
        assert all(map(np.array_equal, map(np.asarray, a.images), map(np.asarray, b.images)))


@DEVICES
def test_weights_that_are_rounded_before_they_come_to_a_device_draw_what_full_ones_draw(on: str, model) -> None:
    full, before = model.denoiser.module.conv_in.weight.detach().cpu().clone(), samples(model, "bf16")
    model._pipe.to("cpu")
    model.denoiser.hold_in(torch.bfloat16)
    model._pipe.to(on)
    assert model.denoiser.module.conv_in.weight.dtype == torch.bfloat16
    assert np.array_equal(samples(model, "bf16"), before)
    with model.denoiser.in_full():
        now = model.denoiser.module.conv_in.weight
        assert now.device.type == on and torch.equal(now.detach().cpu(), full)
        assert np.array_equal(samples(model, "bf16"), before)
    assert model.denoiser.module.conv_in.weight.dtype == torch.bfloat16
    assert np.array_equal(samples(model, "bf16"), before)
