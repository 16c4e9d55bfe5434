"""What a descriptor is: a picture as a vector of length one, the same whatever it is batched with. And all by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import torch
from PIL import Image

from memfix.demo import DESCRIPTOR, DESCRIPTOR_SIDE
from memfix.errors import ExitCode, MemfixError, did_you_mean
from memfix.findings import WeightsRecord
from memfix.measures.pixels import to_tensor
from memfix.measures.weights import Wanted, Weights, obtain


class Descriptor(Protocol):
    """Describes pictures. `identity` names weights and preprocessing; vectors compare only under the same one."""

    name: str
    dimension: int
    identity: str

    @property
    def weights(self) -> Weights | None:
        """The file that it was loaded from, if any."""
        ...

    def __call__(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """[n, dimension] float32 on the CPU, rows of length one."""
        ...


def weights_record(descriptors: Iterable[Descriptor]) -> dict[str, WeightsRecord]:
    """Name of each descriptor that has weights → what they were asked for as, file, size in bytes, sha256."""
    return {d.name: d.weights.record() for d in descriptors if d.weights}


class Pixels:
    """The picture itself at 16x16, without its mean: needs no weights, and finds only copies that keep layout."""

    name = "pixels"
    side = 16
    dimension = 3 * side * side
    identity = "16x16 RGB, box filter, mean removed"
    weights = None
    blank = 0.5 / 255  # rms contrast under which rounding is all that is left of a picture

    def __call__(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """[n, 768]. Blank pictures, without a direction of their own, share one that is orthogonal to all others."""
        if not images:
            return torch.empty(0, self.dimension)
        x = to_tensor(images, self.side).flatten(1)
        x = x - x.mean(1, keepdim=True)
        length = torch.linalg.vector_norm(x, dim=1, keepdim=True)
        blank = length < self.blank * self.dimension**0.5
        return torch.where(blank, self.dimension**-0.5, x / length.clamp_min(1e-12))


def _sscd(wanted: Wanted) -> Descriptor:
    from memfix.measures.sscd import SHORT_SIDE, Sscd

    weights = obtain(wanted.sscd, trust=wanted.trust)
    return Sscd(weights, side=DESCRIPTOR_SIDE if weights.path == DESCRIPTOR else SHORT_SIDE)


def _clip(wanted: Wanted) -> Descriptor:
    from memfix.measures.clip import Clip

    return Clip(wanted.clip)


DESCRIPTORS: dict[str, Callable[[Wanted], Descriptor]] = {"pixels": lambda _: Pixels(), "sscd": _sscd, "clip": _clip}


def get_descriptor(name: str, wanted: Wanted | None = None) -> Descriptor:
    """Make a descriptor by name. Raises MemfixError for an unknown name, or weights that cannot be had."""
    if name not in DESCRIPTORS:
        raise MemfixError(f"Unknown descriptor '{name}'.", did_you_mean(name, list(DESCRIPTORS)), ExitCode.USAGE)
    return DESCRIPTORS[name](wanted or Wanted())
