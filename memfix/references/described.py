"""Features of pictures that are too many to hold: taken when asked for, and kept for those asked for last."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from PIL import Image

from memfix.references.appearance import Appearance

KEPT = 1024  # pictures; 60 KiB each with the measures on pixels
CHUNK = 64  # decoded at once


class Described:
    """Features by the id of a picture, which `open_pictures` decodes; each once, as long as it is kept."""

    def __init__(
        self, open_pictures: Callable[[Sequence[int]], Sequence[Image.Image]], appearance: Appearance, kept: int = KEPT
    ) -> None:
        self._open, self._appearance, self._size = open_pictures, appearance, kept
        self._kept: OrderedDict[int, dict[str, torch.Tensor]] = OrderedDict()

    def __call__(self, ids: Sequence[int]) -> dict[str, torch.Tensor]:
        """[n, …] of each measure for n ids, in their order."""
        held = {i: self._kept[i] for i in ids if i in self._kept}
        missing = sorted(set(ids) - held.keys())
        for start in range(0, len(missing), CHUNK):
            held |= self._describe(missing[start : start + CHUNK])
        for i in dict.fromkeys(ids):
            self._kept[i] = held[i]
            self._kept.move_to_end(i)
        while len(self._kept) > self._size:
            self._kept.popitem(last=False)
        return {name: torch.stack([held[i][name] for i in ids]) for name in self._appearance.measures}

    def _describe(self, ids: Sequence[int]) -> dict[int, dict[str, torch.Tensor]]:
        features = self._appearance.features(self._open(ids))
        return {i: {name: rows[place].clone() for name, rows in features.items()} for place, i in enumerate(ids)}
