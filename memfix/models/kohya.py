"""A LoRA as kohya's scripts, ComfyUI, A1111 and Forge read it: `lora_unet_…`, two factors and alpha for each layer.

The names that diffusers writes are not in the key map of ComfyUI, which passes over them and only logs it.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import StableDiffusionXLPipeline
from diffusers.utils.state_dict_utils import convert_state_dict_to_kohya
from safetensors.torch import load_file, save

from memfix.errors import MemfixError
from memfix.files import atomic_file, sort_metadata
from memfix.models import lora
from memfix.models.adapters import DOWN, UP

ENDING = ".kohya.safetensors"
OF_TWO, OF_ONE = "lora_te1_", "lora_te_"  # as models with two text encoders name it, and as those with one
INSIDE = "text_encoder.text_model."


def is_plain(path: Path) -> bool:
    """Whether an adapter only adds low-rank changes. DoRA does more, and those tools do not agree on how to read it."""
    return not lora.is_dora(lora.file_of(path))


def write_kohya(path: Path, file: Path, loaded_by: str | None) -> None:
    """Write an adapter of memfix, whose alpha is its rank, for those tools. Raises MemfixError for DoRA.

    loaded_by: as `DiffusionModel.loaded_by` has it, of the model that the adapter is for.
    All layers are filled up with zeros to one rank, which is alpha too: diffusers gives every layer of such a file the
    same scale, so that layers of several ranks would come back too weak.
    """
    if not is_plain(path):
        raise MemfixError(
            f"{path} is a DoRA, which ComfyUI, A1111 and diffusers read in different ways.",
            "Use --format checkpoint or diffusers: the new weights themselves, which every tool reads alike.",
        )
    state = {_named(key): value for key, value in load_file(lora.file_of(path)).items()}
    rank = max(len(value) for key, value in state.items() if key.endswith(DOWN))
    padded = {key: _padded(value, int(key.endswith(UP)), rank) for key, value in state.items()}
    first = OF_TWO if loaded_by == StableDiffusionXLPipeline.__name__ else OF_ONE
    found = {
        key.replace(OF_TWO, first): value.to(torch.float32) if key.endswith(".alpha") else value.contiguous()
        for key, value in convert_state_dict_to_kohya(padded).items()
    }
    told = {"conv_dim": str(rank), "conv_alpha": str(rank)}
    metadata = {
        "ss_network_alpha": str(rank), "ss_network_args": json.dumps(told), "ss_network_dim": str(rank),
        "ss_network_module": "networks.lora",
    }  # fmt: skip
    with atomic_file(file) as opened:
        opened.write(save(found, metadata))
    sort_metadata(file)


def _named(key: str) -> str:
    """Layers of the text encoder as they were always called: newer transformers leave out `text_model`."""
    inside = key.startswith("text_encoder.") and not key.startswith(INSIDE)
    return key.replace("text_encoder.", INSIDE, 1) if inside else key


def _padded(factor: torch.Tensor, side: int, rank: int) -> torch.Tensor:
    """A factor with zeros up to `rank` on one of its sides."""
    shape = list(factor.shape)
    shape[side] = rank - shape[side]
    return torch.cat([factor, factor.new_zeros(shape)], dim=side)
