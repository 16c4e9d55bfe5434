"""Every screen against a plain computation, one prompt, one seed, one UNet call at a time; and batch independence."""

import math
from itertools import combinations, islice

import pytest
import torch
from diffusers import EulerAncestralDiscreteScheduler
from direct import Direct, flat_cosine

from memfix.errors import MemfixError
from memfix.models.device import autocast
from memfix.models.model import DiffusionModel
from memfix.screens import SCREENS, get_screen
from memfix.screens.base import probe
from memfix.screens.bright_ending import bright_ending_with_masks
from memfix.screens.fine_detail import high_pass
from memfix.screens.sampling import Sampling
from tests.conftest import TOKENS, tiny_pipeline

PROMPTS = ["a cat", "dog", "a very long prompt that is cut"]
SAMPLING = Sampling(seeds=(3, 4, 5), steps=2, num_inference_steps=4, guidance_scale=3.0)


@pytest.fixture(scope="module", params=["epsilon", "v_prediction"])
def parts(request: pytest.FixtureRequest) -> tuple[DiffusionModel, Direct]:
    pipe = tiny_pipeline(request.param)
    for module in (pipe.unet, pipe.text_encoder):
        module.requires_grad_(False).eval()
    return DiffusionModel(pipe), Direct(pipe, SAMPLING.num_inference_steps, SAMPLING.guidance_scale)


def magnitude(direct: Direct, text: str) -> float:
    norms = [
        direct.difference(x, t, text).norm() for seed in SAMPLING.seeds for t, x in direct.walk(text, seed)[:2]
    ]  # fmt: skip
    return float(sum(norms) / len(norms))


def anisotropy(direct: Direct, text: str) -> float:
    first, last = direct.timesteps()[0], direct.timesteps()[-1]
    total = 0.0
    for seed in SAMPLING.seeds:
        x = direct.noise(seed)
        d, e = direct.difference(x, last, text)[0], direct.epsilon(x, last, "")[0]
        cosines = [float(d[:, i, j] @ e[:, i, j] / (d[:, i, j].norm() * e[:, i, j].norm()))
                   for i in range(8) for j in range(8)]  # fmt: skip
        total += float(direct.difference(x, first, text).norm()) + 2 * sum(cosines) / 64
    return total / len(SAMPLING.seeds)


def curvature(direct: Direct, text: str) -> float:
    """By a central difference in float64."""
    direct.pipe.unet.double()
    direct.pipe.text_encoder.double()
    total, t, h = 0.0, direct.timesteps()[0], 1e-4
    for seed in SAMPLING.seeds:
        x = direct.noise(seed).double()
        d = direct.difference(x, t, text)
        total += float((direct.difference(x + h * d, t, text) - direct.difference(x - h * d, t, text)).norm() / (2 * h))
    direct.pipe.unet.float()
    direct.pipe.text_encoder.float()
    return total / len(SAMPLING.seeds)


def consistency(direct: Direct, text: str) -> float:
    walks = [direct.walk(text, seed) for seed in SAMPLING.seeds]
    cosines = [
        flat_cosine(direct.difference(a[s][1], a[s][0], text), direct.difference(b[s][1], b[s][0], text))
        for a, b in combinations(walks, 2)
        for s in range(2)
    ]
    return sum(cosines) / len(cosines)


def agreement(direct: Direct, text: str) -> float:
    clean = [direct.clean(text, seed, SAMPLING.steps) for seed in SAMPLING.seeds]
    return -min(float((a - b).square().mean().sqrt()) for a, b in combinations(clean, 2))


def fine_detail(direct: Direct, text: str) -> float:
    """Every wave of the grid by its own projection."""
    walks, total = [direct.walk(text, seed) for seed in SAMPLING.seeds], 0.0
    place = torch.arange(8.0)
    for s in range(2):
        d = sum(direct.difference(w[s][1], w[s][0], text) for w in walks)[0] / len(walks)
        energy = 0.0
        for i in range(8):
            for j in range(8):
                if math.hypot(min(i, 8 - i), min(j, 8 - j)) > 2:
                    wave = torch.exp(2j * math.pi * (i * place[:, None] + j * place[None]) / 8) / 8
                    energy += float((d * wave).sum((1, 2)).abs().square().sum())
        total += math.sqrt(energy)
    return total / 2


def end_attention(direct: Direct, x: torch.Tensor, t: int, text: str) -> torch.Tensor:
    """Attention to the end token by hand from each layer's queries and keys, mean over heads and 8 × 8 layers."""
    seen, hooks = [], []
    for name, module in direct.pipe.unet.named_modules():
        if name.endswith("attn2"):
            hooks.append(module.register_forward_pre_hook(
                lambda layer, args, kwargs: seen.append((layer, args[0], kwargs["encoder_hidden_states"])),
                with_kwargs=True))  # fmt: skip
    direct.epsilon(x, t, text)
    for hook in hooks:
        hook.remove()
    end = 1 + min(TOKENS - 2, len(direct.pipe.tokenizer(text).input_ids) - 2)
    maps = []
    for layer, hidden, context in seen:
        if hidden.shape[1] != 64:
            continue
        query, key = layer.to_q(hidden)[0], layer.to_k(context)[0]
        width = query.shape[1] // layer.heads
        for head in range(layer.heads):
            part = slice(head * width, (head + 1) * width)
            maps.append(torch.softmax(query[:, part] @ key[:, part].T / math.sqrt(width), dim=1)[:, end])
    assert len(maps) > 2
    return torch.stack(maps).mean(0).reshape(8, 8)


def bright_ending(direct: Direct, text: str) -> float:
    total = 0.0
    for seed in SAMPLING.seeds:
        walk = direct.walk(text, seed)
        mask = end_attention(direct, walk[-1][1], walk[-1][0], text)
        norms = [float((direct.difference(x, t, text) * mask).norm()) for t, x in walk]
        total += sum(norms) / len(norms) / float(mask.mean())
    return total / len(SAMPLING.seeds)


PLAIN = {f.__name__: f for f in (magnitude, anisotropy, curvature, consistency, bright_ending, agreement, fine_detail)}


def test_every_screen_has_a_plain_computation() -> None:
    assert PLAIN.keys() == SCREENS.keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", PLAIN)
@torch.no_grad()
def test_screen_is_the_plain_computation(parts: tuple[DiffusionModel, Direct], name: str) -> None:
    model, direct = parts
    expected = torch.tensor([PLAIN[name](direct, text) for text in PROMPTS])
    assert expected.std() > 30e-4 * expected.abs().mean()  # a mix-up of prompts would show
    torch.testing.assert_close(SCREENS[name](model, PROMPTS, SAMPLING), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SCREENS)
@pytest.mark.slow
def test_no_score_depends_on_its_batch(parts: tuple[DiffusionModel, Direct], name: str) -> None:
    together = SCREENS[name](parts[0], PROMPTS, SAMPLING)
    alone = torch.cat([SCREENS[name](parts[0], [text], SAMPLING) for text in PROMPTS])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SCREENS)
@pytest.mark.slow
def test_screens_run_in_half_precision(parts: tuple[DiffusionModel, Direct], name: str) -> None:
    full = SCREENS[name](parts[0], PROMPTS, SAMPLING)
    with autocast("bf16"):
        half = SCREENS[name](parts[0], PROMPTS, SAMPLING)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, full, rtol=0.1, atol=0.05)


@pytest.mark.parametrize("name", SCREENS)
def test_evaluations_are_those_that_are_made(parts: tuple[DiffusionModel, Direct], name: str) -> None:
    rows = 0

    def count(_: object, args: tuple[torch.Tensor, ...]) -> None:
        nonlocal rows
        rows += len(args[0])

    hook = parts[0].denoiser.module.register_forward_pre_hook(count)
    SCREENS[name](parts[0], PROMPTS, SAMPLING)
    hook.remove()
    assert rows == SCREENS[name].evaluations(SAMPLING) * len(PROMPTS) * len(SAMPLING.seeds)


def test_masks_are_those_of_the_end_token(parts: tuple[DiffusionModel, Direct]) -> None:
    model, direct = parts
    masks = bright_ending_with_masks(model, PROMPTS, SAMPLING).masks
    assert masks.shape == (3, 3, 8, 8)
    with torch.no_grad():
        t, x = direct.walk(PROMPTS[2], 4)[-1]
        torch.testing.assert_close(masks[2, 1], end_attention(direct, x, t, PROMPTS[2]), rtol=1e-4, atol=1e-6)


def test_walk_ends_where_the_pipeline_does(parts: tuple[DiffusionModel, Direct]) -> None:
    model, direct = parts
    *_, last = probe(model, PROMPTS, SAMPLING)
    direct.pipe.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(seed) for seed in SAMPLING.seeds]
    image = direct.pipe(PROMPTS[1], num_images_per_prompt=3, generator=generators, num_inference_steps=4,
                        guidance_scale=3.0, output_type="latent").images  # fmt: skip
    torch.testing.assert_close(last.clean[3:6], image, rtol=1e-4, atol=1e-4)


def test_noise_of_a_stochastic_sampler_does_not_depend_on_the_batch(parts: tuple[DiffusionModel, Direct]) -> None:
    model, pipe = parts[0], parts[1].pipe
    original = pipe.scheduler
    pipe.scheduler = EulerAncestralDiscreteScheduler.from_config(original.config)
    try:
        both = [step.latents[3:] for step in islice(probe(model, PROMPTS[:2], SAMPLING), 3)]
        alone = [step.latents for step in islice(probe(model, PROMPTS[1:2], SAMPLING), 3)]
    finally:
        pipe.scheduler = original
    for a, b in zip(both, alone, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    assert 0.5 < both[0].std() < 2  # as the UNet wants it, not in the sampler's own scale


def test_high_pass_keeps_short_waves_only() -> None:
    place = torch.arange(8.0)
    waves = torch.stack([torch.cos(2 * math.pi * k * place / 8).expand(8, 8) for k in range(5)])[:, None]
    kept = [float(w.norm()) for w in high_pass(waves)]
    assert kept[:3] == pytest.approx([0, 0, 0], abs=1e-5)
    assert kept[3:] == pytest.approx([float(w.norm()) for w in waves[3:]], rel=1e-5)


def test_unknown_screen_names_the_nearest() -> None:
    with pytest.raises(MemfixError) as error:
        get_screen("magnitud")
    assert error.value.hint == "Did you mean 'magnitude'?"


def test_settings_that_cannot_be_are_refused(parts: tuple[DiffusionModel, Direct]) -> None:
    with pytest.raises(MemfixError, match="needs at least 2"):
        SCREENS["consistency"](parts[0], PROMPTS, Sampling(seeds=(0,)))
    with pytest.raises(MemfixError, match="5 of 4 steps"):
        Sampling(steps=5, num_inference_steps=4)
    with pytest.raises(MemfixError, match="at least one seed"):
        Sampling(seeds=())
