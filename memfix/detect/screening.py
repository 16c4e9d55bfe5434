"""What `memfix screen` does with a prompt list: which settings identify the work, and how a batch is scored."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from memfix.config import DetectSettings
from memfix.detect.shares import Prompt, Screened, Share, batches, screen_share
from memfix.errors import MemfixError
from memfix.files import sha256
from memfix.inputs.prompts import locate, stream
from memfix.inputs.wrong_rows import WrongRows
from memfix.models import pipeline
from memfix.models.device import autocast
from memfix.runs import digest, slug
from memfix.screens.base import Screen
from memfix.screens.denoiser import Denoiser
from memfix.screens.sampling import Sampling


@dataclass(frozen=True)
class Screening:
    """A prompt list, a model and the screens to hold it against. `settings` are those of detection."""

    prompt_list: str
    settings: DetectSettings
    screens: tuple[Screen, ...]
    sampling: Sampling
    wrong: WrongRows

    def __post_init__(self) -> None:
        for screen in self.screens:
            screen.check(self.sampling)

    @property
    def batch(self) -> int:
        """Prompts scored at once."""
        return max(1, self.settings.batch_size // len(self.sampling.seeds))

    @property
    def evaluations(self) -> int:
        """UNet evaluations a prompt."""
        return len(self.sampling.seeds) * sum(screen.evaluations(self.sampling) for screen in self.screens)

    @cached_property
    def path(self) -> Path:
        """The file of the prompt list."""
        return locate(self.prompt_list)

    @cached_property
    def source(self) -> pipeline.ModelSource:
        """The model on this disk."""
        return pipeline.locate(self.settings.model, self.settings.revision, self.settings.variant)

    @cached_property
    def denoiser(self) -> Denoiser:
        """The loaded model; nothing is loaded before a batch needs it."""
        return Denoiser(pipeline.load(self.source, self.settings.variant))

    def identity(self, ranks: int) -> dict[str, Any]:
        """All that the bytes of `screens.jsonl` depend on; what a resumed folder must have in common."""
        return {
            "prompts": str(self.path), "prompts_sha256": sha256([self.path]), "limit": self.settings.limit,
            "skip_invalid": self.settings.skip_invalid, "model": self.settings.model,
            "model_sha256": self.source.sha256, "screens": [screen.name for screen in self.screens],
            "seeds": list(self.sampling.seeds), "steps": self.sampling.steps,
            "num_inference_steps": self.sampling.num_inference_steps, "guidance_scale": self.sampling.guidance_scale,
            "mixed_precision": self.settings.mixed_precision, "batch_size": self.batch, "ranks": ranks,
        }  # fmt: skip

    @property
    def folder_name(self) -> str:
        """Where the result goes unless the user says; the same for every rank."""
        return f"screen-{slug(self.path.stem)}-{digest(json.dumps(self.identity(1)))}"

    def batches(self, share: Share) -> Iterator[list[Prompt]]:
        """The batches of a share. A text that comes again is scored again: a set of all texts might not fit."""
        return batches(
            islice(stream(self.path, self.wrong, images=False), self.settings.limit), str(self.path), share, self.batch
        )

    def run(self, folder: Path, share: Share) -> Iterator[int]:
        """Work off a share; yields how many of its prompts are done. Raises MemfixError if the list holds none."""
        total = 0
        for total in screen_share(self.batches(share), folder, share, self.score):
            yield total
        if total == 0 and share.rank == 0:
            raise MemfixError(f"{self.path} contains no prompt.", "Write one prompt per line.")

    def score(self, batch: list[Prompt]) -> list[Screened]:
        """One line a prompt. Raises MemfixError where a score is no number: half precision overflows on some models."""
        texts = [prompt.text for prompt in batch]
        with autocast(self.settings.mixed_precision):
            columns = {s.name: s(self.denoiser, texts, self.sampling).tolist() for s in self.screens}
        lines = []
        for i, prompt in enumerate(batch):
            scores = {name: float(f"{column[i]:.7g}") for name, column in columns.items()}
            for name, value in scores.items():
                if not math.isfinite(value):
                    raise MemfixError(
                        f"{prompt.source}: the screen '{name}' gives the score {value}.", "Try --mixed-precision no."
                    )
            lines.append(Screened(number=prompt.number, source=prompt.source, text=prompt.text, scores=scores))
        return lines
