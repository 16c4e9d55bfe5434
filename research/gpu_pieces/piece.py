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

    def note(self, **values: object) -> None:
        """Keep values, with their units in their names. What is no number, word or truth is kept as words."""
        self.values |= {k: plain(v) for k, v in values.items()}
        beside = self.file.with_suffix(".tmp")
        beside.write_text(json.dumps(self.values))
        beside.replace(self.file)


def plain(value: object) -> Value:
    """A value as JSON knows it, also of numpy's and torch's scalars; numbers with five digits behind the point."""
    item = getattr(value, "item", None)
    if callable(item) and getattr(value, "ndim", None) == 0:
        value = item()
    if isinstance(value, float):
        return round(float(value), 5)
    return value if isinstance(value, (bool, int, str)) else str(value)


class WrongResultError(Exception):
    """What a piece found is not as it has to be."""


@dataclass(frozen=True)
class Piece:
    """One thing to find out, in a process of its own.

    limit: seconds after which it is killed. beside: GiB of GPU memory that it takes at most, where its neighbours may
    run at the same time because it measures no time; 0: it runs alone. skip: why it is not run here, if it is not.
    goes_on: whether it takes over what earlier tries left in the work folder, and so their time.
    """

    name: str
    limit: float
    run: Callable[[Here], None]
    beside: float = 0.0
    skip: Callable[[Machine], str] = lambda machine: ""
    goes_on: bool = False


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
