"""What a dry run says of the model, and of the time that sampling takes."""

from pathlib import Path

import pytest

from memfix.config.checks import DetectSettings
from memfix.errors import MemfixError
from memfix.flow.outlook import is_here, outlook


def test_a_model_that_is_here_is_looked_at_and_timed(model_folder: Path) -> None:
    settings = DetectSettings(model=str(model_folder), num_inference_steps=10, mixed_precision="no")
    found = outlook(settings, 100)
    assert found["model_here"] and found["loaded_by"] == "StableDiffusionPipeline" and found["weights"] > 1000
    assert isinstance(found["seconds_of_sampling"], int)


def test_nothing_is_downloaded() -> None:
    settings = DetectSettings(model="somebody/no-such-model")
    assert not is_here(settings)
    assert outlook(settings, 1) == {
        "model": settings.model, "model_here": False, "seconds_of_sampling": None
    }  # fmt: skip


def test_what_is_no_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MemfixError, match="not a diffusers model"):
        outlook(DetectSettings(model=str(tmp_path)), 1)
    with pytest.raises(MemfixError, match="There is no model at nowhere"):
        outlook(DetectSettings(model="nowhere"), 1)
