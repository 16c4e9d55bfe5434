"""Samplers that users choose in the place of a model's own."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from diffusers import (
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


@contextmanager
def other_sampler(pipe: StableDiffusionPipeline, name: str) -> Iterator[None]:
    """The pipeline with another sampler for a while."""
    own = pipe.scheduler
    pipe.scheduler = SAMPLERS[name](own.config)
    try:
        yield
    finally:
        pipe.scheduler = own
