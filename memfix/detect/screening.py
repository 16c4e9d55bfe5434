"""What `memfix screen` does with a prompt list: which settings identify the work, and how a rank's shard is done."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from memfix.config.checks import DetectSettings
from memfix.errors import MemfixError
from memfix.files import digest
from memfix.inputs.prompts import identity, label, rows_of
from memfix.inputs.wrong_rows import WrongRows
from memfix.models import loading
from memfix.models.model import DiffusionModel
from memfix.run.folder import slug
from memfix.screens.base import Screen
from memfix.screens.folder import fill
from memfix.screens.runner import Listed, Runner
from memfix.screens.sampling import Sampling
from memfix.world import World


@dataclass(frozen=True)
class Screening:
    """A prompt list, a model and the screens to hold it against. `settings` are those of detection."""

    prompt_list: str
    settings: DetectSettings
    screens: tuple[Screen, ...]
    sampling: Sampling
    wrong: WrongRows

    @cached_property
    def runner(self) -> Runner:
        """What scores the prompts. Raises MemfixError where the seeds are too few for a screen."""
        return Runner(self.screens, self.sampling, self.settings.mixed_precision, self.settings.batch_size)

    @cached_property
    def label(self) -> str:
        """What the prompt list is called."""
        return label(self.prompt_list)

    @cached_property
    def source(self) -> loading.ModelSource:
        """The model on this disk."""
        return loading.source_of(self.settings)

    def identity(self, ranks: int) -> dict[str, Any]:
        """All that the bytes of `screens.jsonl` depend on; what a resumed folder must have in common."""
        return {
            "prompts": self.label, "prompts_sha256": identity(self.prompt_list), "limit": self.settings.limit,
            "skip_invalid": self.settings.skip_invalid, "model": self.settings.model, "variant": self.settings.variant,
            "model_sha256": self.source.sha256, "model_config_sha256": self.source.config_sha256,
            "screens": [screen.name for screen in self.screens],
            "seeds": list(self.sampling.seeds), "steps": self.sampling.steps,
            "num_inference_steps": self.sampling.num_inference_steps, "guidance_scale": self.sampling.guidance_scale,
            "mixed_precision": self.settings.mixed_precision, **self._size(), "batch_size": self.runner.prompts_at_once,
            "ranks": ranks,
        }  # fmt: skip

    def _size(self) -> dict[str, int]:
        """Height and width of pictures, where they are not the model's own: folders of an earlier time lack them."""
        told = self.settings.model_dump(include={"resolution", "height", "width"}, exclude_none=True)
        return {name: int(length) for name, length in told.items()}

    @property
    def folder_name(self) -> str:
        """Where the result goes unless the user says; the same for every rank."""
        return f"screen-{slug(Path(self.label).stem)}-{digest(json.dumps(self.identity(1)))}"

    def prompts(self) -> Iterator[Listed]:
        """The whole list. A text that comes again is scored again: a set of all texts might not fit."""
        rows = islice(rows_of(self.prompt_list, self.wrong, images=False), self.settings.limit)
        return (Listed(number, row.source, row.text) for number, row in enumerate(rows, 1))

    def run(self, folder: Path, world: World) -> Iterator[int]:
        """Work off a rank's shard; yields how many of its prompts are done. Raises MemfixError for an empty list."""
        total, mine = 0, world.shard(self.prompts())
        for total in fill(folder, world, lambda file: self.runner.run(mine, file, self._model)):
            yield total
        if total == 0 and world.first:
            raise MemfixError(f"{self.label} contains no prompt.", "Write one prompt per line.")

    def _model(self) -> DiffusionModel:
        return loading.load(self.source, self.settings.picture_size, asked_in=self.settings.mixed_precision)
