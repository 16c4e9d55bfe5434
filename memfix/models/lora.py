"""LoRA on a UNet through peft, saved as diffusers' pipelines load it."""

from __future__ import annotations

import warnings
from pathlib import Path

from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from memfix.errors import MemfixError

ADAPTER = "memfix"
FILE = "pytorch_lora_weights.safetensors"
TEXT_PREFIXES = ("text_encoder", "lora_te")
TARGETS = ["to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2", "conv_shortcut", "proj_in", "proj_out"]


def add(unet: UNet2DConditionModel, rank: int) -> list[nn.Parameter]:
    """Add a fresh adapter on attention and convolutions; return what there is to train."""
    unet.add_adapter(
        LoraConfig(r=rank, lora_alpha=rank, target_modules=TARGETS, init_lora_weights="gaussian"), adapter_name=ADAPTER
    )
    return [p for p in unet.parameters() if p.requires_grad]


def save(pipe: StableDiffusionPipeline, folder: Path) -> None:
    """Write `pytorch_lora_weights.safetensors`."""
    state = get_peft_model_state_dict(pipe.unet, adapter_name=ADAPTER)
    StableDiffusionPipeline.save_lora_weights(folder, unet_lora_layers=state, weight_name=FILE)


def load(pipe: StableDiffusionPipeline, path: Path) -> None:
    """Put an adapter on a pipeline and merge it, so that sampling costs no more than without it.

    Raises MemfixError when the file does not fit, also where only a part of it would have been used.
    """
    folder, name = (path, FILE) if path.is_dir() else (path.parent, path.name)
    if not (folder / name).is_file():
        raise MemfixError(f"There is no LoRA {folder / name}.", "Run 'memfix unlearn' first, or give --lora FILE.")
    try:
        with warnings.catch_warnings():  # peft warns of what _check_complete decides
            warnings.simplefilter("ignore", RuntimeWarning)
            pipe.load_lora_weights(folder, weight_name=name, use_safetensors=True)
    except (ValueError, SafetensorError, KeyError, RuntimeError, OSError) as error:
        raise MemfixError(
            f"LoRA {folder / name} does not fit the model: {str(error).splitlines()[0]}",
            "Give the model it was made for.",
        ) from None
    _check_complete(pipe, folder / name)
    pipe.fuse_lora()
    pipe.unload_lora_weights()


def _check_complete(pipe: StableDiffusionPipeline, path: Path) -> None:
    """Every UNet weight of the file must have arrived: a loader that skips names would leave the model as it was.

    Counted, not compared by name, since adapters come under several naming schemes.
    """
    wanted = sum(v.numel() for k, v in load_file(path).items() if v.ndim > 1 and not k.startswith(TEXT_PREFIXES))
    arrived = get_peft_model_state_dict(pipe.unet, adapter_name=pipe.get_active_adapters()[0])
    taken = sum(v.numel() for v in arrived.values() if v.ndim > 1)
    if taken != wanted:
        raise MemfixError(
            f"Of {wanted:,} weights in {path} only {taken:,} were taken up.",
            "Give the model it was made for, and check the diffusers and peft versions with 'memfix doctor'.",
        )
