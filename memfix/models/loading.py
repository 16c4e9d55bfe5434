"""Finding and loading models. The bundled model goes through the same code as a user's."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline, StableDiffusionXLPipeline
from diffusers.utils import logging as diffusers_logging
from huggingface_hub import list_repo_files
from huggingface_hub.constants import ENDPOINT
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError
from huggingface_hub.utils import logging as hub_logging
from torch import nn
from transformers.utils import logging as transformers_logging

from memfix.config.checks import DetectSettings
from memfix.demo import DEMO, MODEL
from memfix.errors import MemfixError
from memfix.files import files_below, sha256, sha256_of
from memfix.models import folders, parts, single_file
from memfix.models.course import sampler
from memfix.models.device import device, held_dtype
from memfix.models.distilled import require_plain_guidance
from memfix.models.inversion import Inversion, add_embeddings
from memfix.models.lora import Adapter
from memfix.models.model import DiffusionModel
from memfix.models.probe import EPSILON, V
from memfix.models.samplers import SOME_STEPS, keep_zero_snr, unfit
from memfix.models.text import bound_texts
from memfix.models.xl import XLModel
from memfix.offline import can_be_reached, is_offline

PREDICTIONS = (EPSILON, V)
FAMILIES: dict[type[Any], Callable[[Any], DiffusionModel]] = {
    StableDiffusionPipeline: DiffusionModel, StableDiffusionXLPipeline: XLModel,
}  # fmt: skip
"""Class of a pipeline → what makes a model of it."""
NAMES = "Give a diffusers folder, a .safetensors file or a hub id."
NAMING = "-m MODEL, MEMFIX_MODEL, or model under [detect] in the file of --config"
Size = Callable[[tuple[int, int]], tuple[int, int]]


def own_size(own: tuple[int, int]) -> tuple[int, int]:
    """Pictures of the size that the model says."""
    return own


@dataclass(frozen=True)
class ModelSource:
    """A model on this disk, and what identifies it."""

    name: str
    path: Path
    revision: str | None
    sha256: str
    """Of the weight files in use."""
    config_sha256: str
    """Of all other files that say what the model does: scheduler, tokenizer, configuration."""
    variant: str | None = None
    """Of the weight files in use."""
    donors: Mapping[str, Path] = field(default_factory=dict)
    """Parts that come from elsewhere → from where."""
    embeddings: tuple[Inversion, ...] = ()
    """Words that are added to its vocabulary."""

    @classmethod
    def of(
        cls, name: str, path: Path, revision: str | None = None, variant: str | None = None,
        donors: Mapping[str, Path] = MappingProxyType({}),
    ) -> ModelSource:  # fmt: skip
        """The model in a folder, or in one file, which is read to its end, with parts of donors."""
        if path.is_file():
            weights, config = sha256([path]), sha256([])
        else:
            names = [found.path for found in files_below(path, again=True)]
            variant = folders.variant_of(names, variant)
            used = folders.used_files(path, variant)
            weights, config = sha256_of(path, used.weights), sha256_of(path, used.config)
        if donors:
            told = [weights, *(f"{part} {_content_of(part, donor)}" for part, donor in sorted(donors.items()))]
            weights = hashlib.sha256("\n".join(told).encode()).hexdigest()
        return cls(name, path, revision, weights, config, variant, donors)

    def knowing(self, embeddings: Iterable[Inversion]) -> ModelSource:
        """The same with words that are added to its vocabulary."""
        if not (added := tuple(embeddings)):
            return self
        told = "\n".join([self.sha256, *(one.digest for one in added)])
        return replace(self, sha256=hashlib.sha256(told.encode()).hexdigest(), embeddings=added)


def _content_of(part: str, donor: Path) -> str:
    """What identifies a part that comes from elsewhere, its configuration included."""
    return sha256_of(donor.parent, parts.donor_files(part, donor).files)


def locate(
    model: str,
    revision: str | None = None,
    variant: str | None = None,
    donors: Mapping[str, str] = MappingProxyType({}),
) -> ModelSource:
    """Find a model: the bundled one, a folder, a .safetensors file, else a hub id, which is downloaded to the cache.

    donors: part → folder or file that it comes from instead. Raises MemfixError, before weights are read, for what is
    no model of a known kind.
    """
    path = MODEL if model == DEMO and not Path(model).exists() else Path(model)
    given = {part: _donor(part, Path(donor)) for part, donor in donors.items()}
    if path.suffix in folders.PICKLES:
        raise MemfixError(
            f"{path} is a pickle file, which can run any code when it is opened.", "Convert it to .safetensors first."
        )
    if path.is_file():
        if path.suffix != folders.WEIGHT_FILES:
            raise MemfixError(f"{path} is not a model.", NAMES)
        return ModelSource.of(model, path, donors=_donors_for(path, given))
    if path.is_dir():
        if not (path / folders.INDEX).is_file():
            raise MemfixError(
                f"{path} is not a diffusers model: it has no {folders.INDEX}.",
                "Give the folder that pipeline.save_pretrained wrote.",
            )
        folders.require_supported(model, folders.read_index(path), _supported(), path, given)
        return ModelSource.of(model, path, variant=variant, donors=given)
    if path.is_absolute() or model.startswith(".") or model.count("/") != 1:
        looked = "" if path.is_absolute() else f" A relative path is looked for in {Path.cwd()}."
        raise MemfixError(f"There is no model at {model}.", f"{NAMES}{looked}")
    folder = _download(model, revision, variant, given)
    folders.require_supported(model, folders.read_index(folder), _supported(), folder, given)
    return ModelSource.of(model, folder, folder.name, variant, given)


def source_of(settings: DetectSettings) -> ModelSource:
    """The model of a detection, found as `locate` does."""
    found = locate(settings.model, settings.revision, settings.variant, _donors(settings))
    return found.knowing(map(Inversion.named, settings.embedding))


def _donors(settings: DetectSettings) -> dict[str, str]:
    """Parts of the model that come from elsewhere → from where."""
    return {part: donor for part in parts.DONORS if (donor := getattr(settings, part, None))}


def _supported() -> list[str]:
    """Names of the classes of pipelines that there is a family for."""
    return [kind.__name__ for kind in FAMILIES]


def _donor(part: str, donor: Path) -> Path:
    if not donor.exists() or donor.suffix in folders.PICKLES:
        raise MemfixError(
            f"There is no {part} at {donor}.",
            f"Give {parts.donor_flag(part)} a folder of diffusers that has it, or a .safetensors file.",
        )
    if donor.is_dir():
        folders.require_usable(str(donor), part, None, parts.folder_in(donor, part))
    return donor


def _donors_for(file: Path, donors: Mapping[str, Path]) -> dict[str, Path]:
    """Where each part of a file's model comes from that is not its own.

    Raises MemfixError for a file that is no model to be used, or that lacks a part which nothing else gives.
    """
    lacks = single_file.contents(file).lacks
    donors = parts.with_second_encoder(donors, lacks)
    if lacking := [part for part in lacks if part not in donors]:
        flags = " and ".join(f"{flag} FOLDER_OR_FILE" for flag in dict.fromkeys(map(parts.donor_flag, lacking)))
        raise MemfixError(f"{file} has no {' and no '.join(lacking)}.", f"Name where it comes from: {flags}.")
    return donors


def _download(model: str, revision: str | None, variant: str | None, without: Container[str]) -> Path:
    """The folder of the cache that a model of the hub lies in, fetched into it where there is a network."""
    _silence_libraries()
    here = is_offline() or not can_be_reached(ENDPOINT)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*local_dir_use_symlinks.*")  # which diffusers still passes on
            index = DiffusionPipeline.load_config(model, revision=revision, local_files_only=here)
            folders.require_supported(model, index, _supported(), None, without)
            variant = variant if here else folders.variant_of(list_repo_files(model, revision=revision), variant)
            found = DiffusionPipeline.download(
                model, revision=revision, variant=variant, use_safetensors=True, local_files_only=here
            )
        return Path(found)
    except (HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError, OSError, ValueError) as error:
        if is_offline():
            raise MemfixError(
                f"Model {model} is not on this machine, and memfix is offline.",
                f"Leave out --offline, so that it is downloaded, or name a model that is here by {NAMING}.",
            ) from None
        if here:
            raise MemfixError(
                f"Model {model} is not on this machine, and {ENDPOINT} cannot be reached.",
                "Check the network, or HTTPS_PROXY. A model that is here (a folder of save_pretrained, or a "
                f".safetensors file) is named by {NAMING}.",
            ) from None
        raise MemfixError(
            f"Model {model} could not be fetched from the hub: {str(error).splitlines()[0]}",
            f"Check the name (another one is named by {NAMING}), the network and HF_TOKEN, or give a local folder; "
            f"a relative one is looked for in {Path.cwd()}.",
        ) from None  # fmt: skip


def _silence_libraries() -> None:
    """Let memfix alone speak to the user."""
    for library in (diffusers_logging, transformers_logging, hub_logging):
        library.set_verbosity_error()


def load(
    source: ModelSource, size: Size = own_size, adapters: Sequence[Path | Adapter] = (), asked_in: str = "no"
) -> DiffusionModel:
    """Load a model on this process's device, in fp32; autocast chooses the precision of its arithmetic.

    size: the model's own height and width of pictures, in pixels → those that take their place. adapters: what becomes
    part of its weights. asked_in: the precision of arithmetic of a model that is only asked, never trained; a GPU then
    holds the weights of its denoiser as that rounds them, and never all of them in fp32.
    Raises MemfixError for what cannot be loaded, is no model of a known kind, or has weights that are not numbers.
    """
    _silence_libraries()
    for library in (diffusers_logging, transformers_logging):
        library.disable_progress_bar()
    try:
        single = source.path.is_file()
        pipe = single_file.load_single_file(source.path, source.donors) if single else _of_folder(source)
    except parts.FAILURES as error:
        raise MemfixError(
            f"Model {source.name} cannot be loaded: {str(error).splitlines()[0]}",
            "Weights must be safetensors in the diffusers layout; 'memfix doctor' shows the installed versions.",
        ) from None
    make = next((made for kind, made in FAMILIES.items() if isinstance(pipe, kind)), None)
    if make is None:
        raise MemfixError(
            f"{source.name} is a {type(pipe).__name__}; so far only {folders.SUPPORTED} are supported.",
            f"Give a {' or '.join(_supported())}.",
        )
    remarks = [keep_zero_snr(pipe), single_file.untold(source.path, pipe) if single else ""]
    _check_noise(pipe, source.name)
    require_plain_guidance(pipe, source.name)
    pipe.set_progress_bar_config(disable=True)
    dtype = held_dtype(asked_in)
    pipe = pipe.to("cpu" if dtype else device(), torch.float32)
    bound_texts(pipe)
    add_embeddings(pipe, source.embeddings)
    for module in pipe.components.values():
        if isinstance(module, nn.Module):
            module.requires_grad_(False).eval()
    model = make(pipe)
    _resize(model, source.name, size)
    model.require_finite_weights(source.name)
    model.adapters.fuse(*adapters)
    if dtype:
        model.denoiser.hold_in(dtype)
        pipe.to(device())
    _check_prediction(model, source.name)
    model.remarks = [told for told in remarks if told]
    return model


def _resize(model: DiffusionModel, name: str, size: Size) -> None:
    """Raises MemfixError for a model that says no size where none is given."""
    height, width = size(model.latents.picture_size)
    if not height or not width:
        raise MemfixError(
            f"{name} does not say how large its pictures are (sample_size in unet/config.json).",
            "Give --resolution, or write it there: the pictures' size in latents.",
        )
    model.latents.resize(height, width)


def _of_folder(source: ModelSource) -> Any:
    given = {part: parts.load_part(part, donor, source.path) for part, donor in source.donors.items()}
    own = parts.load_parts(source.path, source.variant, given)
    checked = folders.read_index(source.path).get("_class_name") == StableDiffusionPipeline.__name__
    without = {"safety_checker": None, "requires_safety_checker": False} if checked else {}
    pipe: Any = DiffusionPipeline.from_pretrained(
        source.path, variant=source.variant, use_safetensors=True, **without, **own, **given
    )  # fmt: skip
    if isinstance(pipe, tuple(FAMILIES)):
        parts.require_fitting(pipe, source.name)
    return pipe


def _check_noise(pipe: Any, name: str) -> None:
    """Raise MemfixError for a model whose noise or whose answer is not that of a diffusion in ε or v."""
    config, kind = pipe.scheduler.config, type(pipe.scheduler).__name__
    if not hasattr(pipe.scheduler, "alphas_cumprod") or config.get("use_flow_sigmas"):
        raise MemfixError(
            f"{name} has a {kind}, whose noise is that of flow matching or of EDM; so far only models of a diffusion "
            "(betas) are supported.",
            "Give a model of Stable Diffusion 1, 2 or XL, with a scheduler such as DDIMScheduler.",
        )
    if why := unfit(pipe.scheduler):
        raise MemfixError(
            f"{name} has a {kind}, which {why}.",
            "Give the model the scheduler that its pictures are drawn with, such as DDIMScheduler: scheduler/ and "
            "model_index.json.",
        )
    if config.get("prediction_type", "epsilon") not in PREDICTIONS:
        raise MemfixError(
            f"{name} predicts '{config.prediction_type}' (prediction_type of its scheduler); so far only "
            f"{' and '.join(PREDICTIONS)} are supported.",
            "If that is not what the model was trained for, correct scheduler/scheduler_config.json.",
        )
    if config.get("prediction_type", "epsilon") == EPSILON and _begins_without_signal(pipe):
        raise MemfixError(
            f"The noise of {name} ends in noise alone (rescale_betas_zero_snr), and its {kind} begins there, where a "
            f"network that predicts '{EPSILON}' says nothing of the picture: its pictures are no numbers.",
            "Correct scheduler/scheduler_config.json: prediction_type if the model predicts "
            f"'{V}', else rescale_betas_zero_snr.",
        )


def _begins_without_signal(pipe: Any) -> bool:
    """Whether its sampler divides by the signal where there is none."""
    signals = pipe.scheduler.alphas_cumprod
    first = round(float(sampler(pipe, SOME_STEPS).timesteps.max()))
    return float(signals[min(first, len(signals) - 1)]) == 0


def _check_prediction(model: DiffusionModel, name: str) -> None:
    """Raise MemfixError where the scheduler takes for v what is ε by the network's own answer."""
    if model.schedule.prediction_type == V and model.asked_prediction() == EPSILON:
        raise MemfixError(
            f"The scheduler of {name} says '{V}' (prediction_type), but its network answers with the "
            f"noise, as one of '{EPSILON}' does. It would draw no pictures.",
            "Correct scheduler/scheduler_config.json.",
        )
