"""Several LoRAs as one, exactly: the sum of low-rank changes is a low-rank change."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from diffusers import StableDiffusionPipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors import safe_open

from memfix.errors import MemfixError
from memfix.models import lora
from memfix.models.context import ContextEdit, readers

DOWN, UP = ".lora_A.weight", ".lora_B.weight"


class Factors(NamedTuple):
    """A layer's change W → W + up · down. down: [r, in, …], up: [out, r, …], the scale of the adapter included."""

    down: torch.Tensor
    up: torch.Tensor


def read_adapter(pipe: StableDiffusionPipeline, path: Path) -> dict[str, Factors]:
    """What a LoRA does to each layer of a pipeline's UNet, whatever names its file uses; the pipeline stays as it is.

    Raises MemfixError for what does not fit, and for what is more than an added low-rank change of the UNet.
    """
    name = lora.attach(pipe, path)
    state = get_peft_model_state_dict(pipe.unet, adapter_name=name)
    layers = dict(pipe.unet.named_modules())
    found = {
        layer: Factors(down.cpu(), state[layer + UP].cpu() * layers[layer].scaling[name])
        for key, down in state.items()
        if key.endswith(DOWN)
        for layer in [key.removesuffix(DOWN)]
    }
    pipe.unload_lora_weights()
    with safe_open(lora.file_of(path), "pt") as file:
        texts = any(key.startswith(lora.TEXT_PREFIXES) for key in file.keys())  # noqa: SIM118  # a handle, no dict
    if texts or len(state) != 2 * len(found):
        raise MemfixError(
            f"{path} cannot be merged: it is not a plain LoRA of the UNet.",
            "Only plain LoRAs of the UNet can be added up. Use this one by itself, or train full weights (--full).",
        )
    return found


def merge(pipe: StableDiffusionPipeline, paths: Sequence[Path], folder: Path, edit: ContextEdit | None = None) -> None:
    """Write one LoRA into `folder` that changes the model as all of `paths` do together.

    Its rank in each layer is the sum of theirs: B₁A₁ + B₂A₂ = [B₁ B₂] [A₁; A₂]. With `edit`, that of the pipeline's
    weights W as they are is one more: W write read.
    """
    adapters = [read_adapter(pipe, path) for path in paths]
    if edit is not None:
        adapters.append(
            {n: Factors(edit.read, x.weight.float().cpu() @ edit.write) for n, x in readers(pipe.unet)}
        )  # fmt: skip
    state: dict[str, torch.Tensor] = {}
    ranks: dict[str, int] = {}
    for layer in sorted({layer for adapter in adapters for layer in adapter}):
        own = [adapter[layer] for adapter in adapters if layer in adapter]
        state[layer + DOWN] = torch.cat([f.down for f in own])
        state[layer + UP] = torch.cat([f.up for f in own], dim=1)
        ranks[layer] = len(state[layer + DOWN])
    most = max(ranks.values())
    config = LoraConfig(r=most, lora_alpha=most, target_modules=list(ranks), rank_pattern=ranks, alpha_pattern=ranks)
    StableDiffusionPipeline.save_lora_weights(
        folder, unet_lora_layers=state, weight_name=lora.FILE, unet_lora_adapter_metadata=config.to_dict()
    )
