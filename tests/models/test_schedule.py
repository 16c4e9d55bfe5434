"""Schedules that end in noise alone: what a prompt does is seen there too, and nothing is divided by nothing."""

from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler

from memfix.errors import MemfixError
from memfix.models import loading
from memfix.models.ddim import denoise, invert
from memfix.models.model import DiffusionModel
from memfix.models.schedule import NoiseSchedule
from memfix.models.walk import Pull
from memfix.screens import SCREENS
from memfix.screens.sampling import Sampling
from tests.conftest import tiny_pipeline


def loaded(folder: Path, prediction_type: str, zero: bool, kind: type = DDIMScheduler) -> DiffusionModel:
    pipe = tiny_pipeline(prediction_type)
    told = {"rescale_betas_zero_snr": zero, "timestep_spacing": "trailing"}
    pipe.register_modules(scheduler=kind.from_config(pipe.scheduler.config, **told))
    pipe.save_pretrained(folder)
    return loading.load(loading.locate(str(folder)))


@pytest.mark.parametrize("name", ["magnitude", "anisotropy", "curvature", "consistency", "fine_detail", "agreement"])
def test_screens_tell_prompts_apart_from_noise_alone(tmp_path: Path, name: str) -> None:
    """At the first step, where the ε of both would be the noise itself."""
    model = loaded(tmp_path, "v_prediction", zero=True)
    sampling = Sampling((0, 1), 1, 3, 3.0)
    assert model.timesteps(3)[0] == 999 and float(model.schedule.signal_scale[-1]) < 1e-3
    one, other = SCREENS[name](model, ["a cat", "dog"], sampling).tolist()
    assert abs(one - other) > 1e-4 * abs(one) and abs(one) > 1e-4


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_the_pull_is_the_difference_of_noises_where_there_is_a_signal(tmp_path: Path, kind: str) -> None:
    model = loaded(tmp_path, kind, zero=False)
    x = torch.randn(2, *model.latents.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for t in (0, 500, 999):
            pull = Pull(model, ["a cat"], 2)
            with_prompt, without = pull.noises(x, t)
            torch.testing.assert_close(pull(x, t), with_prompt - without, atol=1e-5, rtol=1e-3)


def test_steps_from_noise_alone_give_numbers(tmp_path: Path) -> None:
    model = loaded(tmp_path, "v_prediction", zero=True)
    noise = invert(model, "a cat", torch.zeros(1, *model.latents.shape), 4, "no")
    assert noise.isfinite().all() and denoise(model, "a cat", noise, 4, 3.0, "no").isfinite().all()


def test_steps_under_an_epsilon_begin_where_it_says_something_of_the_picture(tmp_path: Path) -> None:
    """From noise alone a small error of an ε would be thousands of times as large in the picture."""
    model = loaded(tmp_path, "epsilon", zero=True, kind=EulerDiscreteScheduler)
    assert 800 < model.schedule.last < 999
    picture = torch.randn(1, *model.latents.shape, generator=torch.Generator().manual_seed(0))
    noise = invert(model, "a cat", picture, 4, "no")
    assert float(denoise(model, "a cat", noise, 4, 1.0, "no").std()) < 50  # it was 1277, of an untrained network
    for zero, kind in ((False, "epsilon"), (True, "v_prediction")):
        assert loaded(tmp_path / kind, kind, zero).schedule.last == 999


def test_a_sampler_that_divides_by_no_signal_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MemfixError, match="ends in noise alone") as caught:
        loaded(tmp_path, "epsilon", zero=True)
    assert "rescale_betas_zero_snr" in caught.value.hint


def test_an_answer_in_noise_alone_stands_for_a_picture() -> None:
    """What prior items are held to under an ε is finite, and seen from the same point it is that ε."""
    schedule = NoiseSchedule(DDIMScheduler(rescale_betas_zero_snr=True, beta_schedule="scaled_linear"))
    generator = torch.Generator().manual_seed(0)
    noisy, answer = (torch.randn(1, 4, 8, 8, generator=generator) for _ in range(2))
    clean, signal, noise = schedule.clean(answer, noisy, 999), schedule.signal_scale[999], schedule.noise_scale[999]
    assert clean.isfinite().all()
    torch.testing.assert_close((noisy - float(signal) * clean) / float(noise), answer, atol=1e-4, rtol=1e-4)
