"""Models that were made for few steps: told by name or sampler, and warned of under other settings."""

from pathlib import Path

import pytest
import torch
from diffusers import LCMScheduler, UNet2DConditionModel
from safetensors.torch import save_file

from memfix.errors import MemfixError
from memfix.models import loading
from memfix.models.model import DiffusionModel
from memfix.models.xl import XLModel
from tests.conftest import tiny_pipeline, tiny_xl


@pytest.mark.parametrize(
    ("name", "steps", "guidance", "told"),
    [
        ("stabilityai/sd-turbo", 50, 7.5, "--num-inference-steps 4 --guidance-scale 1"),
        ("models/DreamShaper_Lightning.safetensors", 4, 7.5, "(lightning)"),
        ("ByteDance/Hyper-SD", 50, 1.0, "--num-inference-steps 8"),
        ("stabilityai/sd-turbo", 4, 1.0, ""),
        ("turbo/stable-diffusion-v1-4", 50, 7.5, ""),
        ("dreamshaperXL_v21TurboDPMSDE.safetensors", 50, 7.5, "(turbo)"),
        ("realvisxlV50_v50LightningBakedvae.safetensors", 50, 7.5, "(lightning)"),
        ("juggernautXL_juggXILightningByRD.safetensors", 50, 7.5, "(lightning)"),
        ("SDXLTurbo", 50, 7.5, "(turbo)"),
        ("sdxlLCM", 50, 7.5, "(lcm)"),
        ("LCMlora", 50, 7.5, "(lcm)"),
        ("wildcardxTURBO_wildcardxTURBOV10", 50, 7.5, "(turbo)"),
        ("hyperSDXL", 50, 7.5, "(hyper)"),
        ("turbovisionxlSuperFastXL", 50, 7.5, "(turbovisionxl)"),
        ("Hyperrealism_v3", 50, 7.5, ""),
        ("turbolence", 50, 7.5, ""),
        ("ordinary", 1, 0.0, "in 1 step and without guidance"),
        ("ordinary", 50, 1.0, "drawn without guidance"),
        ("ordinary", 3, 7.5, "drawn in 3 steps, as"),
        ("ordinary", 4, 3.0, ""),
        ("ordinary", 1, 7.5, "--num-inference-steps 50 --guidance-scale 7.5"),
        ("demo", 1, 3.0, "--num-inference-steps 12 --guidance-scale 3,"),
    ],
)
def test_a_name_tells(name: str, steps: int, guidance: float, told: str) -> None:
    found = DiffusionModel(tiny_pipeline()).ill_sampled(name, steps, guidance)
    assert told in found and bool(found) is bool(told)


@pytest.mark.parametrize(
    ("file", "metadata", "word"),
    [
        ("lcm-lora-sdv1-5.safetensors", {}, "lcm"),
        ("Hyper-SD15-8steps-CFG-lora.safetensors", {}, "hyper"),
        ("sdxl_lightning_4step_lora.safetensors", {}, "lightning"),
        ("SDXL-Turbo-LoRA.safetensors", {}, "turbo"),
        ("TCD-SD15-LoRA/pytorch_lora_weights.safetensors", {}, "tcd"),
        ("models--latent-consistency--lcm-lora-sdv1-5/snapshots/1a/pytorch_lora_weights.safetensors", {}, "lcm"),
        ("mine.safetensors", {"ss_output_name": "dmd2_sdxl_4step_lora"}, "dmd"),
        ("mine.safetensors", {"modelspec.title": "LCM for portraits"}, "lcm"),
        ("lcm/portrait.safetensors", {"ss_sd_model_name": "sd_xl_turbo_1.0.safetensors"}, ""),
        ("portrait.safetensors", {}, ""),
    ],
)  # fmt: skip
def test_a_lora_tells_by_its_file_and_its_metadata(
    tmp_path: Path, file: str, metadata: dict[str, str], word: str
) -> None:
    """One of several is enough. At the settings that it was made for nothing is said, and of any other something is."""
    for path, told in ((tmp_path / file, metadata), (tmp_path / "style.safetensors", {})):
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({"unet.x.lora_A.weight": torch.zeros(1, 1)}, path, told)
    model, both = DiffusionModel(tiny_pipeline()), [tmp_path / "style.safetensors", tmp_path / file]
    found = model.ill_sampled("model", 50, 7.5, both)
    assert (f"({word})" in found and file in found) if word else not found
    assert bool(model.ill_sampled("model", 4, 1.0, both)) is not bool(word)


def test_a_larger_model_is_sampled_with_less_guidance() -> None:
    told = XLModel(tiny_xl()).ill_sampled("ordinary", 1, 7.5)
    assert "--num-inference-steps 50 --guidance-scale 5," in told


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
