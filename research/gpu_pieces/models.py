"""Stable Diffusion 1, 2 and XL in their true sizes from their configs, with random weights, made on the device.

The widths are those of `config.json` in stable-diffusion-v1-5, stable-diffusion-2-1 and stable-diffusion-xl-base-1.0.
Those of XL are read where memfix has them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from tokenizers import pre_tokenizers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

import memfix

TOKENS = 77
VAE = {
    "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": 4, "sample_size": 512,
    "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4,
    "scaling_factor": 0.18215,
}  # fmt: skip


@dataclass(frozen=True)
class Architecture:
    """What a model is made of, where that differs from the defaults of diffusers, which are those of SD 1."""

    title: str
    side: int
    """Pixels of a picture's side."""
    unet: dict[str, Any]
    text: dict[str, Any]
    prediction_type: str = "epsilon"
    vae: dict[str, Any] = field(default_factory=lambda: VAE)
    second_text: dict[str, Any] | None = None
    """Of the second text encoder, which only XL has."""


SD1_TEXT = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
SD2_TEXT = {
    "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 23, "num_attention_heads": 16,
    "hidden_act": "gelu",
}  # fmt: skip
XL = Path(memfix.__file__).parent / "models" / "configs" / "xl"


def _of_xl(part: str) -> dict[str, Any]:
    """What `config.json` of a part of XL says."""
    told: dict[str, Any] = json.loads((XL / part / "config.json").read_text())
    return {name: value for name, value in told.items() if name not in ("_class_name", "architectures", *OWN_TOKENS)}


OWN_TOKENS = ("vocab_size", "max_position_embeddings", "bos_token_id", "eos_token_id", "pad_token_id")
FULL = {
    "sd1": Architecture(
        "SD 1.x, 512²", 512,
        {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}, SD1_TEXT,
    ),
    "sd2": Architecture(
        "SD 2.x, 768²", 768,
        {
            "sample_size": 96, "cross_attention_dim": 1024, "attention_head_dim": [5, 10, 20, 20],
            "use_linear_projection": True,
        },
        SD2_TEXT, "v_prediction",
    ),
    "sdxl": Architecture(
        "SDXL, 1024²", 1024, _of_xl("unet"), _of_xl("text_encoder"), vae=_of_xl("vae"),
        second_text=_of_xl("text_encoder_2"),
    ),
}  # fmt: skip
NARROW = {
    "block_out_channels": (32, 32), "layers_per_block": 1, "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2, "latent_channels": 4, "sample_size": 16,
}  # fmt: skip
NARROW_TEXT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
NARROW_UNET = {
    "sample_size": 8, "cross_attention_dim": 32, "block_out_channels": (32, 64), "attention_head_dim": 2,
    "layers_per_block": 1, "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
}  # fmt: skip
TINY = {
    "sd1": Architecture("narrow SD 1.x", 16, NARROW_UNET, NARROW_TEXT, vae=NARROW),
    "sd2": Architecture(
        "narrow SD 2.x", 16, {**NARROW_UNET, "attention_head_dim": [1, 2], "use_linear_projection": True},
        NARROW_TEXT, "v_prediction", NARROW,
    ),
    "sdxl": Architecture(
        "narrow SDXL", 16,
        {
            **NARROW_UNET, "attention_head_dim": [1, 2], "use_linear_projection": True, "cross_attention_dim": 64,
            "addition_embed_type": "text_time", "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 6 * 8 + 16,
        },
        NARROW_TEXT, vae={**NARROW, "force_upcast": True}, second_text={**NARROW_TEXT, "projection_dim": 16},
    ),
}  # fmt: skip


def architecture(name: str, tiny: bool) -> Architecture:
    """By name, in its true size or narrow."""
    return (TINY if tiny else FULL)[name]


def build(architecture: Architecture, device: str) -> StableDiffusionPipeline | StableDiffusionXLPipeline:
    """A pipeline of random weights in fp32 on the device, as memfix loads one of trained weights."""
    torch.manual_seed(0)
    with torch.device(device):
        unet = UNet2DConditionModel(**architecture.unet)
        vae, encoder = AutoencoderKL(**architecture.vae), CLIPTextModel(_text(architecture.text))
        second = architecture.second_text and CLIPTextModelWithProjection(_text(architecture.second_text))
    kind = EulerDiscreteScheduler if second else DDIMScheduler
    own = {"timestep_spacing": "leading"} if second else {"clip_sample": False, "set_alpha_to_one": False}
    scheduler = kind(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1,
        prediction_type=architecture.prediction_type, **own,
    )  # fmt: skip
    parts = {"vae": vae, "text_encoder": encoder, "tokenizer": _tokenizer(), "unet": unet, "scheduler": scheduler}
    pipe: StableDiffusionPipeline | StableDiffusionXLPipeline
    if second:
        pipe = StableDiffusionXLPipeline(
            **parts, text_encoder_2=second, tokenizer_2=_tokenizer(), add_watermarker=False
        )  # fmt: skip
    else:
        pipe = StableDiffusionPipeline(
            **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
        )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    for module in (unet, vae, encoder, *([second] if second else [])):
        module.requires_grad_(False).eval()
    return pipe.to(device, torch.float32)


def _text(given: dict[str, Any]) -> CLIPTextConfig:
    """The configuration of a text encoder that knows the marks of `_tokenizer`."""
    last = len(vocabulary()) - 1
    return CLIPTextConfig(
        vocab_size=49408, max_position_embeddings=TOKENS, bos_token_id=last - 1, eos_token_id=last, pad_token_id=last,
        **given,
    )  # fmt: skip


def _tokenizer() -> CLIPTokenizer:
    return CLIPTokenizer(vocab={t: i for i, t in enumerate(vocabulary())}, merges=[], model_max_length=TOKENS)


def vocabulary() -> list[str]:
    """Letters, and the two marks: enough for a tokenizer whose text encoder has learned nothing."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    return [*letters, *(f"{c}</w>" for c in letters), "<|startoftext|>", "<|endoftext|>"]
