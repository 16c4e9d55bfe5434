"""How many items a network takes at once: all of them, or as many as memory holds, which trying tells.

Sums over items do not care in how many parts they are computed, so a step is the same whatever fits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch.utils.checkpoint import checkpoint

from memfix.models.conditioning import Conditioning
from memfix.models.denoiser import Network

T = TypeVar("T")


class Room:
    """What memory holds; `most` items at once, without a limit as long as all have fitted."""

    def __init__(self, most: int | None = None) -> None:
        self.most = most

    def fit(self, work: Callable[[], T], items: int) -> T:
        """Do work that passes so many items; again with half as many at once for as long as memory runs out.

        Raises torch.OutOfMemoryError where a single item is too much.
        """
        while True:
            try:
                return work()
            except torch.OutOfMemoryError:
                now = min(items, self.most or items)
                if now == 1:
                    raise
                self.most = (now + 1) // 2
            torch.cuda.empty_cache()  # outside of the handler, whose error keeps the tensors of the attempt alive

    def network(self, whole: Network) -> Network:
        """A network that takes no more at once than there is room for. What is split is computed once more on the way
        back, a part at a time, so that the activations of one part are all that is ever held."""

        def network(noisy: torch.Tensor, t: torch.Tensor | float, told: Conditioning | None) -> torch.Tensor:
            if self.most is None or len(noisy) <= self.most:
                return whole(noisy, t, told)
            bounds = range(0, len(noisy), self.most)
            return torch.cat([_part(whole, noisy, t, told, slice(i, i + self.most)) for i in bounds])

        return network


def _part(
    whole: Network, noisy: torch.Tensor, t: torch.Tensor | float, told: Conditioning | None, part: slice
) -> torch.Tensor:
    times = t[part] if isinstance(t, torch.Tensor) and t.ndim else t
    answer = checkpoint(whole, noisy[part], times, None if told is None else told.pick(part), use_reentrant=False)
    return torch.as_tensor(answer)
