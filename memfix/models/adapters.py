"""The adapters of a model: put on it, made a part of it, added up, and saved as diffusers' pipelines load them.

Several LoRAs are one, exactly: the sum of low-rank changes is a low-rank change.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors import SafetensorError
from torch import nn

from memfix.errors import MemfixError
from memfix.files import sort_metadata
from memfix.models import lora
from memfix.models.arrived import give_lengths, require_complete
from memfix.models.context import ContextEdit, readers
from memfix.models.finite import require_finite_weights
from memfix.models.lora import Adapter
from memfix.models.lora_names import Renamed, in_words_of_diffusers, unknown_names

CHANGED_PARTS = ("unet", "text_encoder", "text_encoder_2")
"""What a LoRA may change, as far as a model has it."""
DOWN, UP = f"{lora.FIRST}weight", f"{lora.SECOND}weight"


class Factors(NamedTuple):
    """A layer's change W → W + up · down. down: [r, in, …], up: [out, r, …], the scale of the adapter included."""

    down: torch.Tensor
    up: torch.Tensor


class Adapters:
    """What a model has on top of its weights."""

    def __init__(self, pipe: StableDiffusionPipeline | StableDiffusionXLPipeline) -> None:
        self._pipe, self._parts = pipe, [part for part in CHANGED_PARTS if hasattr(pipe, part)]

    @property
    def present(self) -> bool:
        """Whether the denoiser has any."""
        return lora.is_on(self._pipe.unet)

    def add(self, rank: int, seed: int = 0, dora: bool = False) -> None:
        """Add a fresh one to the denoiser, to be trained, the same one for each seed; see `lora.add`."""
        lora.add(self._pipe.unet, rank, seed, dora)

    def remove(self) -> None:
        """Take all of them off again."""
        self._pipe.unload_lora_weights()

    def fuse(self, *given: Path | Adapter) -> None:
        """Make adapters a part of the weights, so that sampling costs no more than without them.

        Raises MemfixError when a file does not fit, also where only a part of it would have been used.
        """
        for adapter in map(Adapter.of, given):
            self._attach(adapter.path)
            self.fuse_trained(adapter.weight)

    def fuse_trained(self, weight: float = 1.0) -> None:
        """The same with what is on the model."""
        self._pipe.fuse_lora(components=self._parts, lora_scale=weight)
        self._pipe.unload_lora_weights()

    def read(self, given: Path | Adapter) -> dict[str, dict[str, Factors]]:
        """What a LoRA does to each layer of each part, whatever names its file uses; the model stays as it is.

        Raises MemfixError for what does not fit, and for what is more than an added low-rank change.
        """
        adapter = Adapter.of(given)
        name, found = self._attach(adapter.path), dict[str, dict[str, Factors]]()
        whole = True
        for part in self._parts:
            module = getattr(self._pipe, part)
            if name in getattr(module, "peft_config", {}):
                state = get_peft_model_state_dict(module, adapter_name=name)
                found[part] = _factors(state, dict(module.named_modules()), name, adapter.weight)
                whole = whole and len(state) == 2 * len(found[part])
        self._pipe.unload_lora_weights()
        if not whole:
            raise _not_plain(adapter.path)
        return found

    def save(self, folder: Path, edit: ContextEdit | None = None) -> None:
        """Write `pytorch_lora_weights.safetensors`: the trained adapter, and with `edit` that edit on top of it.

        Alpha is the rank in every layer (scale 1). It is written into the file's metadata, since layers differ in rank
        once an edit has widened some of them.
        """
        unet = self._pipe.unet
        state = get_peft_model_state_dict(unet, adapter_name=lora.ADAPTER)
        config = unet.peft_config[lora.ADAPTER].to_dict()
        if edit is not None:
            config["rank_pattern"] = {name: lora.widen(state, name, layer, edit) for name, layer in readers(unet)}
            config["alpha_pattern"] = dict(config["rank_pattern"])
        self._write(folder, {"unet": (state, config)})

    def save_sum(self, folder: Path, given: Sequence[Path | Adapter], edit: ContextEdit | None = None) -> None:
        """Write one LoRA that changes the model as all of these do together, its text encoders included.

        Its rank in each layer is the sum of theirs: B₁A₁ + B₂A₂ = [B₁ B₂] [A₁; A₂]. With `edit`, that of the model's
        weights W as they are is one more: W write read. The file says which adapters it holds.
        """
        adapters, known = [self.read(one) for one in given], frozenset[str]().union(*map(lora.holds, given))
        if edit is not None:
            layers = readers(self._pipe.unet)
            adapters.append({"unet": {n: Factors(edit.read, x.weight.float().cpu() @ edit.write) for n, x in layers}})
        parts = [part for part in self._parts if any(part in adapter for adapter in adapters)]
        self._write(folder, {part: _sum([adapter.get(part, {}) for adapter in adapters]) for part in parts})
        lora.note_held(folder, known)

    def _write(self, folder: Path, parts: Mapping[str, tuple[dict[str, torch.Tensor], dict[str, Any]]]) -> None:
        """The same bytes each time: peft holds the names of layers in a set, whose order is another in each process."""
        told: dict[str, Any] = {}
        for part, (state, config) in parts.items():
            told[f"{part}_lora_layers"] = state
            told[f"{part}_lora_adapter_metadata"] = config | {"target_modules": sorted(config["target_modules"])}
        self._pipe.save_lora_weights(folder, weight_name=lora.FILE, **told)
        sort_metadata(folder / lora.FILE)

    def _attach(self, path: Path) -> str:
        """Put an adapter on a model that has none; the name it has there. Raises as `fuse` does."""
        file = lora.file_of(path)
        bare, unet = lora.require_names(file, self._pipe.unet), self._pipe.unet
        own, told_scale = lora.weights_of(file), lora.tells_its_scale(file)
        parts = {part: getattr(self._pipe, part) for part in self._parts}
        named = Renamed(own, []) if bare or told_scale else in_words_of_diffusers(own, parts)
        held = lora.with_strengths(file, named.state)
        as_it_is = held.keys() == own.keys()
        told: Any = {"weight_name": file.name, "use_safetensors": True} if as_it_is else {}
        given: Any = file.parent if as_it_is else dict(held)  # a file has metadata, which the loaders read
        try:
            with warnings.catch_warnings():  # peft warns of what require_complete decides
                warnings.simplefilter("ignore", RuntimeWarning)
                if bare:
                    unet.load_lora_adapter(given, prefix=None, **told)
                else:
                    self._pipe.load_lora_weights(given, **told)
        except torch.OutOfMemoryError:
            raise
        except (ValueError, LookupError, SafetensorError, RuntimeError, OSError) as error:
            if named.unknown:
                raise unknown_names(file, named.unknown) from None
            raise MemfixError(
                f"LoRA {file} does not fit the model: {str(error).splitlines()[0]}",
                "Give the model it was made for.",
            ) from None
        names = {part: names for part, names in self._pipe.get_list_adapters().items() if names}
        changed = {part: getattr(self._pipe, part) for part in names}
        name = next((name for own in names.values() for name in own), "")
        give_lengths(held, changed, name)
        require_complete(file, held, changed, name, named.unknown)
        if not (as_it_is and told_scale):
            _check_strengths(file, changed, name)
        require_finite_weights(changed, str(file))
        return str(name)


def _check_strengths(path: Path, changed: Mapping[str, nn.Module], name: str) -> None:
    """Every layer must have arrived at full strength, since no alphas were left to be read."""
    for part, module in changed.items():
        for layer, own in module.named_modules():
            strength = getattr(own, "scaling", {}).get(name, 1)
            if not math.isclose(strength, 1):
                raise MemfixError(
                    f"The layer {layer} of {part} takes up {path} at {strength:g} times its strength.",
                    "Check the diffusers and peft versions with 'memfix doctor'.",
                )


def _not_plain(path: Path) -> MemfixError:
    return MemfixError(
        f"{path} cannot be merged: it is not a plain LoRA.",
        "Only plain LoRAs can be added up. Use this one by itself, or train full weights (--full).",
    )


def _factors(
    state: Mapping[str, torch.Tensor], layers: Mapping[str, Any], name: str, weight: float
) -> dict[str, Factors]:
    """The layers that an adapter changes, its scale and its weight included."""
    changed = [key.removesuffix(DOWN) for key in state if key.endswith(DOWN)]
    return {
        layer: Factors(state[layer + DOWN].cpu(), state[layer + UP].cpu() * (layers[layer].scaling[name] * weight))
        for layer in changed
    }


def _sum(adapters: Sequence[Mapping[str, Factors]]) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The weights and the configuration of one adapter that changes a part as all of these do."""
    state: dict[str, torch.Tensor] = {}
    ranks: dict[str, int] = {}
    for layer in sorted({layer for adapter in adapters for layer in adapter}):
        own = [adapter[layer] for adapter in adapters if layer in adapter]
        state[layer + DOWN] = torch.cat([f.down for f in own])
        state[layer + UP] = torch.cat([f.up for f in own], dim=1)
        ranks[layer] = len(state[layer + DOWN])
    most = max(ranks.values())
    config = LoraConfig(r=most, lora_alpha=most, target_modules=list(ranks), rank_pattern=ranks, alpha_pattern=ranks)
    return state, config.to_dict()
