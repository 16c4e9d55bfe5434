"""What fits into the memory of a GPU, by what a pass is counted to hold. Knows nothing of what is computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

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
