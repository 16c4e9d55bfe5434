"""Sampling on a device: the same noise on all of them, and pictures that agree with those of the CPU."""

import numpy as np
import pytest
import torch
from gpu_devices import DEVICES, ONLY_CUDA, running_on

from memfix.models import loading
from memfix.models.device import autocast_dtype, device
from memfix.models.sampling import plan_samples
from memfix.records import Prompt


def samples(model, precision: str = "no", size: int = 3) -> np.ndarray:
    """[n, H, W, 3] in 0 to 255"""
    plan = plan_samples([Prompt(id="p", text="a")], range(size), steps=3, guidance=3.0)
    return np.stack([np.asarray(i, np.float32) for i in model.sample(plan, precision)])


def first_noise(model) -> torch.Tensor:
    """What the UNet is first given, [n, C, h, w]."""
    seen: list[torch.Tensor] = []
    hook = model.denoiser.module.register_forward_pre_hook(lambda module, args: seen.append(args[0].detach()))
    samples(model)
    hook.remove()
    return seen[0]


@DEVICES
def test_noise_comes_from_generators_of_the_cpu(on: str, model) -> None:
    noise = first_noise(model)
    assert noise.device.type == on
    for seed in range(3):
        own = torch.randn(1, 4, 8, 8, generator=torch.Generator("cpu").manual_seed(seed))
        assert torch.equal(noise[seed].cpu(), own[0])


@DEVICES
def test_the_pipeline_is_where_memfix_runs(on: str, model) -> None:
    assert device().type == on
    for module in (model._pipe.unet, model._pipe.vae, model._pipe.text_encoder):
        assert {p.device.type for p in module.parameters()} == {on}


@DEVICES
def test_pictures_are_encoded_on_the_device_and_kept_on_the_cpu(on: str, model) -> None:
    from tests.conftest import picture

    seen: list[str] = []
    hook = model._pipe.vae.encoder.conv_in.register_forward_hook(lambda module, args, out: seen.append(out.device.type))
    latents = list(model.latents.encode([picture(1), picture(2)]))
    hook.remove()
    assert seen == [on]
    assert {z.device.type for z in latents} == {"cpu"}


@DEVICES
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_autocast_changes_pictures_little(on: str, model, precision: str) -> None:
    whole, half = samples(model), samples(model, precision)
    assert np.abs(whole - half).mean() < 4
    assert whole.std() > 1


@ONLY_CUDA
def test_pictures_are_those_of_the_cpu(on: str, model, model_folder) -> None:
    found = samples(model)
    with running_on("cpu"):
        wanted = samples(loading.load(loading.locate(str(model_folder))))
    assert np.abs(found - wanted).mean() < 1  # convolutions of fp32 are in tf32 there
    assert np.abs(found - wanted).max() <= 16


@ONLY_CUDA
def test_auto_is_bf16_where_the_device_is_fast_at_it(on: str, model) -> None:
    fast = torch.cuda.get_device_capability()[0] >= 8
    assert autocast_dtype("auto") is (torch.bfloat16 if fast else None)
