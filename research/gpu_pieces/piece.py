"""A piece of work for a GPU, and what it is given. Knows nothing of what the pieces do."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

Value = float | int | str | bool


@dataclass
class Here:
    """Where a piece runs, and where its values go, one by one: a piece that is killed keeps those that it has."""

    device: str
    """`cuda` or `cpu`."""
    tiny: bool
    """Whether to do everything as small as it goes, to see that it runs."""
    work: Path
    """A folder for the pieces of one script; later calls find in it what earlier ones left."""
    file: Path
    values: dict[str, Value] = field(default_factory=dict)

    def note(self, **values: Value) -> None:
        """Keep values, with their units in their names."""
        self.values |= {k: round(v, 5) if isinstance(v, float) else v for k, v in values.items()}
        beside = self.file.with_suffix(".tmp")
        beside.write_text(json.dumps(self.values))
        beside.replace(self.file)


class WrongResultError(Exception):
    """What a piece found is not as it has to be."""


@dataclass(frozen=True)
class Piece:
    """One thing to find out, in a process of its own.

    limit: seconds after which it is killed. beside: GiB of GPU memory that it takes at most, where its neighbours may
    run at the same time because it measures no time; 0: it runs alone. skip: why it is not run here, if it is not.
    """

    name: str
    limit: float
    run: Callable[[Here], None]
    beside: float = 0.0
    skip: Callable[[Machine], str] = lambda machine: ""


@dataclass(frozen=True)
class Machine:
    """What the pieces run on, as they see it."""

    device: str
    tiny: bool
    name: str
    memory_gib: float


def not_finite(values: dict[str, Value]) -> list[str]:
    """Names of the values that are no finite numbers."""
    return [k for k, v in values.items() if isinstance(v, float) and not math.isfinite(v)]
