"""Sampling on a device: the same noise on all of them, and pictures that agree with those of the CPU."""

import numpy as np
import pytest
import torch
from gpu_devices import DEVICES, ONLY_CUDA, running_on

from memfix.models import pipeline
from memfix.models.device import autocast_dtype, device
from memfix.models.latents import encode
from memfix.models.sampling import generate, plan_samples
from memfix.models.text import TextCache
from memfix.records import Prompt


def samples(pipe, precision: str = "no", size: int = 3) -> np.ndarray:
    """[n, H, W, 3] in 0 to 255"""
    plan = plan_samples([Prompt(id="p", text="a")], range(size), steps=3, guidance=3.0)
    return np.stack([np.asarray(i, np.float32) for i in generate(pipe, plan, TextCache(pipe), precision)])


def first_noise(pipe) -> torch.Tensor:
    """What the UNet is first given, [n, C, h, w]."""
    seen: list[torch.Tensor] = []
    hook = pipe.unet.register_forward_pre_hook(lambda module, args: seen.append(args[0].detach()))
    samples(pipe)
    hook.remove()
    return seen[0]


@DEVICES
def test_noise_comes_from_generators_of_the_cpu(on: str, pipe) -> None:
    noise = first_noise(pipe)
    assert noise.device.type == on
    for seed in range(3):
        own = torch.randn(1, 4, 8, 8, generator=torch.Generator("cpu").manual_seed(seed))
        assert torch.equal(noise[seed].cpu(), own[0])


@DEVICES
def test_the_pipeline_is_where_memfix_runs(on: str, pipe) -> None:
    assert device().type == on
    for module in (pipe.unet, pipe.vae, pipe.text_encoder):
        assert {p.device.type for p in module.parameters()} == {on}


@DEVICES
def test_pictures_are_encoded_on_the_device_and_kept_on_the_cpu(on: str, pipe) -> None:
    from tests.conftest import picture

    seen: list[str] = []
    hook = pipe.vae.encoder.conv_in.register_forward_hook(lambda module, args, out: seen.append(out.device.type))
    latents = list(encode(pipe, [picture(1), picture(2)]))
    hook.remove()
    assert seen == [on]
    assert {z.device.type for z in latents} == {"cpu"}


@DEVICES
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_autocast_changes_pictures_little(on: str, pipe, precision: str) -> None:
    whole, half = samples(pipe), samples(pipe, precision)
    assert np.abs(whole - half).mean() < 4
    assert whole.std() > 1


@ONLY_CUDA
def test_pictures_are_those_of_the_cpu(on: str, pipe, model_folder) -> None:
    found = samples(pipe)
    with running_on("cpu"):
        wanted = samples(pipeline.load(pipeline.locate(str(model_folder))))
    assert np.abs(found - wanted).mean() < 1  # convolutions of fp32 are in tf32 there
    assert np.abs(found - wanted).max() <= 16


@ONLY_CUDA
def test_auto_is_bf16_where_the_device_is_fast_at_it(on: str, pipe) -> None:
    fast = torch.cuda.get_device_capability()[0] >= 8
    assert autocast_dtype("auto") is (torch.bfloat16 if fast else None)
