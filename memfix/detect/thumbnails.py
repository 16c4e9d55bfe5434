"""Small pictures of a check's samples, kept from when they were sampled, so that few are read from disk again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from memfix.inputs.opening import open_image
from memfix.measures.pixels import COARSE, to_tensor

MOST = 1 << 16  # kept at once, 3 KiB each; others are read from disk when they are asked for


class Thumbnails:
    """[3, 32, 32] of samples by file name, those in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept: dict[str, torch.Tensor] = {}

    def add(self, names: Sequence[str], images: Sequence[Image.Image]) -> None:
        """Keep those of samples that were just drawn, as far as there is room."""
        if names and len(self._kept) < MOST:
            levels = (to_tensor(images, COARSE) * 255).round().to(torch.uint8)  # what it was made of
            self._kept.update(zip(names, levels, strict=True))

    def of(self, names: Sequence[str]) -> torch.Tensor:
        """[n, 3, 32, 32] in 0 … 1."""
        missing = [name for name in names if name not in self._kept]
        read = (
            dict(zip(missing, to_tensor([open_image(self._folder / n) for n in missing], COARSE), strict=True))
            if missing
            else {}
        )
        return torch.stack([self._kept[n].float() / 255 if n in self._kept else read[n] for n in names])
