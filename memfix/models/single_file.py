"""Models in one file of the original layout: told by its keys before its weights are read, and loaded offline.

The configuration of each family travels with memfix, in `configs/`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers import (
    AutoencoderKL,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    pipelines,
)
from diffusers.loaders.single_file import load_single_file_sub_model
from diffusers.loaders.single_file_utils import (
    SingleFileComponentError,
    infer_diffusers_model_type,
    load_single_file_checkpoint,
)
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from memfix.errors import MemfixError
from memfix.models.latents import LatentSpace
from memfix.models.original import GIVE_WHOLE, unet_names
from memfix.models.probe import LIKE_NOISE, likeness_to_noise
from memfix.models.text import TextReader
from memfix.models.xl import XLReader

FAILURES = (OSError, ValueError, KeyError, RuntimeError, SafetensorError, SingleFileComponentError)
"""What diffusers raises for files that are no models, or not whole."""
CONFIGS = Path(__file__).parent / "configs"
V, EPSILON = "v_prediction", "epsilon"
ENCODER, SECOND_ENCODER = "text_encoder", "text_encoder_2"
FIRST_LAYER, CLASSES = "model.diffusion_model.input_blocks.0.0.weight", "model.diffusion_model.label_emb.0.0.weight"
VAE, CLIP, OPEN_CLIP = "first_stage_model.decoder.", "cond_stage_model.transformer.", "cond_stage_model.model."
CLIP_OF_XL, OPEN_CLIP_OF_XL = "conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."
XL_WIDTH = 2048  # of what its cross-attention reads, from both encoders
FAMILY_OF_KIND = {"v1": "sd1", "v2": "sd2", "xl_base": "xl"}
"""What diffusers calls the kinds of files that are supported → family; it takes files of unknown kinds for v1."""
LORA_WORDS = ("lora_down", "lora_up", "lora_A", "lora_B", "hada_", "lokr_")
OTHERS = {
    "xl_refiner": "the refiner of Stable Diffusion XL", "playground-v2-5": "Playground 2.5",
    "xl_inpaint": "an inpainting model", "inpainting": "an inpainting model", "inpainting_v2": "an inpainting model",
    "instruct-pix2pix": "an InstructPix2Pix model", "upscale": "an upscaler", "sd3": "Stable Diffusion 3",
}  # fmt: skip
"""What diffusers calls kinds of files → in plain words; other kinds are named as diffusers does."""
WRITTEN = {"epsilon": EPSILON, "v": V}
"""As the metadata of a file have it (modelspec.prediction_type) → in diffusers' words."""


class Contents(NamedTuple):
    """What a file holds, as its names and shapes tell."""

    family: str
    """`sd1`, `sd2` or `xl`."""
    prediction: str | None
    """What the network predicts, where the file says so."""
    side: int | None
    """Height and width of pictures in pixels, where the file says so."""
    lacks: tuple[str, ...]
    """Parts of a model that are not in the file: `vae`, `text_encoder`, `text_encoder_2`."""
    names: tuple[str, ...]
    """Of all weights."""
    zero_snr: bool = False
    """Whether the file says that it was trained down to noise alone (zero terminal SNR)."""


def contents(file: Path) -> Contents:
    """Look at a file's header. Raises MemfixError, which says what the file is, where that is no model to be used."""
    shapes, metadata = _header(file)
    family = _family(file, shapes)
    told = WRITTEN.get(metadata.get("modelspec.prediction_type", ""))
    side = metadata.get("modelspec.resolution", "").split("x")[0]
    parts = {"vae": (VAE,), "text_encoder": (CLIP_OF_XL,) if family == "xl" else (CLIP, OPEN_CLIP)}
    parts |= {SECOND_ENCODER: (OPEN_CLIP_OF_XL,)} if family == "xl" else {}
    lacks = tuple(part for part, prefixes in parts.items() if not any(key.startswith(prefixes) for key in shapes))
    return Contents(
        family, V if "v_pred" in shapes else told, int(side) if side.isdecimal() else None, lacks, tuple(shapes),
        "ztsnr" in shapes,
    )  # fmt: skip


def _header(file: Path) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """The shape of each weight by name, and the metadata; no weight is read."""
    try:
        with safe_open(file, "pt") as opened:
            shapes = {str(key): tuple(opened.get_slice(key).get_shape()) for key in opened.keys()}  # noqa: SIM118
            return shapes, dict(opened.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise MemfixError(
            f"{file} cannot be read: {error}.", "Restore it, or give another model: a file of safetensors."
        ) from None


def _family(file: Path, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Raises MemfixError where that is none of those supported."""
    hint = "Give a model of Stable Diffusion 1, 2 or XL: a file in the original layout, a diffusers folder or a hub id."
    if any(word in key for key in shapes for word in LORA_WORDS):
        raise MemfixError(f"{file} is a LoRA, not a model.", "Give it to --adapter, beside the model it was made for.")
    kind = infer_diffusers_model_type({key: torch.empty(shape, device="meta") for key, shape in shapes.items()})
    if kind not in FAMILY_OF_KIND:
        raise MemfixError(f"{file} is {OTHERS.get(kind, f'of the kind {kind}')}, which is not supported so far.", hint)
    if FIRST_LAYER not in shapes:
        some = ", ".join(sorted(shapes)[:2]) or "no weights"
        raise MemfixError(f"{file} has no UNet in the original layout; it contains {some}, and others.", hint)
    bare_xl = kind == "v1" and CLASSES in shapes and _context_width(shapes) == XL_WIDTH  # without its encoders
    of_xl, read = kind == "xl_base" or bare_xl, shapes[FIRST_LAYER][1]
    if (CLASSES in shapes) != of_xl or read == 5 or (of_xl and read != 4):
        what = "is told more than texts (unCLIP, depth, a picture to edit or to fill)"
        raise MemfixError(f"The model in {file} {what}, which is not supported so far.", hint)
    if kind == "v1" and (any(key.startswith(OPEN_CLIP) for key in shapes) or _context_width(shapes) == 1024):
        return "sd2"
    return "xl" if bare_xl else FAMILY_OF_KIND[kind]


def _context_width(shapes: Mapping[str, tuple[int, ...]]) -> int | None:
    """Width of the text embeddings that cross-attention reads."""
    return next((shape[-1] for key, shape in shapes.items() if key.endswith("attn2.to_k.weight")), None)


def load_single_file(
    file: Path, donors: Mapping[str, Path], config: Path | None = None
) -> StableDiffusionPipeline | StableDiffusionXLPipeline:
    """Build the model of a file, with parts from elsewhere in the place of its own.

    Where the file does not say what its network predicts, the network is asked. config: folder of another
    configuration than that of the family. Raises MemfixError for a file that is not whole, and for one that says what
    its network does not do.
    """
    found = contents(file)
    pipe = _build(file, found, found.prediction or EPSILON, donors, config)
    reader = XLReader(pipe, LatentSpace(pipe)) if found.family == "xl" else TextReader(pipe)
    asked = EPSILON if likeness_to_noise(pipe, reader.encode([""])) > LIKE_NOISE else V
    if found.prediction is None and asked == V:
        pipe = _build(file, found, V, donors, config)
    elif found.prediction not in (None, asked):
        raise MemfixError(
            f"{file} says that it predicts '{found.prediction}', but its network answers as one of '{asked}' does.",
            "Correct modelspec.prediction_type in its metadata.",
        )
    return pipe


def _build(file: Path, found: Contents, prediction: str, donors: Mapping[str, Path], config: Path | None) -> Any:
    family = found.family if found.family != "sd2" else "sd2-v" if prediction == V else "sd2-epsilon"
    config = config or CONFIGS / family
    own = {} if (config / "tokenizer").is_dir() else _tokenizers(found.family)
    with torch.device("meta"):
        network = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(config, subfolder="unet"))
    unet_names(file, found.names, network)
    parts = {part: load_part(part, donor, config) for part, donor in donors.items()}
    kind = StableDiffusionXLPipeline if found.family == "xl" else StableDiffusionPipeline
    pipe: Any = kind.from_single_file(file, config=str(config), local_files_only=True, **own, **parts)
    _require_whole(file, {name: m for name, m in pipe.components.items() if isinstance(m, nn.Module)})
    scheduled: dict[str, Any] = {"prediction_type": prediction}
    if found.zero_snr and "rescale_betas_zero_snr" in pipe.scheduler.config:
        scheduled |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    pipe.register_modules(scheduler=pipe.scheduler.from_config(pipe.scheduler.config, **scheduled))
    if found.side:
        pipe.unet.register_to_config(sample_size=found.side // pipe.vae_scale_factor)
    return pipe


def _require_whole(file: Path, parts: Mapping[str, nn.Module]) -> None:
    """Raise MemfixError where a weight was not in the file: it was left without numbers."""
    for name, part in parts.items():
        if lost := [key for key, weight in part.state_dict().items() if weight.is_meta]:
            raise MemfixError(
                f"{len(lost)} weights of the part {name} are not in {file}, among them {lost[0]}.",
                f"Give a whole file, or name a donor: {donor_flag(name)}." if name in DONORS else
                GIVE_WHOLE,
            )  # fmt: skip


def _tokenizers(family: str) -> dict[str, CLIPTokenizer]:
    """Those of a family, by the name that its pipeline gives them."""
    if family == "xl":
        return {"tokenizer": clip_tokenizer(of_open_clip=False), "tokenizer_2": clip_tokenizer(of_open_clip=True)}
    return {"tokenizer": clip_tokenizer(of_open_clip=family == "sd2")}


def clip_tokenizer(of_open_clip: bool) -> CLIPTokenizer:
    """CLIP's tokenizer, from the table of byte pairs that open_clip brings; for encoders of open_clip it fills up with
    "!"."""
    from open_clip.tokenizer import SimpleTokenizer

    table = SimpleTokenizer()
    end, start = "<|endoftext|>", "<|startoftext|>"
    vocabulary = {{"<end_of_text>": end, "<start_of_text>": start}.get(t, t): i for t, i in table.encoder.items()}
    merges = sorted(table.bpe_ranks, key=table.bpe_ranks.__getitem__)
    pad = "!" if of_open_clip else end
    return CLIPTokenizer(
        vocab=vocabulary, merges=merges, model_max_length=77, bos_token=start, eos_token=end, unk_token=end,
        pad_token=pad,
    )  # fmt: skip


# -- donors -----------------------------------------------------------------------------------------------------------

DONORS: dict[str, tuple[str, type[Any]]] = {
    "vae": ("diffusers", AutoencoderKL), ENCODER: ("transformers", CLIPTextModel),
    SECOND_ENCODER: ("transformers", CLIPTextModelWithProjection),
}  # fmt: skip
"""Parts that may come from elsewhere → the library and the class that they are of."""


def donor_flag(part: str) -> str:
    """The flag that names where a part comes from; one is enough for both text encoders."""
    return f"--{(ENCODER if part == SECOND_ENCODER else part).replace('_', '-')}"


def with_second_encoder(donors: Mapping[str, Path], lacks: Sequence[str]) -> dict[str, Path]:
    """Where parts come from: the second text encoder, where it is lacking, from where the first one does."""
    return {**({SECOND_ENCODER: donors[ENCODER]} if SECOND_ENCODER in lacks and ENCODER in donors else {}), **donors}


def load_part(part: str, donor: Path, config: Path) -> nn.Module:
    """A part of a model from a folder of its own, from a diffusers model, or from one file.

    Raises MemfixError where it is not there.
    """
    library, kind = DONORS[part]
    found: nn.Module
    try:
        if donor.is_dir():
            folder = donor / part if (donor / part).is_dir() else donor
            found, told = kind.from_pretrained(folder, use_safetensors=True, output_loading_info=True)
            if lost := sorted(told["missing_keys"]):  # which would be numbers by chance
                raise ValueError(f"it has no {lost[0]}.")
        else:
            found = load_single_file_sub_model(
                library_name=library, class_name=kind.__name__, name=part, pipelines=pipelines,
                checkpoint=load_single_file_checkpoint(donor), is_pipeline_module=False,
                cached_model_config_path=str(config), local_files_only=True,
            )  # fmt: skip
    except torch.OutOfMemoryError:
        raise
    except FAILURES as error:
        raise MemfixError(
            f"The part {part} cannot be loaded from {donor}: {str(error).splitlines()[0]}",
            f"Give {donor_flag(part)} a folder of diffusers that has it, or a .safetensors file.",
        ) from None
    _require_whole(donor, {part: found})
    return found
