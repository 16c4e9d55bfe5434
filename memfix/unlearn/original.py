"""What a model answered before it was trained."""

from __future__ import annotations

import copy

import torch
from torch import nn

from memfix.models import lora
from memfix.models.device import autocast_dtype
from memfix.unlearn.terms import Network
from memfix.unlearn.trainer import as_network


def original(unet: nn.Module, mixed_precision: str) -> Network:
    """The network as it is now, whatever becomes of it in training; its answers carry no gradient.

    Adapters are switched off while it is asked. Without any, a copy is kept, in the precision of the arithmetic.
    """
    if lora.is_on(unet):
        asked = as_network(unet, mixed_precision)
    else:
        dtype = autocast_dtype(mixed_precision)
        unet = copy.deepcopy(unet).requires_grad_(False).to(dtype)
        asked = as_network(unet, mixed_precision)

    @torch.no_grad()
    def network(noisy: torch.Tensor, t: torch.Tensor, context: torch.Tensor | None) -> torch.Tensor:
        with lora.switched_off(unet):
            return asked(noisy, t, context)

    return network
