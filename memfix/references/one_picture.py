"""Which references are one picture but for re-encoding and resizing: what the background must not count as unrelated.

Pixels alone say it, whatever measure decides what a copy is: a threshold calibrated on what the measure itself had left
could never lie beyond the level at which it was left. Knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from memfix.inputs.inside import parted
from memfix.measures.pixels import GRID, SIDE, TiledL2
from memfix.records import Reference
from memfix.references.forest import Forest
from memfix.references.near_copies import Criterion, link_by_pixels, thumbnails

TILE_SIDE = 4  # pixels of a tile's side, so 16x16 in all: finer ones are what JPEG and a smaller size take away
TILES_APART = 0.08
"""Most that a tile may differ by at that size, rms. On the 300 bundled references, 64x64 pixels, as JPEG of quality 30:
0.070 for 99 % of them, 0.083 at most; of quality 50, 0.055 and 0.061; enlarged to 512 pixels first, 0.014 at most;
made smaller by a quarter, 0.035. Two with different captions are 0.163 apart or more, two backgrounds of a template
0.129. At 64 pixels these overlap: quality 30 reaches 0.22, other captions begin at 0.186."""
LOST = 0.1
"""Most of the contrast of either that the difference may be: two faint pictures, or two drawings in thin lines, are
close in every tile. Quality 30: 0.091 for 99 %, 0.114 at most; other captions from 0.62, other backgrounds from 0.27.
"""
FLAT = 2 / 255  # rms difference that rounding makes of a picture without any contrast


class Prints(TiledL2):
    """`tiled_l2` at 16x16 pixels."""

    name = "prints"
    threshold = TILES_APART
    identity = f"RGB at {GRID * TILE_SIDE}x{GRID * TILE_SIDE}, {GRID}x{GRID} tiles"

    def features(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """[n, 16, 48]."""
        return prints(super().features(images))


def prints(pixels: torch.Tensor) -> torch.Tensor:
    """[n, 16, 48]: tiles of 4x4 pixels, scaled so that distances are root mean squares; from those of `tiled_l2`."""
    side = SIDE // GRID
    tiles = pixels.reshape(-1, 3, side, side)
    return (F.avg_pool2d(tiles, side // TILE_SIDE) * (side // TILE_SIDE)).reshape(len(pixels), GRID * GRID, -1)


def one_picture(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """[n] bool: whether the pictures of two rows of prints are the same."""
    difference = (a - b).square().sum((1, 2)) / GRID**2
    lost = difference / torch.minimum(_contrast(a), _contrast(b)).clamp(min=FLAT**2 / LOST)
    return (Prints().pair(a, b) <= TILES_APART) & (lost <= LOST)


def _contrast(x: torch.Tensor) -> torch.Tensor:
    """[n] mean square about the mean colour of each picture."""
    pixels = x.reshape(len(x), GRID * GRID, 3, -1)
    about: torch.Tensor = (pixels - pixels.mean((1, 3), keepdim=True)).square().sum((1, 2, 3)) / GRID**2
    return about


def duplicates(pixels: torch.Tensor) -> torch.Tensor:
    """[n] labels: what is one picture, by however long a chain, shares the place of its first; from `tiled_l2`.

    Every pair is compared, or ruled out by a lower bound of its distance.
    """
    forest, coarse = Forest(len(pixels)), prints(pixels)
    forest.join_equal(thumbnails(pixels))
    link_by_pixels(forest, pixels, TILES_APART, [Criterion(coarse, one_picture)])
    return torch.from_numpy(forest.roots())


def unrelated_groups(references: Sequence[Reference], pictures: torch.Tensor) -> torch.Tensor:
    """[n] labels: references with one caption, of one file, or that are one picture by the labels `pictures`, share
    theirs."""
    forest = Forest(len(references))
    forest.join_equal(r.text for r in references)
    forest.join_equal(parted(r.path)[0] for r in references)
    forest.join_pairs(pictures.numpy(), np.arange(len(references)))
    return torch.from_numpy(forest.roots())
