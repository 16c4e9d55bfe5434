"""LoRAs in the words of diffusers, whichever tool wrote them: each layer of a model, by all that it is called.

Tools write names of diffusers or of the original layout, with points or underscores, behind a prefix of their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from memfix.errors import MemfixError
from memfix.models.arrived import GIVE_KNOWN, ROW_LENGTHS, listed_names

TOOL_PREFIXES = {
    "unet": ("unet_", "lora_unet_", "lycoris_unet_", "diffusion_model_", "model_diffusion_model_", ""),
    "text_encoder": ("text_encoder_", "lora_te_", "lora_te1_"),
    "text_encoder_2": ("text_encoder_2_", "lora_te2_"),
}
"""Part of a model → what tools put before the names of its layers."""
ROOT = "text_model."
"""Begins names in text encoders, in some versions of transformers."""
WEIGHT_NAME = re.compile(
    r"(?P<layer>.+)\.(?:(?:lora_linear_layer\.|lora\.|lora_)(?P<side>down|up|A|B)(?:\.default)?\.weight"
    r"|lora_magnitude_vector(?:\.default)?(?:\.weight)?|(?P<alpha>alpha))"
)
APPLIED_FIRST = {"down", "A"}  # of the sides, the one that is applied first
LAYER_OF_BLOCK = re.compile(
    r"(down_blocks|up_blocks|mid_block)\.(?:(\d+)\.)?(resnets|attentions|downsamplers|upsamplers)\.(\d+)(.*)"
)
IN_RESNET = {
    ".norm1": ".in_layers.0", ".conv1": ".in_layers.2", ".time_emb_proj": ".emb_layers.1", ".norm2": ".out_layers.0",
    ".conv2": ".out_layers.3", ".conv_shortcut": ".skip_connection",
}  # fmt: skip
OUTSIDE_BLOCKS = {
    "conv_in": "input_blocks.0.0", "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2", "conv_norm_out": "out.0",
    "conv_out": "out.2",
}  # fmt: skip


class Renamed(NamedTuple):
    """The weights of a LoRA in the words of diffusers, and the names that no layer of the model goes by."""

    state: dict[str, torch.Tensor]
    unknown: list[str]


def in_words_of_diffusers(state: Mapping[str, torch.Tensor], parts: Mapping[str, nn.Module]) -> Renamed:
    """Where a name is unknown, or two are those of one weight, all stay as they are: loaders know some more."""
    layers = dict(_spellings(parts))
    found, unknown = dict[str, torch.Tensor](), list[str]()
    for key, value in state.items():
        told = WEIGHT_NAME.fullmatch(key)
        layer = layers.get(told["layer"].replace(".", "_")) if told else None
        if told is None or layer is None:
            unknown.append(key)
            continue
        found[f"{layer}.{_ending(layer, told['side'], told['alpha'])}"] = value
    return Renamed(found if len(found) == len(state) else dict(state), unknown)


def _ending(layer: str, side: str | None, alpha: str | None) -> str:
    """Behind the name of a layer. Layers of texts have old names: of new ones diffusers does not know every layer."""
    if alpha or side is None:
        return alpha or ROW_LENGTHS
    if layer.startswith("unet."):
        return f"lora_{'A' if side in APPLIED_FIRST else 'B'}.weight"
    return f"lora_linear_layer.{'down' if side in APPLIED_FIRST else 'up'}.weight"


def unknown_names(file: Path, names: Sequence[str]) -> MemfixError:
    """What to say of a LoRA with names that neither memfix nor loaders know."""
    what = f"no layer of the model is called as {listed_names(names)}"
    return MemfixError(f"LoRA {file} cannot be read: {what}.", GIVE_KNOWN)


def _spellings(parts: Mapping[str, nn.Module]) -> Iterator[tuple[str, str]]:
    """What each layer may be called, with underscores → its name in the words of diffusers, behind that of its part."""
    for part, module in parts.items():
        for layer, own in module.named_modules():
            if not isinstance(getattr(own, "weight", None), torch.Tensor):
                continue
            if part == "unet":
                names = [layer, original_name(layer, module)]
            else:
                bare = layer.removeprefix(ROOT)
                names = [bare, ROOT + bare]
            for name in names:
                for prefix in TOOL_PREFIXES[part]:
                    yield prefix + name.replace(".", "_"), f"{part}.{layer}"


def original_name(layer: str, unet: nn.Module) -> str:
    """What a layer of a UNet is called in the original layout of Stable Diffusion."""
    found, per_block = LAYER_OF_BLOCK.fullmatch(layer), unet.config.layers_per_block  # type: ignore[union-attr]
    if found is None or not isinstance(per_block, int):
        return OUTSIDE_BLOCKS.get(layer, layer)
    blocks, block, kind, number, inside = found[1], int(found[2] or 0), found[3], int(found[4]), found[5]
    inside = IN_RESNET.get(inside, inside) if kind == "resnets" else inside
    if blocks == "mid_block":
        return f"middle_block.{1 if kind == 'attentions' else 2 * number}{inside}"
    first = block * (per_block + 1)
    if kind == "downsamplers":
        return f"input_blocks.{first + per_block + 1}.0.op"
    if kind == "upsamplers":
        behind = hasattr(unet.get_submodule(f"up_blocks.{block}"), "attentions")
        return f"output_blocks.{first + per_block}.{1 + behind}{inside}"
    place = f"input_blocks.{first + number + 1}" if blocks == "down_blocks" else f"output_blocks.{first + number}"
    return f"{place}.{int(kind == 'attentions')}{inside}"
