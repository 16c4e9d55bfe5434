"""Parts of a model under the names that tools give their weights, and as the converters of diffusers know them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

Weights = Mapping[str, torch.Tensor]
PLACES = (
    "", "text_encoder.", "cond_stage_model.transformer.", "conditioner.embedders.0.transformer.",
    "text_encoders.clip_l.transformer.",
)  # fmt: skip
SECOND_PLACES = ("", "text_encoder_2.", "text_encoders.clip_g.transformer.")
"""What stands before the names of a text encoder, and of the second one of Stable Diffusion XL."""
WRAPPED = "text_model."
"""Begins the names themselves, in most files; those of NovelAI's kind leave it out."""
OF_TRANSFORMERS = ("embeddings.", "encoder.layers.", "final_layer_norm.")
OF_OPEN_CLIP = ("positional_embedding", "token_embedding.", "transformer.resblocks.", "ln_final.", "text_projection")
"""Begin the names of layers in the words of both libraries; OpenAI's own are those of open_clip."""
AS_READ, AS_READ_OPEN_CLIP = "cond_stage_model.transformer.", "cond_stage_model.model."
AS_READ_SECOND = "conditioner.embedders.1.model."
"""What the converter reads before names of transformers, and before those of open_clip."""
OF_DIFFUSERS = ".up_blocks."
"""In names of a VAE, where they are those of diffusers."""


def encoder_as_read(held: Weights, second: bool) -> Weights:
    """A file's text encoder under names that the converter knows; the whole file where it has those already.

    second: whether it is to be the second one of Stable Diffusion XL.
    """
    for place in SECOND_PLACES if second else PLACES:
        own = {name.removeprefix(place).removeprefix(WRAPPED): w for name, w in held.items() if name.startswith(place)}
        if found := {f"{AS_READ}{WRAPPED}{name}": w for name, w in own.items() if name.startswith(OF_TRANSFORMERS)}:
            projected = {f"{AS_READ}{name}": w for name, w in own.items() if name == "text_projection.weight"}
            return found | projected
    known = AS_READ_SECOND if second else AS_READ_OPEN_CLIP
    return {f"{known}{name}": weight for name, weight in held.items() if name.startswith(OF_OPEN_CLIP)} or held


def lost_of_vae(held: Weights, config: Path) -> list[str]:
    """Weights of a VAE that are not in a file, under diffusers' own names or the original ones."""
    with torch.device("meta"):
        own = AutoencoderKL.from_config(AutoencoderKL.load_config(config, subfolder="vae"))
    as_it_is = any(OF_DIFFUSERS in name for name in held)
    found = held if as_it_is else convert_ldm_vae_checkpoint(dict(held), own.config)
    return sorted(own.state_dict().keys() - {name for name, weight in found.items() if weight is not None})
