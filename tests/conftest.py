"""A real Stable Diffusion pipeline, small enough to sample in milliseconds, and pictures to go with it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from PIL import Image, ImageDraw
from tokenizers import pre_tokenizers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from memfix.measures import weights

TOKENS = 16


@pytest.fixture(autouse=True, scope="session")
def own_trust(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What tests vouch for is forgotten with them."""
    file = tmp_path_factory.mktemp("trust") / "trusted-weights"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weights, "vouched_file", lambda: file)
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that no worker is left alone with a long one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def tiny_pipeline(prediction_type: str = "epsilon", latent_size: int | tuple[int, int] = 8) -> StableDiffusionPipeline:
    torch.manual_seed(0)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*letters, *(f"{c}</w>" for c in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(vocab={t: i for i, t in enumerate(tokens)}, merges=[], model_max_length=TOKENS)
    text = CLIPTextConfig(
        vocab_size=len(tokens), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=TOKENS, bos_token_id=len(tokens) - 2, eos_token_id=len(tokens) - 1,
        pad_token_id=len(tokens) - 1,
    )  # fmt: skip
    unet = UNet2DConditionModel(
        sample_size=latent_size, in_channels=4, out_channels=4, block_out_channels=(8, 16), layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=16, attention_head_dim=2, norm_num_groups=4,
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(8, 8), layers_per_block=1, latent_channels=4, norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, sample_size=16,
    )  # fmt: skip
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
        prediction_type=prediction_type,
    )  # fmt: skip
    return StableDiffusionPipeline(
        vae=vae, text_encoder=CLIPTextModel(text), tokenizer=tokenizer, unet=unet, scheduler=scheduler,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def tiny_xl(prediction_type: str = "epsilon", latent_size: int = 8, layers: int = 2) -> StableDiffusionXLPipeline:
    """Two text encoders of different widths, tokenizers that fill up differently, and a denoiser that is told sizes."""
    base = tiny_pipeline(prediction_type, latent_size)
    own = base.text_encoder.config.to_dict() | {"num_hidden_layers": layers}
    first = CLIPTextConfig(**own)
    second = CLIPTextConfig(**own | {"hidden_size": 24, "num_attention_heads": 3, "projection_dim": 12})
    other = CLIPTokenizer(
        vocab=base.tokenizer.get_vocab(), merges=[], model_max_length=TOKENS, pad_token="!",
    )  # fmt: skip
    unet = UNet2DConditionModel(**dict(base.unet.config) | {
        "cross_attention_dim": 16 + 24, "addition_embed_type": "text_time", "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 6 * 8 + 12, "use_linear_projection": True,
    })  # fmt: skip
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="leading", steps_offset=1,
        prediction_type=prediction_type,
    )  # fmt: skip
    pipe = StableDiffusionXLPipeline(
        vae=base.vae, text_encoder=CLIPTextModel(first), text_encoder_2=CLIPTextModelWithProjection(second),
        tokenizer=base.tokenizer, tokenizer_2=other, unet=unet, scheduler=scheduler, add_watermarker=False,
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="session")
def xl_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("xl")
    tiny_xl().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tiny_pipeline().save_pretrained(folder)
    return folder


def picture(seed: int, size: int = 64) -> Image.Image:
    """A coloured page with a disc somewhere on it."""
    generator = torch.Generator().manual_seed(seed)
    page, disc, place = (torch.randint(256, (3,), generator=generator).tolist() for _ in range(3))
    image = Image.new("RGB", (size, size), tuple(page))
    x, y = place[0] * size // 256, place[1] * size // 256
    ImageDraw.Draw(image).ellipse((x - size // 4, y - size // 4, x + size // 4, y + size // 4), fill=tuple(disc))
    return image


@pytest.fixture(scope="session")
def reference_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("references")
    rows = []
    for i in range(4):
        picture(i).save(folder / f"{i}.png")
        rows.append(json.dumps({"file_name": f"{i}.png", "text": f"disc {i}"}))
    (folder / "metadata.jsonl").write_text("\n".join(rows) + "\n")
    return folder
