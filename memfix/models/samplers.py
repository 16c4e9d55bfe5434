"""Samplers that users choose in the place of a model's own, and the one that replaces what passes over its noise."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    StableDiffusionPipeline,
    UniPCMultistepScheduler,
)

SAMPLERS: dict[str, Callable[[Any], Any]] = {
    "euler-a": EulerAncestralDiscreteScheduler.from_config,
    "dpmpp": functools.partial(DPMSolverMultistepScheduler.from_config, use_karras_sigmas=True),
    "unipc": UniPCMultistepScheduler.from_config,
}
"""Name → what makes it of the configuration of a model's own sampler, whose training noise it takes over."""

ZERO_SNR = "rescale_betas_zero_snr"
"""The setting of a scheduler whose noise ends in noise alone (zero terminal SNR)."""


STEP_TAKES = {"self", "model_output", "timestep", "sample"}
"""What every pipeline that draws pictures of texts gives to a step of its sampler."""
SOME_STEPS = 10  # of which a sampler is asked where it begins


def unfit(scheduler: Any) -> str:
    """Why a scheduler draws no pictures of noise under the noise that its betas say, as a half-sentence; empty where it
    does. It is what a tool leaves that inverted pictures or filled in parts of them."""
    begun = copy.deepcopy(scheduler)
    begun.set_timesteps(SOME_STEPS)
    if float(begun.timesteps[0]) < float(begun.timesteps[-1]):
        return "goes from pictures to noise (an inverse scheduler), and draws none"
    taken = inspect.signature(type(scheduler).step).parameters.values()
    needed = [p.name for p in taken if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    if lacking := [name for name in needed if name not in STEP_TAKES]:
        return f"takes its steps only with {' and '.join(lacking)}, which texts do not give"
    said = DDPMScheduler.from_config(scheduler.config).alphas_cumprod
    if not torch.allclose(scheduler.alphas_cumprod.cpu().float(), said, atol=1e-4):
        return "draws with other noise than its betas say"
    return ""


def keep_zero_snr(pipe: Any) -> str:
    """Give a pipeline DDIM in the place of a sampler that passes over `ZERO_SNR` in its configuration, as PNDM does.

    It begins at the last timestep (trailing), where noise alone is. What the user is to know; empty where all stays.
    """
    own = pipe.scheduler
    if not own.config.get(ZERO_SNR) or ZERO_SNR in inspect.signature(type(own)).parameters:
        return ""
    kept = DDIMScheduler.from_config(own.config, timestep_spacing="trailing", clip_sample=False)
    pipe.register_modules(scheduler=kept)
    return (
        f"The model was trained down to noise alone (zero terminal SNR), which its {type(own).__name__} passes over. "
        "It is drawn by a DDIMScheduler in its place, which does not."
    )


@contextmanager
def other_sampler(pipe: StableDiffusionPipeline, name: str) -> Iterator[None]:
    """The pipeline with another sampler for a while."""
    own = pipe.scheduler
    pipe.scheduler = SAMPLERS[name](own.config)
    try:
        yield
    finally:
        pipe.scheduler = own
