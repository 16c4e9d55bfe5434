"""Moving averages of trained weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

HIGHEST_DECAY = 0.9999  # of the average that a step keeps


class Averages:
    """An average of each weight over the steps so far. Step n keeps n/(9 + n) of it, at most `MOST`; the first none."""

    @torch.no_grad()
    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self.steps = 0
        self.values: list[torch.Tensor] = [p.clone().detach() for p in parameters]
        self._aside: list[torch.Tensor] = []

    @torch.no_grad()
    def step(self, parameters: Sequence[nn.Parameter]) -> None:
        """Take in the weights after one more step."""
        self.steps += 1
        kept = min(self.steps / (9 + self.steps), HIGHEST_DECAY) if self.steps > 1 else 0.0
        for average, p in zip(self.values, parameters, strict=True):
            average.sub_((1 - kept) * (average - p))

    @torch.no_grad()
    def copy_to(self, parameters: Sequence[nn.Parameter]) -> None:
        """Turn the weights into their averages."""
        for average, p in zip(self.values, parameters, strict=True):
            p.copy_(average)

    @torch.no_grad()
    def store(self, parameters: Sequence[nn.Parameter]) -> None:
        """Put the weights aside, for `restore`."""
        self._aside = [p.clone().detach() for p in parameters]

    @torch.no_grad()
    def restore(self, parameters: Sequence[nn.Parameter]) -> None:
        """Bring back the weights that were put aside."""
        for aside, p in zip(self._aside, parameters, strict=True):
            p.copy_(aside)
        self._aside = []
