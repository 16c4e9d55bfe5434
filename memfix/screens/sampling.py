"""From which noise, along which sampling steps a screen probes a prompt. Knows nothing of torch."""

from __future__ import annotations

from dataclasses import dataclass

from memfix.errors import ExitCode, MemfixError


@dataclass(frozen=True)
class Sampling:
    """How prompts are probed: from which noise, along which sampling steps.

    `steps` is the paper's s: how many of the first `num_inference_steps` steps a score may look at.
    """

    seeds: tuple[int, ...] = (0, 1, 2, 3)
    steps: int = 1
    num_inference_steps: int = 50
    guidance_scale: float = 7.5

    def __post_init__(self) -> None:
        if not self.seeds:
            raise MemfixError("A screen needs at least one seed.", "Give --num-seeds 1 or more.", ExitCode.USAGE)
        if not 1 <= self.steps <= self.num_inference_steps:
            raise MemfixError(
                f"A screen cannot use {self.steps} of {self.num_inference_steps} steps.",
                f"Give --steps a number from 1 to {self.num_inference_steps}.",
                ExitCode.USAGE,
            )
