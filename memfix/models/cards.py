"""What fits into the memory of a GPU, by what a pass is counted to hold. Knows nothing of what is computed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

COUNTED = Path(__file__).parent / "counted.json"
"""What `research/hardware_page.py` counted of models of known families."""

GIB = 2**30
CONTEXT = GIB // 2  # that CUDA takes for itself before anything is computed
GAPS = 0.05  # of the rest, which lie between tensors or serve kernels as workspace; not measured


class Growth(NamedTuple):
    """Bytes that a pass of `items` holds, `whole`, and a pass of one. What lies between is on a line, or below it."""

    items: int
    whole: int
    one: int

    def of(self, items: int) -> int:
        """Bytes of a pass of so many items."""
        return self.one + (self.whole - self.one) * (items - 1) // max(self.items - 1, 1)

    def most(self, free: int) -> int:
        """How many items fit into so many bytes, of those that there are."""
        return next((n for n in range(self.items, 0, -1) if self.of(n) <= free), 0)


class Fit(NamedTuple):
    """How a pass fits: so many items at once, and whether activations are computed again for that."""

    at_once: int
    checkpointing: bool


def free_bytes(card: int, held: int) -> int:
    """What a card of so many bytes has left for passes beside what is held all the time."""
    return round((card - CONTEXT) * (1 - GAPS)) - held


def fitting(growth: Callable[[bool], Growth], free: int) -> Fit | None:
    """How a pass fits into so many bytes, in the order in which `Room` tries; None if a single item does not.

    growth: with checkpointing or without → how what is held grows.
    """
    plain = growth(False)
    if plain.whole <= free:
        return Fit(plain.items, checkpointing=False)
    again = growth(True)
    if again.whole <= free:
        return Fit(again.items, checkpointing=True)
    for grown, checkpointing in ((plain, False), (again, True)):
        if most := grown.most(free):
            return Fit(most, checkpointing)
    return None


class Counted(NamedTuple):
    """What a family takes for one kind of work, by default settings in half precision: bytes of the model as it is
    `loaded`, which comes before all else, those that are `held` all the time, and those of passes with all activations
    kept (`plain`) and with checkpointing (`again`)."""

    family: str
    work: str
    loaded: int
    held: int
    plain: Growth
    again: Growth

    def on(self, card: int) -> Fit | None:
        """How it fits a card of so many bytes."""
        if free_bytes(card, self.loaded) < 0:
            return None
        return fitting(lambda again: self.again if again else self.plain, free_bytes(card, self.held))

    @property
    def most(self) -> int:
        """Bytes of a whole pass with all that is held."""
        return self.held + self.plain.whole


def counted_families() -> list[Counted]:
    """What memfix comes with."""
    rows = json.loads(COUNTED.read_text(encoding="utf-8"))
    return [Counted(**{**row, "plain": Growth(*row["plain"]), "again": Growth(*row["again"])}) for row in rows]


NO_FIT = "does not fit"


def fit_in_words(fit: Fit | None, items: int) -> str:
    """For a cell of a table: what of so many items passes at once."""
    if fit is None:
        return NO_FIT
    again = ", checkpointing" if fit.checkpointing else ""
    return f"{'all' if fit.at_once == items else fit.at_once}{again}"
