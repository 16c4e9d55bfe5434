"""The first stage of a detection with `--screen`: score all prompts without drawing a picture, decide whom to skip.

Resumes: scores that are on disk are not made again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from diffusers import StableDiffusionPipeline

from memfix.config import DetectSettings
from memfix.console import Talk
from memfix.detect.skipping import Skipping, plan
from memfix.errors import MemfixError
from memfix.models.device import autocast
from memfix.records import Prompt, Record, Role
from memfix.runs import Run
from memfix.screens import get_screen
from memfix.screens.base import Screen
from memfix.screens.denoiser import Denoiser
from memfix.screens.sampling import Sampling


class ScreenScore(Record):
    """A line of a run's `screens.jsonl`: what its screen says of one prompt or control."""

    prompt_id: str
    score: float


def screen_first(
    run: Run,
    folder: str,
    pipe: StableDiffusionPipeline,
    prompts: Sequence[Prompt],
    settings: DetectSettings,
    talk: Talk,
) -> Skipping:
    """Which prompts need no samples. Controls are screened, to calibrate, and always sampled.

    Scores go to `screens.jsonl` under `folder`, batch by batch. Raises MemfixError for an unknown screen, where a score
    is no number, or where the controls are too few.
    """
    screen = get_screen(settings.screen or "")
    with talk.progress(f"Screening by {screen.name}", len(prompts)) as bar:
        for done in score(run, f"{folder}/screens.jsonl", screen, pipe, prompts, settings):
            bar.at(done)
    scores = {line.prompt_id: line.score for line in run.read(f"{folder}/screens.jsonl", ScreenScore)}
    own = {p.id: scores[p.id] for p in prompts if p.role is Role.PROMPT}
    controls = [scores[p.id] for p in prompts if p.role is Role.CONTROL]
    return plan(own, controls, settings.miss_rate, settings.audit, settings.seed, screen=screen.name)


def score(
    run: Run, name: str, screen: Screen, pipe: StableDiffusionPipeline, prompts: Sequence[Prompt],
    settings: DetectSettings,
) -> Iterator[int]:  # fmt: skip
    """Append the scores that the file `name` lacks; yields how many are there, first those found.

    A batch that was cut off is scored again as a whole, so that each score is that of a run without interruption.
    """
    seeds = tuple(range(settings.seed, settings.seed + settings.screen_seeds))
    sampling = Sampling(seeds, 1, settings.num_inference_steps, settings.guidance_scale)
    screen.check(sampling)
    size = max(1, settings.batch_size // len(seeds))
    batches = [prompts[i : i + size] for i in range(0, len(prompts), size)]
    done = {line.prompt_id for line in run.read(name, ScreenScore)}
    yield len(done)
    left = [batch for batch in batches if any(p.id not in done for p in batch)]
    denoiser = Denoiser(pipe)
    for batch in left:
        with autocast(settings.mixed_precision):
            values = screen(denoiser, [p.text for p in batch], sampling).tolist()
        if not all(map(math.isfinite, values)):
            raise MemfixError("The screen gave a score that is not a finite number.", "Try --mixed-precision no.")
        new = [ScreenScore(prompt_id=p.id, score=v) for p, v in zip(batch, values, strict=True) if p.id not in done]
        run.append(name, new)
        done |= {line.prompt_id for line in new}
        yield len(done)
