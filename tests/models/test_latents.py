"""What the autoencoder makes of pictures, and pictures of a size that is not the model's own."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from memfix.config.checks import DetectSettings
from memfix.errors import MemfixError
from memfix.models import loading
from memfix.models.latents import BATCH, LatentSpace
from memfix.models.sampling import plan_samples
from memfix.records import Prompt
from tests.conftest import picture, tiny_pipeline


@pytest.fixture(scope="module")
def pipe(tmp_path_factory: pytest.TempPathFactory) -> StableDiffusionPipeline:
    folder: Path = tmp_path_factory.mktemp("model")
    tiny_pipeline(latent_size=(8, 12)).save_pretrained(folder)
    return StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)


def test_drawn_pictures_are_those_of_the_autoencoder_alone(pipe: StableDiffusionPipeline) -> None:
    space = LatentSpace(pipe)
    height, width = space.picture_size
    images = [picture(i, 40) for i in range(BATCH + 1)]  # squares, which are squeezed and not cut
    drawn = space.drawn(images)
    assert [d.size for d in drawn] == [(width, height)] * len(images)
    for image, found in zip(images, drawn, strict=True):
        x = (
            torch.from_numpy(np.array(image.resize((width, height), Image.Resampling.LANCZOS))).permute(2, 0, 1)[None]
            / 127.5
            - 1
        )
        with torch.no_grad():
            y = pipe.vae.decode(pipe.vae.encode(x).latent_dist.mean).sample[0]
        wanted = ((y / 2 + 0.5).clamp(0, 1) * 255).permute(1, 2, 0).numpy()
        assert np.abs(np.asarray(found, np.float32) - wanted).max() <= 1


def test_no_pictures_are_drawn_as_none(pipe: StableDiffusionPipeline) -> None:
    assert LatentSpace(pipe).drawn([]) == []


def test_pictures_of_another_size(model_folder: Path) -> None:
    source = loading.locate(str(model_folder))
    model = loading.load(source, DetectSettings(resolution=32, width=16).picture_size)
    assert model.latents.picture_size == (32, 16) and model.latents.shape == (4, 16, 8)
    (image,) = model.sample(plan_samples([Prompt(id="p", text="t")], [0], steps=1, guidance=1.0), "no")
    assert image.size == (16, 32)
    with pytest.raises(MemfixError, match="multiples of 8"):
        loading.load(source, DetectSettings(height=20).picture_size)
