"""The first stage of a detection with `--screen`: score all prompts without drawing a picture, decide whom to skip."""

from __future__ import annotations

from collections.abc import Sequence

from diffusers import StableDiffusionPipeline

from memfix.config import DetectSettings
from memfix.console import Talk
from memfix.detect.skipping import Skipping, plan
from memfix.models.device import autocast
from memfix.records import Prompt, Role
from memfix.screens import get_screen
from memfix.screens.denoiser import Denoiser
from memfix.screens.sampling import Sampling


def screen_first(
    pipe: StableDiffusionPipeline, prompts: Sequence[Prompt], settings: DetectSettings, talk: Talk
) -> Skipping:
    """Which prompts need no samples. Controls are screened, to calibrate, and always sampled.

    Raises MemfixError for an unknown screen, or where the controls are too few.
    """
    screen = get_screen(settings.screen or "")
    seeds = tuple(range(settings.seed, settings.seed + settings.screen_seeds))
    sampling = Sampling(seeds, 1, settings.num_inference_steps, settings.guidance_scale)
    screen.check(sampling)
    denoiser, size = Denoiser(pipe), max(1, settings.batch_size // len(seeds))
    scores: dict[str, float] = {}
    with talk.progress(f"Screening by {screen.name}", len(prompts)) as bar:
        for i in range(0, len(prompts), size):
            batch = prompts[i : i + size]
            with autocast(settings.mixed_precision):
                values = screen(denoiser, [p.text for p in batch], sampling).tolist()
            scores |= dict(zip((p.id for p in batch), values, strict=True))
            bar.at(len(scores))
    own = {p.id: scores[p.id] for p in prompts if p.role is Role.PROMPT}
    controls = [scores[p.id] for p in prompts if p.role is Role.CONTROL]
    return plan(own, controls, settings.miss_rate, settings.audit, settings.seed, screen=screen.name)
