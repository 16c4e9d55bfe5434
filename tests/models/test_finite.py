"""Numbers that are none stop the work, and the first layer that makes them is named."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline

from memfix.errors import MemfixError
from memfix.models import loading
from memfix.models.model import DiffusionModel
from memfix.models.sampling import plan_samples
from memfix.records import Prompt
from tests.conftest import picture, tiny_pipeline

PLAN = plan_samples([Prompt(id="p", text="a cat")], [1, 2], steps=2, guidance=3.0)


@pytest.fixture
def pipe() -> StableDiffusionPipeline:
    pipe = tiny_pipeline()
    pipe.set_progress_bar_config(disable=True)
    return pipe


def in_denoiser(pipe: StableDiffusionPipeline) -> None:
    pipe.unet.mid_block.resnets[0].conv1.bias.data[0] = torch.nan


def in_decoder(pipe: StableDiffusionPipeline) -> None:
    pipe.vae.decoder.conv_in.weight.data[0] = torch.inf


def in_last_layer(pipe: StableDiffusionPipeline) -> None:
    """What it makes infinite is not lost in a layer behind it; as a colour it would be white."""
    pipe.vae.decoder.conv_out.bias.data[0] = torch.inf


def in_text_encoder(pipe: StableDiffusionPipeline) -> None:
    *_, last = (m for m in pipe.text_encoder.modules() if isinstance(m, torch.nn.LayerNorm))
    last.weight.data[0] = torch.nan


PLACES = [
    (in_denoiser, "unet.mid_block.resnets.0.conv1"),
    (in_decoder, "vae.decoder.conv_in"),
    (in_last_layer, "vae.decoder.conv_out"),
    (in_text_encoder, "text_encoder."),
]


@pytest.mark.parametrize(("damage", "layer"), PLACES)
def test_weights_that_are_no_numbers_are_not_loaded(
    damage: Callable[[StableDiffusionPipeline], None], layer: str, pipe: StableDiffusionPipeline, tmp_path: Path
) -> None:
    damage(pipe)
    pipe.save_pretrained(tmp_path / "model")
    with pytest.raises(MemfixError, match="weights that are not numbers") as caught:
        loading.load(loading.locate(str(tmp_path / "model")))
    assert layer in caught.value.message


@pytest.mark.parametrize(("damage", "layer"), PLACES)
def test_pictures_that_are_no_numbers_name_the_first_layer(
    damage: Callable[[StableDiffusionPipeline], None], layer: str, pipe: StableDiffusionPipeline
) -> None:
    """As half precision does it, with weights that are whole; the text encoder comes before all others."""
    damage(pipe)
    with pytest.raises(MemfixError, match="The first layer that does") as caught:
        DiffusionModel(pipe).sample(PLAN, "no")
    assert layer in caught.value.message
    with pytest.raises(MemfixError, match="The first layer that does"):
        DiffusionModel(pipe).sample_from([picture(0)] * 2, PLAN, 0.9, "no")


def test_latents_that_are_no_numbers_name_the_first_layer(pipe: StableDiffusionPipeline) -> None:
    pipe.vae.encoder.conv_in.weight.data[0] = torch.nan
    with pytest.raises(MemfixError, match=r"The first layer that does: vae\.encoder\.conv_in"):
        list(DiffusionModel(pipe).latents.encode([picture(0)]))


def test_whole_models_are_not_watched(pipe: StableDiffusionPipeline) -> None:
    model = DiffusionModel(pipe)
    model.require_finite_weights("the model")
    assert len(model.sample(PLAN, "no")) == 2
    assert not any(layer._forward_hooks for layer in pipe.unet.modules())


def test_an_adapter_that_is_no_number_is_refused(model_folder: Path, tmp_path: Path) -> None:
    model = loading.load(loading.locate(str(model_folder)))
    model.adapters.add(2)
    next(p for name, p in model.denoiser.module.named_parameters() if "lora_B" in name).data[0] = torch.nan
    model.adapters.save(tmp_path)
    fresh = loading.load(loading.locate(str(model_folder)))
    with pytest.raises(MemfixError, match=r"weights that are not numbers.*unet\."):
        fresh.adapters.fuse(tmp_path)
