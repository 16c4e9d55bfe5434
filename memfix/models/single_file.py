"""Models in one file of the original layout: told by its keys before its weights are read, and loaded offline.

The configuration of each family travels with memfix, in `configs/`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel
from diffusers.loaders.single_file_utils import infer_diffusers_model_type
from safetensors import SafetensorError, safe_open
from transformers import CLIPTokenizer

from memfix.errors import MemfixError
from memfix.models.latents import LatentSpace
from memfix.models.original import unet_names
from memfix.models.parts import (
    DONORS,
    SECOND_ENCODER,
    load_part,
    require_fitting,
    require_unscaled,
)
from memfix.models.probe import EPSILON, V, asked_prediction
from memfix.models.samplers import ZERO_SNR
from memfix.models.text import TextReader
from memfix.models.xl import XLReader

CONFIGS = Path(__file__).parent / "configs"
FIRST_LAYER, CLASSES = "model.diffusion_model.input_blocks.0.0.weight", "model.diffusion_model.label_emb.0.0.weight"
VAE, CLIP, OPEN_CLIP = "first_stage_model.decoder.", "cond_stage_model.transformer.", "cond_stage_model.model."
CLIP_OF_XL, OPEN_CLIP_OF_XL = "conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."
XL_WIDTH = 2048  # of what its cross-attention reads, from both encoders
FAMILY_OF_KIND = {"v1": "sd1", "v2": "sd2", "xl_base": "xl"}
"""What diffusers calls the kinds of files that are supported → family; it takes files of unknown kinds for v1."""
EDM = "edm_vpred."
"""Begins the names of what a file says of such noise; the network's own weights look like those of XL."""
V_MARK, ZERO_SNR_MARK = "v_pred", "ztsnr"
"""Names that files of NoobAI's kind have among their weights, most of them both. The second one alone says nothing of
what the network predicts."""
LORA_WORDS = ("lora_down", "lora_up", "lora_A", "lora_B", "hada_", "lokr_")
OTHERS = {
    "xl_refiner": "the refiner of Stable Diffusion XL", "playground-v2-5": "Playground 2.5",
    "xl_inpaint": "an inpainting model", "inpainting": "an inpainting model", "inpainting_v2": "an inpainting model",
    "instruct-pix2pix": "an InstructPix2Pix model", "upscale": "an upscaler", "sd3": "Stable Diffusion 3",
}  # fmt: skip
"""What diffusers calls kinds of files → in plain words; other kinds are named as diffusers does."""
WRITTEN = {"epsilon": EPSILON, "v": V}
"""As the metadata of a file have it (modelspec.prediction_type) → in diffusers' words."""
RESOLUTION = re.compile(r"\s*(\d+)\s*(?:[xX×,]\s*(\d+)\s*)?")
"""Width, and height where it is another one (modelspec.resolution)."""


class Contents(NamedTuple):
    """What a file holds, as its names and shapes tell."""

    family: str
    """`sd1`, `sd2` or `xl`."""
    prediction: str | None
    """What the network predicts, where the file says so."""
    size: tuple[int, int] | None
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
    require_unscaled(file, shapes)
    family = _family(file, shapes)
    told = WRITTEN.get(metadata.get("modelspec.prediction_type", ""))
    parts = {"vae": (VAE,), "text_encoder": (CLIP_OF_XL,) if family == "xl" else (CLIP, OPEN_CLIP)}
    parts |= {SECOND_ENCODER: (OPEN_CLIP_OF_XL,)} if family == "xl" else {}
    lacks = tuple(part for part, prefixes in parts.items() if not any(key.startswith(prefixes) for key in shapes))
    return Contents(
        family, V if V_MARK in shapes else told, _size(metadata.get("modelspec.resolution", "")), lacks,
        tuple(shapes), ZERO_SNR_MARK in shapes,
    )  # fmt: skip


def _size(resolution: str) -> tuple[int, int] | None:
    """Height and width of `832x1216`, which has the width first, or of `512`; None for other words."""
    found = RESOLUTION.fullmatch(resolution)
    width, height = (int(side) for side in found.groups(found[1])) if found else (0, 0)
    return (height, width) if width and height else None


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
    if edm := next((key for key in shapes if key.startswith(EDM)), None):
        what = f"was trained with the noise of EDM, as CosXL is ({edm})"
        raise MemfixError(f"The model in {file} {what}, which is not supported so far.", hint)
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
    configuration than that of the family. Raises MemfixError for a file that is not whole, for one that says what
    its network does not do, and for a network that does neither of both.
    """
    found = contents(file)
    pipe = _build(file, found, found.prediction or EPSILON, donors, config)
    reader = XLReader(pipe, LatentSpace(pipe)) if found.family == "xl" else TextReader(pipe)
    asked = asked_prediction(pipe, reader.encode([None]))
    if asked is None and found.prediction != V:  # what is said to be V may be untrained, which `doubt` tells
        raise MemfixError(
            f"The network of {file} answers noise neither as one of '{EPSILON}' nor as one of '{V}' does: its weights "
            "are damaged or untrained, and its pictures would be copies of nothing.",
            "Restore the file. If the network is as it should be, say what it predicts: modelspec.prediction_type in "
            "the file's metadata ('v'), or prediction_type of the scheduler in a folder of diffusers.",
        )
    if found.prediction is None and asked == V:
        pipe = _build(file, found, V, donors, config)
    elif asked and found.prediction not in (None, asked):
        raise MemfixError(
            f"{file} says that it predicts '{found.prediction}', but its network answers as one of '{asked}' does.",
            "Correct modelspec.prediction_type in its metadata.",
        )
    if found.zero_snr and pipe.scheduler.config.prediction_type == EPSILON:
        raise MemfixError(
            f"{file} is marked as trained down to noise alone ({ZERO_SNR_MARK}), but not as one of '{V}' ({V_MARK}), "
            f"and its network answers as one of '{EPSILON}' does, which says nothing of a picture there. User "
            f"interfaces do not agree on what noise it is then drawn with.",
            f"Take {ZERO_SNR_MARK} out of the file if it was trained on the usual noise, as ComfyUI takes it; else "
            "give a folder of diffusers whose scheduler says how it is drawn (rescale_betas_zero_snr, "
            "timestep_spacing).",
        )
    return pipe


def untold(file: Path, pipe: StableDiffusionPipeline | StableDiffusionXLPipeline) -> str:
    """What users are to know of a file that does not say what its model predicts; empty where that is ε, as usual."""
    if contents(file).prediction is not None or pipe.scheduler.config.prediction_type == EPSILON:
        return ""
    return (
        f"{file} does not say what its network predicts. It is taken for '{V}', as the network answers so: noise alone "
        "not with the noise, but half a picture's noise. If that is wrong, no copy is found in its samples."
    )


def _build(file: Path, found: Contents, prediction: str, donors: Mapping[str, Path], config: Path | None) -> Any:
    family = found.family if found.family != "sd2" else "sd2-v" if prediction == V else "sd2-epsilon"
    config = config or CONFIGS / family
    own = {} if (config / "tokenizer").is_dir() else _tokenizers(found.family)
    with torch.device("meta"):
        network = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(config, subfolder="unet"))
    unet_names(file, found.names, network)
    of_xl = found.family == "xl"
    wanted = DONORS if of_xl else DONORS.keys() - {SECOND_ENCODER}
    parts = {part: load_part(part, donors.get(part, file), config) for part in sorted(wanted)}
    kind = StableDiffusionXLPipeline if of_xl else StableDiffusionPipeline
    pipe: Any = kind.from_single_file(file, config=str(config), local_files_only=True, **own, **parts)
    require_fitting(pipe, str(file))
    scheduled: dict[str, Any] = {"prediction_type": prediction}
    if found.zero_snr:
        scheduled |= {ZERO_SNR: True, "timestep_spacing": "trailing"}
    own = dict(pipe.scheduler.config) | scheduled  # keeps what this class has no argument for
    pipe.register_modules(scheduler=pipe.scheduler.from_config(own, **scheduled))
    if found.size:
        latents = LatentSpace(pipe)
        height, width = (side // latents.step * latents.step for side in found.size)
        latents.resize(height, width)
    return pipe


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
