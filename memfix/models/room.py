"""How many items are computed at once: all of them, or as many as memory holds, which trying tells.

Sums over items do not care in how many parts they are computed, so a training step is the same whatever fits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch.utils.checkpoint import checkpoint

from memfix.models.conditioning import Conditioning
from memfix.models.denoiser import Network

T = TypeVar("T")


class Room:
    """What memory holds; `most` items at once, without a limit as long as all have fitted.

    save: switches on, or off, that activations are computed again instead of kept, if that can be had.
    """

    def __init__(self, most: int | None = None, save: Callable[[bool], None] | None = None) -> None:
        self.most, self.saves, self._save = most, False, save

    def fit(self, work: Callable[[], T], items: int) -> T:
        """Do work that passes so many items; in another way for as long as memory runs out.

        All of them at once while activations are computed again; then parts of them, each half as large as those
        before; then both, since that takes longest. Raises torch.OutOfMemoryError where a single item is too much.
        """
        while True:
            try:
                return work()
            except torch.OutOfMemoryError:
                if not self._give_way(items):
                    raise
            torch.cuda.empty_cache()  # outside of the handler, whose error keeps the tensors of the attempt alive

    def _give_way(self, items: int) -> bool:
        """Take less memory from now on; whether there was a way left."""
        now, whole = min(items, self.most or items), self.most is None
        if whole and self.saves:
            self._switch(False)
        elif whole and self._save:
            self._switch(True)
            return True
        if now == 1 and (self.saves or not self._save):
            return False
        if now == 1:
            self._switch(True)
            now = items
        self.most = (now + 1) // 2
        return True

    def _switch(self, on: bool) -> None:
        assert self._save, "only what can be had is switched"
        self._save(on)
        self.saves = on

    def parts(self, items: int) -> Iterator[slice]:
        """So many items in as few parts as memory allows."""
        size = min(items, self.most or items)
        yield from (slice(first, first + size) for first in range(0, items, size or 1))

    def network(self, whole: Network) -> Network:
        """A network that takes no more at once than there is room for. What is split is computed once more on the way
        back, a part at a time, so that the activations of one part are all that is ever held."""

        def network(noisy: torch.Tensor, t: torch.Tensor | float, told: Conditioning | None) -> torch.Tensor:
            if self.most is None or len(noisy) <= self.most:
                return whole(noisy, t, told)
            return torch.cat([_part(whole, noisy, t, told, part) for part in self.parts(len(noisy))])

        return network


def _part(
    whole: Network, noisy: torch.Tensor, t: torch.Tensor | float, told: Conditioning | None, part: slice
) -> torch.Tensor:
    times = t[part] if isinstance(t, torch.Tensor) and t.ndim else t
    answer = checkpoint(whole, noisy[part], times, None if told is None else told.pick(part), use_reentrant=False)
    return torch.as_tensor(answer)
