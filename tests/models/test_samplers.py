"""Samplers that pass over zero terminal SNR give way to one that does not, and users are told."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    CogVideoXDDIMScheduler,
    DDIMInverseScheduler,
    DDIMScheduler,
    DPMSolverMultistepInverseScheduler,
    DPMSolverMultistepScheduler,
    HeunDiscreteScheduler,
    LMSDiscreteScheduler,
    PNDMScheduler,
    RePaintScheduler,
    StableDiffusionPipeline,
)
from PIL import Image
from safetensors.torch import save_file

from memfix.errors import MemfixError
from memfix.models import loading, single_file
from memfix.models.model import DiffusionModel
from memfix.models.samplers import ZERO_SNR
from memfix.models.sampling import plan_samples
from memfix.records import Prompt
from tests.conftest import tiny_pipeline
from tests.original_layout import original_state


def drawn(model: DiffusionModel) -> list[Image.Image]:
    """Two pictures of two steps."""
    return model.sample(plan_samples([Prompt(id="p", text="disc")], range(2), steps=2, guidance=3.0), "no")


def by_diffusers(pipe: StableDiffusionPipeline) -> list[Image.Image]:
    seeds = [torch.Generator().manual_seed(seed) for seed in range(2)]
    pipe.set_progress_bar_config(disable=True)
    found: list[Image.Image] = pipe(["disc"] * 2, generator=seeds, num_inference_steps=2, guidance_scale=3.0).images
    return found


def alike(some: list[Image.Image], others: list[Image.Image]) -> bool:
    """But for how a level of 255 is rounded."""
    return all(np.abs(np.asarray(a, int) - np.asarray(b, int)).max() <= 1 for a, b in zip(some, others, strict=True))


@pytest.mark.parametrize("kind", [PNDMScheduler, LMSDiscreteScheduler, HeunDiscreteScheduler])
def test_a_folder_whose_sampler_passes_over_its_noise_is_drawn_by_ddim(tmp_path: Path, kind: type) -> None:
    pipe = tiny_pipeline("v_prediction")
    pipe.register_modules(scheduler=kind.from_config(pipe.scheduler.config, skip_prk_steps=True))
    pipe.save_pretrained(tmp_path)
    plain = loading.load(loading.locate(str(tmp_path)))
    assert plain.remarks == [] and alike(drawn(plain), by_diffusers(StableDiffusionPipeline.from_pretrained(tmp_path)))
    config = tmp_path / "scheduler/scheduler_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {ZERO_SNR: True}))
    model = loading.load(loading.locate(str(tmp_path)))
    (told,) = model.remarks
    assert kind.__name__ in told and "DDIMScheduler" in told
    own = pipe.scheduler.config
    wanted = DDIMScheduler(
        beta_start=own.beta_start, beta_end=own.beta_end, beta_schedule=own.beta_schedule, clip_sample=False,
        set_alpha_to_one=own.get("set_alpha_to_one", True), prediction_type="v_prediction",
        rescale_betas_zero_snr=True, timestep_spacing="trailing",
    )  # fmt: skip
    pipe.register_modules(scheduler=wanted)
    assert alike(drawn(model), by_diffusers(pipe)) and not alike(drawn(model), drawn(plain))


def test_one_that_knows_of_it_stays(tmp_path: Path) -> None:
    pipe = tiny_pipeline("v_prediction")
    pipe.register_modules(scheduler=DPMSolverMultistepScheduler.from_config(pipe.scheduler.config, **{ZERO_SNR: True}))
    pipe.save_pretrained(tmp_path)
    model = loading.load(loading.locate(str(tmp_path)))
    assert model.remarks == [] and type(model._pipe.scheduler) is DPMSolverMultistepScheduler


def test_a_file_that_is_marked_so_is_drawn_down_to_noise_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of Stable Diffusion 1 are built with PNDM, which cannot."""
    pipe = tiny_pipeline("v_prediction")
    pipe.register_modules(scheduler=PNDMScheduler.from_config(pipe.scheduler.config, skip_prk_steps=True))
    pipe.save_pretrained(tmp_path / "configs/sd1")
    monkeypatch.setattr(single_file, "CONFIGS", tmp_path / "configs")
    file = tmp_path / "marked.safetensors"
    save_file(original_state(pipe) | {"v_pred": torch.ones(1), "ztsnr": torch.ones(1)}, file)
    model = loading.load(loading.locate(str(file)))
    assert any("PNDMScheduler" in told for told in model.remarks)
    assert float(model._pipe.scheduler.alphas_cumprod[-1]) == 0 and model.timesteps(4)[0] == 999


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (DDIMInverseScheduler, "goes from pictures to noise"),
        (DPMSolverMultistepInverseScheduler, "goes from pictures to noise"),
        (RePaintScheduler, "takes its steps only with original_image and mask"),
        (CogVideoXDDIMScheduler, "draws with other noise than its betas say"),
    ],
)
def test_a_scheduler_that_draws_no_pictures_of_texts_is_refused_by_name(tmp_path: Path, kind: type, why: str) -> None:
    pipe = tiny_pipeline()
    pipe.register_modules(scheduler=kind.from_config(pipe.scheduler.config))
    pipe.save_pretrained(tmp_path)
    with pytest.raises(MemfixError, match=f"has a {kind.__name__}, which {why}"):
        loading.load(loading.locate(str(tmp_path)))
