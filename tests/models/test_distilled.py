"""Models that were made for few steps: told by name or sampler, and warned of under other settings."""

from pathlib import Path

import pytest
from diffusers import LCMScheduler, UNet2DConditionModel

from memfix.errors import MemfixError
from memfix.models import loading
from memfix.models.model import DiffusionModel
from tests.conftest import tiny_pipeline


@pytest.mark.parametrize(
    ("name", "steps", "guidance", "told"),
    [
        ("stabilityai/sd-turbo", 50, 7.5, "--num-inference-steps 4 --guidance-scale 1"),
        ("models/DreamShaper_Lightning.safetensors", 4, 7.5, "(lightning)"),
        ("ByteDance/Hyper-SD", 50, 1.0, "--num-inference-steps 8"),
        ("stabilityai/sd-turbo", 4, 1.0, ""),
        ("turbo/stable-diffusion-v1-4", 50, 7.5, ""),
        ("turbolence", 50, 7.5, ""),
        ("ordinary", 1, 0.0, "in 1 step and without guidance"),
        ("ordinary", 50, 1.0, "drawn without guidance"),
        ("ordinary", 3, 7.5, "drawn in 3 steps, as"),
        ("ordinary", 4, 3.0, ""),
    ],
)
def test_a_name_tells(name: str, steps: int, guidance: float, told: str) -> None:
    found = DiffusionModel(tiny_pipeline()).ill_sampled(name, steps, guidance)
    assert told in found and bool(found) is bool(told)


def test_a_sampler_tells() -> None:
    pipe = tiny_pipeline()
    pipe.register_modules(scheduler=LCMScheduler.from_config(pipe.scheduler.config))
    assert "(lcm)" in DiffusionModel(pipe).ill_sampled("model", 50, 7.5)


def test_a_network_that_is_told_the_guidance_is_refused(tmp_path: Path) -> None:
    pipe = tiny_pipeline()
    pipe.register_modules(unet=UNet2DConditionModel(**dict(pipe.unet.config) | {"time_cond_proj_dim": 8}))
    pipe.save_pretrained(tmp_path)
    with pytest.raises(MemfixError, match="told the guidance itself"):
        loading.load(loading.locate(str(tmp_path)))
