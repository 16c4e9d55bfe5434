"""Finding and loading models. The bundled model goes through the same code as a user's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError
from safetensors import SafetensorError
from torch import nn
from transformers.utils import logging as transformers_logging

from memfix.demo import DEMO, MODEL
from memfix.errors import MemfixError
from memfix.files import files_below, sha256, sha256_of
from memfix.models.device import device
from memfix.models.model import DiffusionModel
from memfix.offline import is_offline

WEIGHT_FILES = ".safetensors"
PICKLES = {".bin", ".ckpt", ".pt", ".pth"}
CONFIG = {".json", ".txt"}
PREDICTIONS = ("epsilon", "v_prediction")
FAMILIES: dict[type[Any], Callable[[Any], DiffusionModel]] = {StableDiffusionPipeline: DiffusionModel}
"""Class of a pipeline → what makes a model of it."""


@dataclass(frozen=True)
class ModelSource:
    """A model on this disk, and what identifies it."""

    name: str
    path: Path
    revision: str | None
    sha256: str
    """Of all weight files."""
    config_sha256: str
    """Of all other files that say what the model does: scheduler, tokenizer, configuration."""

    @classmethod
    def of(cls, name: str, path: Path, revision: str | None = None) -> ModelSource:
        """The model in a folder, or in one file, which is read to its end."""
        if path.is_file():
            return cls(name, path, revision, sha256([path]), sha256([]))
        files = list(_files(path))
        weights = (file for file in files if file.suffix == WEIGHT_FILES)
        config = (file for file in files if file.suffix in CONFIG)
        return cls(name, path, revision, sha256_of(path, weights), sha256_of(path, config))


def _files(folder: Path) -> Iterator[Path]:
    """Weights, also hidden ones, and configuration of a model. Raises MemfixError for what cannot be read."""
    for found in files_below(folder, again=True):
        file = folder / found.path
        if file.suffix != WEIGHT_FILES and (file.suffix not in {*CONFIG, ""} or hidden(Path(found.path))):
            continue
        if found.problem:
            raise MemfixError(
                f"{file} cannot be read: {found.problem}.", "Restore what it is a link to, or give another model."
            )
        yield file


def hidden(path: Path) -> bool:
    """Whether a file, or a folder that it lies in, begins with a dot."""
    return any(part.startswith(".") for part in path.parts)


def locate(model: str, revision: str | None = None, variant: str | None = None) -> ModelSource:
    """Find a model: the bundled one, a folder, a .safetensors file, else a hub id, which is downloaded to the cache."""
    path = MODEL if model == DEMO and not Path(model).exists() else Path(model)
    if path.suffix in PICKLES:
        raise MemfixError(
            f"{path} is a pickle file, which can run any code when it is opened.", "Convert it to .safetensors first."
        )
    if path.is_file():
        if path.suffix != WEIGHT_FILES:
            raise MemfixError(f"{path} is not a model.", "Give a diffusers folder, a .safetensors file or a hub id.")
        return ModelSource.of(model, path)
    if path.is_dir():
        if not (path / "model_index.json").is_file():
            raise MemfixError(
                f"{path} is not a diffusers model: it has no model_index.json.",
                "Give the folder that pipeline.save_pretrained wrote.",
            )
        return ModelSource.of(model, path)
    if path.is_absolute() or model.startswith(".") or model.count("/") != 1:
        looked = "" if path.is_absolute() else f" A relative path is looked for in {Path.cwd()}."
        hint = f"Give a diffusers folder, a .safetensors file or a hub id.{looked}"
        raise MemfixError(f"There is no model at {model}.", hint)
    folder = _download(model, revision, variant)
    return ModelSource.of(model, folder, folder.name)


def _download(model: str, revision: str | None, variant: str | None) -> Path:
    try:
        return Path(DiffusionPipeline.download(model, revision=revision, variant=variant, use_safetensors=True))
    except (HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError, OSError, ValueError) as error:
        raise MemfixError(
            f"Model {model} could not be fetched from the hub: {str(error).splitlines()[0]}",
            "It is not in the cache, and offline mode is on." if is_offline() else
            "Check the name, the network and HF_TOKEN, or give a local folder; "
            f"a relative one is looked for in {Path.cwd()}.",
        ) from None  # fmt: skip


def load(source: ModelSource, variant: str | None = None) -> DiffusionModel:
    """Load a model in fp32 on this process's device; autocast chooses the precision of its arithmetic.

    Raises MemfixError for what cannot be loaded, is no model of a known kind, or has weights that are not numbers.
    """
    for library in (diffusers_logging, transformers_logging):
        library.set_verbosity_error()
        library.disable_progress_bar()
    try:
        if source.path.is_file():
            pipe = StableDiffusionPipeline.from_single_file(source.path)
        else:
            pipe = DiffusionPipeline.from_pretrained(
                source.path, variant=variant, use_safetensors=True, safety_checker=None, requires_safety_checker=False
            )
    except (OSError, ValueError, KeyError, SafetensorError, RuntimeError) as error:
        raise MemfixError(
            f"Model {source.name} cannot be loaded: {str(error).splitlines()[0]}",
            "Weights must be safetensors in the diffusers layout; 'memfix doctor' shows the installed versions.",
        ) from None
    make = next((made for kind, made in FAMILIES.items() if isinstance(pipe, kind)), None)
    if make is None:
        raise MemfixError(
            f"{source.name} is a {type(pipe).__name__}; so far only Stable Diffusion 1 and 2 models are supported.",
            f"Give a {' or '.join(kind.__name__ for kind in FAMILIES)}.",
        )
    _check_noise(pipe, source.name)
    pipe.set_progress_bar_config(disable=True)
    for module in pipe.components.values():
        if isinstance(module, nn.Module):
            module.requires_grad_(False).eval()
    model = make(pipe.to(device(), torch.float32))
    model.require_finite_weights(source.name)
    return model


def _check_noise(pipe: StableDiffusionPipeline, name: str) -> None:
    """Raise MemfixError for a model whose noise or whose answer is not that of a diffusion in ε or v."""
    config, kind = pipe.scheduler.config, type(pipe.scheduler).__name__
    if not hasattr(pipe.scheduler, "alphas_cumprod") or config.get("use_flow_sigmas"):
        raise MemfixError(
            f"{name} has a {kind}, whose noise is that of flow matching or of EDM; so far only models of a diffusion "
            "(betas) are supported.",
            "Give a model of Stable Diffusion 1 or 2, with a scheduler such as DDIMScheduler.",
        )
    if config.get("prediction_type", "epsilon") not in PREDICTIONS:
        raise MemfixError(
            f"{name} predicts '{config.prediction_type}' (prediction_type of its scheduler); so far only "
            f"{' and '.join(PREDICTIONS)} are supported.",
            "If that is not what the model was trained for, correct scheduler/scheduler_config.json.",
        )
