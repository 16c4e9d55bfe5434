"""What references were described as, kept in the run: later stages compare with it, and open no picture again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from memfix.files import atomic_file, sort_metadata
from memfix.measures.base import Measure
from memfix.measures.pixels import Ssim, TiledL2, to_tensor
from memfix.measures.structure import Structure
from memfix.records import Reference
from memfix.references.appearance import Appearance

FILE = "references.safetensors"
SIDES = {m.name: m.side for m in (TiledL2, Ssim, Structure)}
"""Measures on pixels are kept as the small pictures that they are made of, which take a fourth of the room."""


class Descriptions:
    """Small pictures and features of references, gathered in batches."""

    def __init__(self, appearance: Appearance) -> None:
        self._appearance = appearance
        self._parts: dict[str, list[torch.Tensor]] = {name: [] for name in appearance.measures}

    def add(self, images: Sequence[Image.Image]) -> None:
        """Describe some more pictures."""
        for name, pictures in self._appearance.pictures(images).items():
            if name in SIDES:
                self._parts[name].append((to_tensor(pictures, SIDES[name]) * 255).round().to(torch.uint8))
            else:
                self._parts[name].append(self._appearance.measures[name].features(pictures))

    def tensors(self) -> dict[str, torch.Tensor]:
        """By name of the measure, in the order of the pictures: [n, 3, side, side] uint8, or features [n, …]."""
        return {name: torch.cat(parts) for name, parts in self._parts.items()}


def features_of(tensors: Mapping[str, torch.Tensor], measures: Mapping[str, Measure]) -> dict[str, torch.Tensor]:
    """The features by name of the measure; of pictures that have their size already, these are exactly the same."""
    return {name: measures[name].features(_pictures(kept)) if name in SIDES else kept for name, kept in tensors.items()}


def write_described(
    file: Path, tensors: Mapping[str, torch.Tensor], references: Sequence[Reference], appearance: Appearance
) -> None:
    """Write descriptions down, with the names of the references and what each measure saw of them."""
    metadata = {"references": json.dumps([r.file_name for r in references]), **appearance.identities}
    with atomic_file(file) as out:
        out.write(save({name: kept.contiguous() for name, kept in tensors.items()}, metadata))
        out.flush()
        sort_metadata(Path(out.name))


def read_described(
    file: Path, references: Sequence[Reference], appearance: Appearance
) -> dict[str, torch.Tensor] | None:
    """Descriptions that were written down; None if these are of other references or measures, or cannot be read."""
    wanted = {"references": json.dumps([r.file_name for r in references]), **appearance.identities}
    try:
        with safe_open(file, "pt") as kept:
            if kept.metadata() != wanted:
                return None
            return {name: kept.get_tensor(name) for name in appearance.measures}
    except (OSError, SafetensorError):
        return None


def _pictures(levels: torch.Tensor) -> list[Image.Image]:
    """[n, 3, h, w] uint8 → pictures."""
    arrays: list[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]] = [
        np.ascontiguousarray(x) for x in levels.permute(0, 2, 3, 1).numpy()
    ]
    return [Image.fromarray(array) for array in arrays]
