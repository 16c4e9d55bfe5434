"""Parts of a model, loaded from folders and files.

One that lacks a weight is refused by name: loaders fill it with numbers by chance.
"""

from __future__ import annotations

import importlib
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, pipelines
from diffusers.loaders.single_file import load_single_file_sub_model
from diffusers.loaders.single_file_utils import SingleFileComponentError, load_single_file_checkpoint
from safetensors import SafetensorError
from torch import nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from memfix.errors import MemfixError
from memfix.models import folders
from memfix.models.part_names import encoder_as_read, lost_of_vae

FAILURES = (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError, SingleFileComponentError)
"""What diffusers raises for files that are no models, or not whole."""
ENCODER, SECOND_ENCODER = "text_encoder", "text_encoder_2"
DONORS: dict[str, tuple[str, type[Any]]] = {
    "vae": ("diffusers", AutoencoderKL), ENCODER: ("transformers", CLIPTextModel),
    SECOND_ENCODER: ("transformers", CLIPTextModelWithProjection),
}  # fmt: skip
"""Parts that may come from elsewhere → the library and the class that they are of."""
LIBRARIES = {"diffusers", "transformers"}
SCALE_WORDS = ("scale_weight", "weight_scale", "scale_input", "input_scale", "scaled_fp8", "comfy_quant", "absmax")
"""In the names of what quantized weights are multiplied with."""
ADDED = "lora"  # in the names of weights that an adapter adds


def donor_flag(part: str) -> str:
    """The flag that names where a part comes from; one is enough for both text encoders."""
    return f"--{(ENCODER if part == SECOND_ENCODER else part).replace('_', '-')}"


def with_second_encoder(donors: Mapping[str, Path], lacks: Sequence[str]) -> dict[str, Path]:
    """Where parts come from: the second text encoder, where it is lacking, from where the first one does."""
    return {**({SECOND_ENCODER: donors[ENCODER]} if SECOND_ENCODER in lacks and ENCODER in donors else {}), **donors}


def require_whole(source: Path, part: str, lost: Sequence[str]) -> None:
    """Raise MemfixError where weights of a part, those of `lost`, were not in its file or folder."""
    if lost:
        other = f", or name a donor: {donor_flag(part)}." if part in DONORS else "."
        raise MemfixError(
            f"{len(lost)} weights of the part {part} are not in {source}, among them {min(lost)}.",
            f"Give a model that is whole{other}",
        )


def require_unscaled(source: Path, names: Iterable[str]) -> None:
    """Raise MemfixError for weights that are quantized with scales of their own, which loaders pass over."""
    if scaled := next((name for name in names if any(word in name for word in SCALE_WORDS)), None):
        raise MemfixError(
            f"{source} has quantized weights, which are to be multiplied with a scale; one is {scaled}.",
            "Give the model in fp16, bf16 or fp32: other weights than its own would be looked at.",
        )


def without_numbers(part: nn.Module) -> list[str]:
    """Weights that a single file did not have: diffusers leaves them on the meta device."""
    return [name for name, weight in part.state_dict().items() if weight.is_meta]


def donor_files(part: str, donor: Path) -> folders.PartFiles:
    """What a part is loaded from: one file, or its own folder, of a model or alone; nothing else has a say."""
    return folders.files_of_part(folder_in(donor, part), part) if donor.is_dir() else folders.PartFiles([donor], None)


def folder_in(donor: Path, part: str) -> Path:
    """The folder of a part: that of its name in a model, or the one that is given."""
    return donor / part if (donor / part).is_dir() else donor


def require_fitting(pipe: Any, name: str) -> None:
    """Raise MemfixError for a text encoder of another width than the denoiser reads, and for a VAE of other latents."""
    network, latents = pipe.unet.config, pipe.vae.config.latent_channels
    encoders = {part: getattr(pipe, part) for part in (ENCODER, SECOND_ENCODER) if hasattr(pipe, part)}
    told = {part: int(encoder.config.hidden_size) for part, encoder in encoders.items() if encoder is not None}
    wanted, wide = network.cross_attention_dim, sum(told.values())
    widths = {wanted} if isinstance(wanted, int) else set(wanted)
    if network.get("encoder_hid_dim") is None and len(told) == len(encoders) and widths != {wide}:
        raise MemfixError(
            f"The denoiser of {name} reads texts of {', '.join(map(str, sorted(widths)))} numbers a token, and they "
            f"have {' + '.join(f'{width} ({part})' for part, width in told.items())}.",
            f"Give {donor_flag(ENCODER)} one of the same family.",
        )
    if latents != network.in_channels:
        raise MemfixError(
            f"The denoiser of {name} works on latents of {network.in_channels} channels, and its vae has {latents}.",
            f"Give {donor_flag('vae')} one of the same family.",
        )


def load_part(part: str, donor: Path, config: Path) -> nn.Module:
    """A part of a model from a folder of its own, from a diffusers model, or from one file.

    Raises MemfixError where it is not there, or not whole.
    """
    library, kind = DONORS[part]
    found: nn.Module
    try:
        if donor.is_dir():
            return _load_folder(part, kind, folder_in(donor, part), donor_files(part, donor).variant)
        held = load_single_file_checkpoint(donor)
        require_unscaled(donor, held)
        if kind is AutoencoderKL:
            require_whole(donor, part, lost_of_vae(held, config))
        else:
            held = encoder_as_read(held, second=part == SECOND_ENCODER)
        found = load_single_file_sub_model(
            library_name=library, class_name=kind.__name__, name=part, pipelines=pipelines,
            checkpoint=held, is_pipeline_module=False,
            cached_model_config_path=str(config), local_files_only=True,
        )  # fmt: skip
    except torch.OutOfMemoryError:
        raise
    except FAILURES as error:
        raise MemfixError(
            f"The part {part} cannot be loaded from {donor}: {str(error).splitlines()[0]}",
            f"Give {donor_flag(part)} a folder of diffusers that has it, or a .safetensors file.",
        ) from None
    require_whole(donor, part, without_numbers(found))
    return found


def load_parts(folder: Path, variant: str | None, without: Container[str] = ()) -> dict[str, nn.Module]:
    """The networks of a model in a diffusers folder, by name, as far as they have a say in what it draws.

    without: parts that come from elsewhere.

    Raises MemfixError for one that is not whole, or holds an adapter that loaders pass over, and what diffusers and
    transformers raise for those that cannot be read.
    """
    found = dict[str, nn.Module]()
    used = folders.used_files(folder, variant).weights
    for part, (library, name) in folders.parts_of(folder).items():
        kind = getattr(importlib.import_module(library), name, None) if library in LIBRARIES else None
        if part not in without and isinstance(kind, type) and issubclass(kind, nn.Module):
            own = any(file.parent.name == part and f".{variant}" in file.name for file in used)
            found[part] = _load_folder(part, kind, folder / part, variant if own else None)
    return found


def _load_folder(part: str, kind: Any, folder: Path, variant: str | None) -> nn.Module:
    found: nn.Module
    found, told = kind.from_pretrained(folder, variant=variant, use_safetensors=True, output_loading_info=True)
    require_whole(folder, part, told["missing_keys"])
    require_unscaled(folder, told["unexpected_keys"])
    if added := sorted(name for name in told["unexpected_keys"] if ADDED in name):
        raise MemfixError(
            f"The part {part} in {folder} holds an adapter beside its weights, which loaders pass over: {added[0]}.",
            "Build it into the weights with the tool that it was made with, or give it to --adapter as a file.",
        )
    return found
