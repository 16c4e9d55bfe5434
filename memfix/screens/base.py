"""What a screen is: a cheap score of a prompt from the model's noise predictions, no image decoded. Higher is more
suspicious. Knows nothing of files or of the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch

from memfix.errors import ExitCode, MemfixError
from memfix.models.latents import generators
from memfix.models.model import DiffusionModel
from memfix.models.walk import Pull, WalkStep, walk
from memfix.screens.sampling import Sampling

ScreenFunction = Callable[[DiffusionModel, Sequence[str], Sampling], torch.Tensor]


@dataclass(frozen=True)
class Screen:
    """A row of the table of screens. `function` gives one score a prompt, [P] float32 on the CPU."""

    name: str
    summary: str
    evaluations: Callable[[Sampling], int]
    """UNet evaluations for one prompt and seed; with and without the prompt counts as two."""
    function: ScreenFunction
    min_seeds: int = 1

    def __call__(self, model: DiffusionModel, prompts: Sequence[str], sampling: Sampling) -> torch.Tensor:
        """Score prompts in one batch of P prompts × S seeds."""
        self.check(sampling)
        return self.function(model, prompts, sampling)

    def check(self, sampling: Sampling) -> None:
        """Raise MemfixError where these seeds are too few."""
        if len(sampling.seeds) < self.min_seeds:
            raise MemfixError(
                f"Screen '{self.name}' compares seeds and needs at least {self.min_seeds} of them.",
                f"Give --num-seeds {self.min_seeds} or more.",
                ExitCode.USAGE,
            )


def probe(model: DiffusionModel, prompts: Sequence[str], sampling: Sampling) -> Iterator[WalkStep]:
    """Every step of P prompts × S seeds as the settings have them; only as far as the caller iterates."""
    return walk(model, prompts, sampling.seeds, sampling.num_inference_steps, sampling.guidance_scale)


def start(model: DiffusionModel, prompts: Sequence[str], sampling: Sampling) -> tuple[Pull, torch.Tensor, list[float]]:
    """What the prompts pull at, the pure noise x_T that it is asked at, [P·S, C, h, w], and the sampler's times."""
    noise = model.latents.noise(generators([*sampling.seeds] * len(prompts)))
    return Pull(model, prompts, len(sampling.seeds)), noise, model.timesteps(sampling.num_inference_steps)


def mean_over_seeds(values: torch.Tensor, seeds: int) -> torch.Tensor:
    """[P·S], prompt by prompt → [P] on the CPU."""
    return values.view(-1, seeds).mean(1).float().cpu()


def norms(difference: torch.Tensor) -> torch.Tensor:
    """‖d‖₂ of each item of [n, C, h, w] → [n]."""
    norm: torch.Tensor = torch.linalg.vector_norm(difference, dim=(1, 2, 3))
    return norm


def seed_pairs(values: torch.Tensor, seeds: int) -> tuple[torch.Tensor, torch.Tensor]:
    """[P·S, …], prompt by prompt → both sides of every pair of a prompt's seeds, each [P, S(S-1)/2, features]."""
    by_prompt = values.reshape(len(values) // seeds, seeds, -1)
    first, second = zip(*combinations(range(seeds), 2), strict=True)
    return by_prompt[:, first], by_prompt[:, second]
