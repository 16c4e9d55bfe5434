"""Softmax maps of a UNet's cross-attention, recorded while it runs. What the UNet computes does not change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from memfix.errors import MemfixError


class Recorder:
    """Maps of one resolution, summed over the layers that have it."""

    def __init__(self, positions: int) -> None:
        self._positions = positions
        self._sum: torch.Tensor | None = None
        self._layers = 0

    def add(self, attention: Any, hidden: torch.Tensor, context: torch.Tensor) -> None:
        """Take in one call of a layer: `hidden` [n, positions, width], `context` [n, tokens, width]."""
        if hidden.shape[1] != self._positions:
            return
        query = attention.head_to_batch_dim(attention.to_q(hidden))
        key = attention.head_to_batch_dim(attention.to_k(attention.norm_encoder_hidden_states(context)
                                                         if attention.norm_cross else context))  # fmt: skip
        scores = query.float() @ key.float().transpose(1, 2) * attention.scale
        maps = scores.softmax(-1).unflatten(0, (len(hidden), -1)).mean(1)
        self._sum = maps if self._sum is None else self._sum + maps
        self._layers += 1

    def mean(self) -> torch.Tensor:
        """[n, positions, tokens], averaged over heads, layers and calls; rows sum to 1."""
        if self._sum is None:
            raise MemfixError(
                f"The model has no cross-attention over {self._positions} positions.",
                "Use another screen, one that needs no attention maps.",
            )
        return self._sum / self._layers


class _Recording:
    """An attention processor that shows the recorder its inputs and lets the original one do the work."""

    def __init__(self, original: Any, recorder: Recorder) -> None:
        self._original, self._recorder = original, recorder

    def __call__(
        self, attn: Any, hidden_states: torch.Tensor, encoder_hidden_states: torch.Tensor | None = None, *args: Any,
        **kwargs: Any,
    ) -> Any:  # fmt: skip
        if encoder_hidden_states is not None:
            self._recorder.add(attn, hidden_states, encoder_hidden_states)
        return self._original(attn, hidden_states, encoder_hidden_states, *args, **kwargs)


@contextmanager
def record_cross_attention(unet: nn.Module, positions: int) -> Iterator[Recorder]:
    """Record `attn2` layers that attend from `positions` places; the original processors come back afterwards."""
    recorder = Recorder(positions)
    layers: list[Any] = [module for name, module in unet.named_modules() if name.endswith("attn2")]
    originals = [layer.processor for layer in layers]
    try:
        for layer, original in zip(layers, originals, strict=True):
            layer.set_processor(_Recording(original, recorder))
        yield recorder
    finally:
        for layer, original in zip(layers, originals, strict=True):
            layer.set_processor(original)
