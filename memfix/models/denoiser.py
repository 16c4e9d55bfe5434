"""The network that denoises: asked, remembered as it was, trained. What it predicts is a matter of the schedule."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol, cast

import torch
from diffusers import StableDiffusionPipeline
from torch import nn

from memfix.models import sharding
from memfix.models.activations import Way, denoising, training_pass
from memfix.models.conditioning import Conditioning
from memfix.models.device import autocast, autocast_dtype
from memfix.models.halves import FullWeights, frozen_in, halve, is_rounded
from memfix.models.lora import is_on, switched_off

BACKWARD = 2  # passes forward that a pass backward takes as long as
GROUPS: dict[str, re.Pattern[str]] = {
    "all": re.compile(""),
    "cross-attention": re.compile(r"(^|\.)attn2\."),
    "self-attention": re.compile(r"(^|\.)attn1\.|(^|\.)attentions\.\d+\.to_"),
}
"""Weights by name. Conditional networks have attn1 and attn2 in each block, UNet2DModel has bare attentions."""


class Network(Protocol):
    """Anything that predicts."""

    def __call__(
        self, noisy: torch.Tensor, t: torch.Tensor | float, conditioning: Conditioning | None, /
    ) -> torch.Tensor:
        """noisy: latents [n, C, h, w]; t: timesteps [n], or one for all; conditioning: n rows, None without prompts.

        The prediction is like the latents, in float32.
        """
        ...


class Denoiser:
    """A model's network, which may be replaced while the model stays."""

    def __init__(self, pipe: StableDiffusionPipeline) -> None:
        self._pipe = pipe
        self._held: torch.dtype | None = None
        self._full = FullWeights()

    @property
    def module(self) -> nn.Module:
        """The network itself."""
        module: nn.Module = self._pipe.unet
        return module

    def predict(self, noisy: torch.Tensor, t: torch.Tensor | float, conditioning: Conditioning) -> torch.Tensor:
        """Its answer in the precision of the caller's autocast; float32, differentiable in all that it is given."""
        return network_of(self.module, "no")(noisy, t, conditioning)

    def network(self, mixed_precision: str, compiled: bool = False) -> Network:
        """The same as a function, in a precision of its own."""
        return network_of(self.module, mixed_precision, compiled)

    def frozen(self, mixed_precision: str) -> Network:
        """The network as it is now, whatever becomes of it in training."""
        return frozen(self.module, mixed_precision)

    def trained(self) -> dict[str, nn.Parameter]:
        """The weights that training may move, by name."""
        return {name: p for name, p in self.module.named_parameters() if p.requires_grad}

    def save_memory(self, on: bool = True) -> None:
        """Whether to compute what a backward pass needs once more instead of keeping it (gradient checkpointing)."""
        if on:
            self._pipe.unet.enable_gradient_checkpointing()
        else:
            self._pipe.unet.disable_gradient_checkpointing()

    def in_halves(self, mixed_precision: str) -> AbstractContextManager[None]:
        """Its frozen weights for a while as this precision rounds them, where a GPU holds them; see `halves`."""
        on_gpu = next(self.module.parameters()).is_cuda
        return frozen_in(self.module, autocast_dtype(mixed_precision) if on_gpu else None)

    def hold_in(self, dtype: torch.dtype) -> None:
        """Hold its weights from now on as autocast to this dtype rounds them. It is to be asked under that alone."""
        self._held, self._full = dtype, halve(self.module, dtype)

    @contextmanager
    def in_full(self) -> Iterator[None]:
        """Its weights in full precision for a while, however they are held. What is made of them there is undone."""
        if self._held is None:
            yield
            return
        dtype, self._held = self._held, None
        self._full.put_back()
        try:
            yield
        finally:
            self._full.round_to(dtype)
            self._held = dtype

    def as_held(self) -> AbstractContextManager[Any]:
        """The precision of arithmetic in which it can be asked: full, unless its weights are held in another one."""
        return torch.autocast(self._pipe.device.type, self._held) if self._held else nullcontext()

    def count_pass(self, way: Way, items: int) -> int:
        """The most bytes that a pass of so many items holds beside its weights, trained in this way."""
        return training_pass(self._pipe.unet, way, items).peak

    def count_sampling(self, dtype: torch.dtype | None, items: int, halves: bool) -> int:
        """The same of a step of sampling, computed in this dtype, with weights in `halves` where that rounds them."""
        return denoising(self._pipe.unet, dtype, items, halves)

    def count_bytes(self, halves: bool) -> int:
        """Bytes of its weights in fp32, those that are frozen and rounded anyway in `halves` of it."""
        every = sum(4 * p.numel() for p in self.module.parameters())
        layers = [layer for layer in self.module.modules() if halves and is_rounded(layer)]
        frozen = [p for layer in layers for p in layer.parameters(recurse=False) if not p.requires_grad]
        return every - sum(2 * p.numel() for p in frozen)

    def shard(self) -> None:
        """Leave each rank its part of the weights; they must be the same on all, and all call this at the same time."""
        sharding.shard(self._pipe.unet)

    def gather(self) -> None:
        """Put the parts together again, on the first rank; the others keep theirs. All call this."""
        if (whole := sharding.unsharded(self._pipe.unet)) is not None:
            self._pipe.unet = whole


def network_of(module: nn.Module, mixed_precision: str, compiled: bool = False) -> Network:
    """A module that is called as those of diffusers are, on its own device."""
    asked = cast(nn.Module, torch.compile(module)) if compiled else module

    def network(noisy: torch.Tensor, t: torch.Tensor | float, conditioning: Conditioning | None) -> torch.Tensor:
        device = next(module.parameters()).device
        told = {} if conditioning is None else _arguments(conditioning)
        with autocast(mixed_precision):
            answer = asked(noisy.to(device), torch.as_tensor(t, device=device), **told, return_dict=False)[0]
        return torch.as_tensor(answer).float()

    return network


def _arguments(told: Conditioning) -> dict[str, Any]:
    """As networks of diffusers take them."""
    if told.pooled is None:
        return {"encoder_hidden_states": told.tokens}
    more = {"text_embeds": told.pooled, "time_ids": told.time_ids}
    return {"encoder_hidden_states": told.tokens, "added_cond_kwargs": more}


def frozen(module: nn.Module, mixed_precision: str) -> Network:
    """What a module answers now, whatever becomes of it in training; its answers carry no gradient.

    Adapters are switched off while it is asked. Without any, a copy is kept, in the precision of the arithmetic.
    """
    if not is_on(module):
        module = copy.deepcopy(module).requires_grad_(False).to(autocast_dtype(mixed_precision))
    asked = network_of(module, mixed_precision)

    @torch.no_grad()
    def network(noisy: torch.Tensor, t: torch.Tensor | float, conditioning: Conditioning | None) -> torch.Tensor:
        with switched_off(module):
            return asked(noisy, t, conditioning)

    return network
