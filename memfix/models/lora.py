"""LoRA on a UNet through peft, saved as diffusers' pipelines load it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from memfix.errors import MemfixError
from memfix.models.context import ContextEdit, readers

ADAPTER = "memfix"
FILE = "pytorch_lora_weights.safetensors"
TEXT_PREFIXES = ("text_encoder", "lora_te")
TARGETS = ["to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2", "conv_shortcut", "proj_in", "proj_out"]


def add(unet: UNet2DConditionModel, rank: int, seed: int = 0, dora: bool = False) -> list[nn.Parameter]:
    """Add a fresh adapter on attention and convolutions, the same one for each seed; return what there is to train.

    `dora`: the length of each row of a layer's weights is trained apart from its direction (arXiv 2402.09353).
    """
    config = LoraConfig(
        r=rank, lora_alpha=rank, target_modules=TARGETS, init_lora_weights="gaussian", use_dora=dora
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        unet.add_adapter(config, adapter_name=ADAPTER)
    return [p for p in unet.parameters() if p.requires_grad]


def is_on(unet: nn.Module) -> bool:
    """Whether a UNet has adapters."""
    return bool(getattr(unet, "peft_config", None))


@contextmanager
def switched_off(unet: nn.Module) -> Iterator[None]:
    """Let a UNet answer without its adapters for a while; afterwards the same weights are trained as before."""
    if not is_on(unet):
        yield
        return
    trained = {id(p) for p in unet.parameters() if p.requires_grad}
    adapters: Any = unet
    adapters.disable_adapters()
    try:
        yield
    finally:
        adapters.enable_adapters()
        for p in unet.parameters():
            p.requires_grad_(id(p) in trained)


def save(pipe: StableDiffusionPipeline, folder: Path, edit: ContextEdit | None = None) -> None:
    """Write `pytorch_lora_weights.safetensors`: the adapter, and with `edit` that edit on top of it.

    Alpha is the rank in every layer (scale 1). It is written into the file's metadata, since layers differ in rank
    once an edit has widened some of them.
    """
    state = get_peft_model_state_dict(pipe.unet, adapter_name=ADAPTER)
    config = pipe.unet.peft_config[ADAPTER].to_dict()
    if edit is not None:
        config["rank_pattern"] = {name: _widen(state, name, layer, edit) for name, layer in readers(pipe.unet)}
        config["alpha_pattern"] = dict(config["rank_pattern"])
    StableDiffusionPipeline.save_lora_weights(
        folder, unet_lora_layers=state, weight_name=FILE, unet_lora_adapter_metadata=config
    )


@torch.no_grad()
def _widen(state: dict[str, torch.Tensor], name: str, layer: Any, edit: ContextEdit) -> int:
    """Append an edit to a layer's adapter: BA + (W + BA) write read = [B, (W + BA) write] [A; read]. Its new rank.

    DoRA gives the rows of W + BA the lengths it has learned; a row that the edit makes longer has its own length grow
    with it.
    """
    a, b, lengths = (f"{name}.lora_{part}" for part in ("A.weight", "B.weight", "magnitude_vector"))
    down, up, weight = state[a], state[b], layer.base_layer.weight
    read, write = edit.read.to(down), edit.write.to(down)
    state[a] = torch.cat([down, read])
    state[b] = torch.cat([up, weight.to(down) @ write + up @ (down @ write)], dim=1)
    if lengths in state:
        old, new = (_row_lengths(weight, *sides) for sides in ((up, down), (state[b], state[a])))
        state[lengths] = state[lengths] * new / old
    return len(state[a])


def file_of(path: Path) -> Path:
    """The file of an adapter that is given as that, or as its folder. Raises MemfixError if there is none."""
    file = path / FILE if path.is_dir() else path
    if not file.is_file():
        raise MemfixError(f"There is no LoRA at {file}.", "Run 'memfix unlearn' first, or give --lora FILE.")
    return file


def _row_lengths(weight: torch.Tensor, up: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
    """‖W + BA‖ of each row, [out]."""
    lengths: torch.Tensor = torch.linalg.vector_norm(weight.to(up) + up @ down, dim=1)
    return lengths


def load(pipe: StableDiffusionPipeline, *paths: Path) -> None:
    """Put adapters on a pipeline and merge them into it, so that sampling costs no more than without them.

    Raises MemfixError when a file does not fit, also where only a part of it would have been used.
    """
    for path in paths:
        attach(pipe, path)
        pipe.fuse_lora()
        pipe.unload_lora_weights()


def attach(pipe: StableDiffusionPipeline, path: Path) -> str:
    """Put an adapter on a pipeline that has none; the name it has there. Raises as `load` does."""
    file = file_of(path)
    try:
        with warnings.catch_warnings():  # peft warns of what _check_complete decides
            warnings.simplefilter("ignore", RuntimeWarning)
            pipe.load_lora_weights(file.parent, weight_name=file.name, use_safetensors=True)
    except (ValueError, SafetensorError, KeyError, RuntimeError, OSError) as error:
        raise MemfixError(
            f"LoRA {file} does not fit the model: {str(error).splitlines()[0]}",
            "Give the model it was made for.",
        ) from None
    _check_complete(pipe, file)
    (name,) = pipe.get_active_adapters()
    return str(name)


def _check_complete(pipe: StableDiffusionPipeline, path: Path) -> None:
    """Every UNet weight of the file must have arrived: a loader that skips names would leave the model as it was.

    Counted, not compared by name, since adapters come under several naming schemes. What is left on the meta device has
    a layer that the file names, but no weights.
    """
    wanted = sum(v.numel() for k, v in load_file(path).items() if v.numel() > 1 and not k.startswith(TEXT_PREFIXES))
    arrived = get_peft_model_state_dict(pipe.unet, adapter_name=pipe.get_active_adapters()[0])
    taken = sum(v.numel() for v in arrived.values() if v.numel() > 1 and not v.is_meta)
    if taken != wanted:
        raise MemfixError(
            f"Only {taken:,} of {wanted:,} weights in {path} could be loaded into the model.",
            "Give the model it was made for, and check the diffusers and peft versions with 'memfix doctor'.",
        )
