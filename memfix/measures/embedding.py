"""A measure out of a descriptor: the cosine between what two pictures are described as."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image

from memfix.measures.descriptor import Descriptor


class Embedding:
    """Cosine similarity of descriptors, -1 to 1."""

    higher_is_closer = True

    def __init__(self, descriptor: Descriptor, threshold: float, margin: float, source: str) -> None:
        self.descriptor, self.name = descriptor, descriptor.name
        self.identity = descriptor.identity
        self.threshold, self.margin, self.source = threshold, margin, source

    def features(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """[n, d], rows of length one."""
        return self.descriptor(images)

    def compare(self, samples: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
        """[n, m]."""
        return samples @ references.T

    def pair(self, samples: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
        """[n]."""
        return (samples * references).sum(-1)
