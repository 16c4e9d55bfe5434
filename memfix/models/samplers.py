"""Samplers that users choose in the place of a model's own, and the one that replaces what passes over its noise."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from diffusers import (
    DDIMScheduler,
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
