"""Tiny pipelines as single files in the original layout, which trainers and user interfaces share."""

from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint
from safetensors.torch import save_file

UNET, VAE, CLIP = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer."
CLIP_OF_XL, OPEN_CLIP_OF_XL = "conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."
RESNET = ("in_layers.0", "in_layers.2", "emb_layers.1", "out_layers.0", "out_layers.3", "skip_connection")
READING = [f"attn{a}.{t}" for a in (1, 2) for t in ("to_q", "to_k", "to_v", "to_out.0")]
BLOCK = [*READING, "ff.net.0.proj", "ff.net.2", "norm1", "norm2", "norm3"]
ATTENTION = ("norm", "proj_in", "proj_out", *(f"transformer_blocks.0.{layer}" for layer in BLOCK))


def unet_names(pipe: StableDiffusionPipeline) -> dict[str, str]:
    """Name in diffusers → name in the original layout, of every weight of the UNet.

    Each name that the layout may have is shown to the converter of diffusers, which says what becomes of it.
    """
    wanted = pipe.unet.state_dict()
    each = pipe.unet.config.layers_per_block + 1
    many = len(pipe.unet.config.block_out_channels) * each
    both = [(0, layer) for layer in RESNET] + [(1, layer) for layer in ATTENTION]
    places = ["input_blocks.0.0", "time_embed.0", "time_embed.2", "out.0", "out.2", "label_emb.0.0", "label_emb.0.2"]
    places += [f"input_blocks.{i}.{j}.{layer}" for i in range(1, many) for j, layer in both]
    places += [f"input_blocks.{i}.0.op" for i in range(1, many)]
    places += [f"middle_block.{i}.{layer}" for i in range(3) for layer in (ATTENTION if i == 1 else RESNET)]
    places += [f"output_blocks.{i}.{j}.{layer}" for i in range(many) for j, layer in both]
    for i in range(many):
        reads = any(name.startswith(f"up_blocks.{i // each}.attentions") for name in wanted)
        places.append(f"output_blocks.{i}.{2 if reads else 1}.conv")
    names = {f"{UNET}{place}.{end}": f"{UNET}{place}.{end}" for place in places for end in ("weight", "bias")}
    found = {new: old for new, old in convert_ldm_unet_checkpoint(names, pipe.unet.config).items() if new in wanted}
    assert found.keys() == wanted.keys(), sorted(wanted.keys() - found.keys())
    return found


def vae_names(pipe: StableDiffusionPipeline) -> dict[str, str]:
    """The same of the VAE."""
    levels, layers = len(pipe.vae.config.block_out_channels), pipe.vae.config.layers_per_block
    resnet, attention = ("norm1", "conv1", "norm2", "conv2", "nin_shortcut"), ("norm", "q", "k", "v", "proj_out")
    places = ["quant_conv", "post_quant_conv"]
    for half, way, sampled in (("encoder", "down", "downsample"), ("decoder", "up", "upsample")):
        places += [f"{half}.{n}" for n in ("conv_in", "conv_out", "norm_out")]
        places += [f"{half}.{way}.{i}.block.{j}.{n}" for i in range(levels) for j in range(layers + 1) for n in resnet]
        places += [f"{half}.{way}.{i}.{sampled}.conv" for i in range(levels)]
        places += [
            f"{half}.mid.{b}.{n}"
            for b, own in (("block_1", resnet), ("block_2", resnet), ("attn_1", attention))
            for n in own
        ]
    names = {f"{VAE}{place}.{end}": f"{VAE}{place}.{end}" for place in places for end in ("weight", "bias")}
    shaped = {name: torch.tensor(float(i)).reshape(1, 1, 1, 1) for i, name in enumerate(names)}
    told = convert_ldm_vae_checkpoint(shaped, pipe.vae.config)
    listed = list(names)
    return {
        new: listed[int(value)] for new, value in told.items() if value is not None and new in pipe.vae.state_dict()
    }


def original_state(pipe: StableDiffusionPipeline) -> dict[str, torch.Tensor]:
    """All weights of a pipeline under their original names."""
    state = {old: pipe.unet.state_dict()[new] for new, old in unet_names(pipe).items()}
    for new, old in vae_names(pipe).items():
        weight = pipe.vae.state_dict()[new]
        state[old] = weight[:, :, None, None] if ".attn_1." in old and weight.ndim == 2 else weight
    two = hasattr(pipe, "text_encoder_2")
    first = CLIP_OF_XL if two else CLIP
    state |= {f"{first}text_model.{name}": weight for name, weight in pipe.text_encoder.state_dict().items()}
    if two:
        own = {name.removeprefix("text_model."): w for name, w in pipe.text_encoder_2.state_dict().items()}
        projection = own.pop("text_projection.weight").T
        state |= in_open_clips_words(own, OPEN_CLIP_OF_XL) | {f"{OPEN_CLIP_OF_XL}text_projection": projection}
    return {name: weight.contiguous().clone() for name, weight in state.items()}


def save_original(pipe: StableDiffusionPipeline, file: Path, metadata: dict[str, str] | None = None) -> Path:
    """Write a pipeline as one file in the original layout."""
    save_file(original_state(pipe), file, metadata)
    return file


def in_open_clips_words(
    texts: dict[str, torch.Tensor], prefix: str = "cond_stage_model.model."
) -> dict[str, torch.Tensor]:
    """The weights of a text encoder as files of Stable Diffusion 2 name them, q, k and v in one."""
    found = dict[str, torch.Tensor]()
    names = {
        "embeddings.token_embedding.weight": "token_embedding.weight", "final_layer_norm": "ln_final",
        "embeddings.position_embedding.weight": "positional_embedding", "encoder.layers": "transformer.resblocks",
        "layer_norm1": "ln_1", "layer_norm2": "ln_2", "fc1": "c_fc", "fc2": "c_proj", "self_attn": "attn",
    }  # fmt: skip
    for name, weight in texts.items():
        for own, other in names.items():
            name = name.replace(own, other)
        for side in ("weight", "bias"):
            if name.endswith(f"q_proj.{side}"):
                key = f"{prefix}{name.removesuffix(f'q_proj.{side}')}in_proj_{side}"
                layer = f"encoder.layers.{name.split('.')[2]}.self_attn"
                found[key] = torch.cat([texts[f"{layer}.{letter}_proj.{side}"] for letter in "qkv"])
        if "q_proj" not in name and "k_proj" not in name and "v_proj" not in name:
            found[prefix + name] = weight.clone()
    return found
