"""Prompts scored by screens into a JSONL file, in batches that are the same however often the work is interrupted.

Holds one batch of prompts at a time. Knows nothing of runs, and of how work is shared out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from pydantic import Field

from memfix.errors import MemfixError
from memfix.models.device import autocast
from memfix.models.model import DiffusionModel
from memfix.records import Record
from memfix.screens.base import Screen
from memfix.screens.sampling import Sampling


class Screened(Record):
    """A line of `screens.jsonl`."""

    number: int = Field(description="place from 1, in the prompt list that is screened or in the prompts of the run")
    source: str = Field(description="file:line")
    text: str
    scores: dict[str, float]


class Listed(NamedTuple):
    """A text that is to be scored; the fields are those of `Screened`."""

    number: int
    source: str
    text: str


@dataclass(frozen=True)
class Runner:
    """Screens, and how they look at a model. `batch_size` is prompts times seeds in one pass of the network."""

    screens: tuple[Screen, ...]
    sampling: Sampling
    precision: str
    batch_size: int

    def __post_init__(self) -> None:
        for screen in self.screens:
            screen.check(self.sampling)

    @property
    def prompts_at_once(self) -> int:
        """The size of a batch."""
        return max(1, self.batch_size // len(self.sampling.seeds))

    @property
    def evaluations(self) -> int:
        """Evaluations of the network per prompt."""
        return len(self.sampling.seeds) * sum(screen.evaluations(self.sampling) for screen in self.screens)

    def run(self, prompts: Iterable[Listed], file: Path, load: Callable[[], DiffusionModel]) -> Iterator[int]:
        """Append the lines that a file lacks; yields how many lines there are, first those found.

        A batch that was cut off is done again as a whole: a resumed file has the bytes of one that was never
        interrupted. The model is asked for once there is something to score. Raises MemfixError where a score is not
        finite, and writes nothing of that batch.
        """
        found, before, rest = count_lines(file), 0, iter(prompts)
        model: DiffusionModel | None = None
        yield found
        while batch := list(islice(rest, self.prompts_at_once)):
            if before + len(batch) > found:
                model = model or load()
                lines = self.score(batch, model)
                _keep_first(file, before)
                with file.open("ab") as out:
                    out.write("".join(f"{line.model_dump_json()}\n" for line in lines).encode())
                found = before + len(batch)
                yield found
            before += len(batch)

    def score(self, batch: Sequence[Listed], model: DiffusionModel) -> list[Screened]:
        """One line per prompt. Raises MemfixError where a score is not finite: half precision may overflow."""
        texts = [prompt.text for prompt in batch]
        with autocast(self.precision):
            columns = {s.name: s(model, texts, self.sampling).tolist() for s in self.screens}
        lines = []
        for i, prompt in enumerate(batch):
            scores = {name: float(f"{column[i]:.7g}") for name, column in columns.items()}
            for name, value in scores.items():
                if not math.isfinite(value):
                    raise MemfixError(f"{prompt.source}: screen '{name}' gives {value}.", "Try --mixed-precision no.")
            lines.append(Screened(**prompt._asdict(), scores=scores))
        return lines


def read_scores(file: Path) -> Iterator[Screened]:
    """The lines of a file, one in memory at a time. Raises MemfixError, naming it, for one that is damaged."""
    with file.open("rb") as text:
        for number, line in enumerate(text, 1):
            try:
                yield Screened.model_validate_json(line)
            except ValueError as error:
                raise MemfixError(
                    f"{file}:{number} is damaged: {str(error).splitlines()[0]}", "Delete the file and run again."
                ) from None


def count_lines(file: Path) -> int:
    """Complete lines of a file, 0 where there is none."""
    if not file.exists():
        return 0
    with file.open("rb") as lines:
        return sum(line.endswith(b"\n") for line in lines)


def _keep_first(file: Path, lines: int) -> None:
    """Cut off what comes behind the first lines of a file."""
    if file.exists():
        with file.open("r+b") as out:
            for _ in range(lines):
                out.readline()
            out.truncate(out.tell())
