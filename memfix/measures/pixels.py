"""Measures on pixels, without any weights: they find copies that keep layout and colours, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from skimage.metrics import structural_similarity

from memfix.thresholds import THRESHOLDS

SIDE = 64
COARSE = 32
GRID = 4


def to_tensor(images: Sequence[Image.Image], side: int = SIDE) -> torch.Tensor:
    """[n, 3, side, side] in 0 … 1, squeezed to a square without cropping."""
    small = [i.convert("RGB").resize((side, side), Image.Resampling.BOX, reducing_gap=None) for i in images]
    return torch.from_numpy(np.stack([np.asarray(s) for s in small])).permute(0, 3, 1, 2).float() / 255


def detail(images: Sequence[Image.Image]) -> list[float]:
    """Mean absolute difference of neighbouring pixels at SIDE pixels, 0 to 1: near 0 a blank, high for noise."""
    found: list[float] = detail_of(to_tensor(images)).tolist()
    return found


def detail_of(x: torch.Tensor) -> torch.Tensor:
    """The same of pictures [n, 3, h, w] as they are, [n]."""
    across = (x[..., 1:] - x[..., :-1]).abs().mean((1, 2, 3))
    down = (x[..., 1:, :] - x[..., :-1, :]).abs().mean((1, 2, 3))
    return (across + down) / 2


def rms_difference(a: Image.Image, b: Image.Image) -> float:
    """Root mean square difference of two pictures of one size, 0 to 1."""
    first, second = (np.asarray(image.convert("RGB"), np.float32) / 255 for image in (a, b))
    return float(np.sqrt(np.mean((first - second) ** 2)))


class TiledL2:
    """Largest root mean square difference over a 4x4 grid of tiles, 0 to 1; near 0 for copies.

    Carlini et al. 2023, "Extracting Training Data from Diffusion Models", section 4.2: the maximum over tiles keeps
    two pictures apart that share a plain background and differ only in what stands on it.
    """

    name = "tiled_l2"
    side = SIDE
    higher_is_closer = False
    threshold = THRESHOLDS["bundled-tiled-l2"].value
    margin = 0.1
    identity = f"RGB at {SIDE}x{SIDE}, {GRID}x{GRID} tiles"
    source = "Carlini et al. 2023; default threshold set on the bundled model, see docs/methods.md"

    def features(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """[n, 16, 768]: pixels of each tile, scaled so that distances are root mean squares."""
        x, tile = to_tensor(images), SIDE // GRID
        x = x.reshape(len(x), 3, GRID, tile, GRID, tile).permute(0, 2, 4, 1, 3, 5)
        tiles: torch.Tensor = x.reshape(len(x), GRID * GRID, -1)
        return tiles.div((3 * tile * tile) ** 0.5)

    @staticmethod
    def pictures(features: torch.Tensor) -> torch.Tensor:
        """[n, 3, SIDE, SIDE] in 0 … 1: what features were made of."""
        tile = SIDE // GRID
        x = features.mul((3 * tile * tile) ** 0.5).reshape(len(features), GRID, GRID, 3, tile, tile)
        return x.permute(0, 3, 1, 4, 2, 5).reshape(len(features), 3, SIDE, SIDE)

    def compare(self, samples: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
        """[n, m]."""
        distances: torch.Tensor = torch.cdist(samples.transpose(0, 1), references.transpose(0, 1))
        return distances.amax(0)

    def pair(self, samples: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
        """[n]."""
        distances: torch.Tensor = torch.linalg.vector_norm(samples - references, dim=-1)
        return distances.amax(-1)


class Ssim:
    """Structural similarity, -1 to 1, on RGB at 32x32 pixels (Wang et al. 2004, gaussian weights).

    Coarse on purpose: a copy that an autoencoder has softened keeps its structure at this size, while at 64x64 it
    falls below pictures that merely share a smooth background.
    """

    name = "ssim"
    side = COARSE
    higher_is_closer = True
    threshold = THRESHOLDS["bundled-ssim"].value
    margin = 0.22
    identity = f"RGB at {COARSE}x{COARSE}, gaussian window, sigma 1.5"
    source = "Wang et al. 2004; default threshold set on the bundled model, see docs/methods.md"

    def features(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """[n, 3, 32, 32]."""
        return to_tensor(images, COARSE)

    def compare(self, samples: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
        """[n, m]; a pair takes about a millisecond."""
        rows = [self.pair(s.expand_as(references), references) for s in samples]
        return torch.stack(rows)

    def pair(self, samples: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
        """[n]."""
        values = [
            structural_similarity(
                a.numpy(), b.numpy(), channel_axis=0, data_range=1.0, gaussian_weights=True, sigma=1.5,
                use_sample_covariance=False,
            )
            for a, b in zip(samples, references, strict=True)
        ]  # fmt: skip
        return torch.tensor(values, dtype=torch.float32)
