"""What a measure is: features of pictures, and a number for each (sample, reference)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from PIL import Image


class Measure(Protocol):
    """A similarity or distance between pictures.

    `threshold` and `margin` are what a `CopyRule` takes where nobody gives others. `identity` names weights and
    preprocessing: numbers compare only under the same one.
    """

    name: str
    higher_is_closer: bool
    threshold: float
    margin: float
    source: str
    identity: str

    def features(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """[n, …] of n pictures; independent of how pictures are batched."""
        ...

    def compare(self, samples: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
        """[n, m]: every sample against every reference."""
        ...

    def pair(self, samples: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
        """[n]: each sample against the reference beside it."""
        ...


class Unrelated(NamedTuple):
    """The deciding measure between references and the nearest one unrelated to each.

    Of references that are one picture, the first one stands for all; `duplicates` of them were left out for that.
    """

    values: list[float]
    duplicates: int
