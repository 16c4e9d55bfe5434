"""The first stage of a detection with `--screen`: score all prompts without drawing a picture, decide whom to skip.

Resumes: scores that are on disk are not made again.
"""

from __future__ import annotations

from collections.abc import Sequence

from memfix.config.checks import DetectSettings
from memfix.console import Talk
from memfix.models.model import DiffusionModel
from memfix.records import Prompt, Role
from memfix.run.folder import Run
from memfix.screens import get_screen
from memfix.screens.folder import RESULT
from memfix.screens.runner import Listed, Runner, read_scores
from memfix.screens.sampling import Sampling
from memfix.screens.skipping import Skipping, plan_skipping


def screen_first(
    run: Run,
    folder: str,
    model: DiffusionModel,
    prompts: Sequence[Prompt],
    settings: DetectSettings,
    talk: Talk,
) -> Skipping:
    """Which prompts need no samples. Controls are screened, to calibrate, and always sampled.

    Scores go to `screens.jsonl` under `folder`, batch by batch. Raises MemfixError for an unknown screen, where a score
    is no number, or where the controls are too few.
    """
    screen = get_screen(settings.screen or "")
    seeds = tuple(range(settings.seed, settings.seed + settings.screen_seeds))
    sampling = Sampling(seeds, 1, settings.num_inference_steps, settings.guidance_scale)
    runner = Runner((screen,), sampling, settings.mixed_precision, settings.batch_size)
    listed, file = [Listed(n, p.source, p.text) for n, p in enumerate(prompts, 1)], run.path / folder / RESULT
    file.parent.mkdir(parents=True, exist_ok=True)
    with talk.progress(f"Screening by {screen.name}", len(prompts)) as bar:
        for done in runner.run(listed, file, lambda: model):
            bar.at(done)
    scores = [line.scores[screen.name] for line in read_scores(file)]
    own = {p.id: score for p, score in zip(prompts, scores, strict=True) if p.role is Role.PROMPT}
    controls = [score for p, score in zip(prompts, scores, strict=True) if p.role is Role.CONTROL]
    return plan_skipping(own, controls, settings.miss_rate, settings.audit, settings.seed, screen=screen.name)
