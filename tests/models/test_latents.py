"""Pictures of a size that is not the model's own."""

from pathlib import Path

import pytest

from memfix.config.checks import DetectSettings
from memfix.errors import MemfixError
from memfix.models import loading
from memfix.models.sampling import plan_samples
from memfix.records import Prompt


def test_pictures_of_another_size(model_folder: Path) -> None:
    source = loading.locate(str(model_folder))
    model = loading.load(source, DetectSettings(resolution=32, width=16).picture_size)
    assert model.latents.picture_size == (32, 16) and model.latents.shape == (4, 16, 8)
    (image,) = model.sample(plan_samples([Prompt(id="p", text="t")], [0], steps=1, guidance=1.0), "no")
    assert image.size == (16, 32)
    with pytest.raises(MemfixError, match="multiples of 8"):
        loading.load(source, DetectSettings(height=20).picture_size)
