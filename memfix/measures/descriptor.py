"""What a descriptor is: a picture as a vector of length one, the same whatever it is batched with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from PIL import Image


class Descriptor(Protocol):
    """Describes pictures. `identity` names weights and preprocessing; vectors compare only under the same one."""

    name: str
    dimension: int
    identity: str

    def __call__(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """[n, dimension] float32 on the CPU, rows of length one."""
        ...
