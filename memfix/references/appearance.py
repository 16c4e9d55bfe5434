"""What each measure sees of a reference: the picture itself, or what a model's autoencoder makes of it.

No sample can be finer than what the autoencoder draws, so that a perfect copy of a photograph with fine detail is far
from the photograph by its edges, and equal to the photograph as drawn. Whatever is calibrated on the picture itself, as
published thresholds are, goes on with that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from PIL import Image

from memfix.measures.base import Measure
from memfix.measures.structure import Structure

Draw = Callable[[Sequence[Image.Image]], Sequence[Image.Image]]
"""Pictures → the same as an autoencoder draws them: encoded and decoded."""

AS_DRAWN = "as the model's autoencoder draws it"


class Appearance:
    """Features of references by name of the measure; witnesses and structure see pictures as `draw` makes them."""

    def __init__(self, measures: Mapping[str, Measure], witnesses: Iterable[Measure] = (), draw: Draw | None = None):
        self.measures, self._draw = dict(measures), draw
        self._drawn = {Structure.name, *(w.name for w in witnesses)} & measures.keys() if draw else set[str]()

    @property
    def identities(self) -> dict[str, str]:
        """By name of the measure, what its features are taken with and from: only the same ones may be compared."""
        told = {name: f", {AS_DRAWN}" if name in self._drawn else "" for name in self.measures}
        return {name: measure.identity + told[name] for name, measure in self.measures.items()}

    def pictures(self, images: Sequence[Image.Image]) -> dict[str, Sequence[Image.Image]]:
        """By name of the measure, the pictures that it takes its features of."""
        drawn = self._draw(images) if self._draw and self._drawn else images
        return {name: drawn if name in self._drawn else images for name in self.measures}

    def features(self, images: Sequence[Image.Image]) -> dict[str, torch.Tensor]:
        """By name of the measure, [n, …] of n pictures."""
        return {name: self.measures[name].features(seen) for name, seen in self.pictures(images).items()}
