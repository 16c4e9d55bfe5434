"""Copies of a part: what stays the same in all samples of a prompt, held against the same place of the references.

A template copy keeps an arrangement and fills the rest anew, so that no sample as a whole is near any one training
image. Where to look is decided by the samples alone; then a masked squared error says whether it is copied (Webster
2023, "A Reproducible Extraction of Training Images from Diffusion Models", finds template copies that way).

Pure functions of small pictures, [n, 3, h, w] in 0 … 1.
"""

from __future__ import annotations

import math

import torch

AGREEMENT = 0.1  # rms over the channels up to which two pixels count as the same; an autoencoder alone makes 0.05
QUORUM = 0.25  # share of a prompt's other samples that must agree with a pixel
FEWEST = 2  # and the least number of them: what two samples share may be chance
LEAST_AREA = 0.1  # of the picture; less is a detail
LEAST_CONTRAST = 0.05  # rms about the region's mean colour: a flat region looks like any other
LIKENESS = (
    0.7  # from here on the region is copied; 0.5 is the most that ordinary prompts of the bundled model reach often
)


def quorum(samples: int) -> int:
    """How many other samples of so many must agree with one."""
    return max(FEWEST, math.ceil(QUORUM * (samples - 1)))


def fixed(samples: torch.Tensor) -> torch.Tensor:
    """Where each sample agrees with a quorum of the others, [n, h, w] bool.

    A quarter is enough, so that prompts which give the template only now and then have a region too.
    """
    agreeing = _agreement(samples).sum(1) - 1  # all agree with themselves
    return agreeing >= quorum(len(samples))


def likeness(samples: torch.Tensor, regions: torch.Tensor, references: torch.Tensor) -> torch.Tensor:
    """Share of each region's contrast that each reference explains, [n, m]; 1 is equality, less than 0 nothing at all.

    1 - Σ‖x-r‖² / Σ‖x-x̄‖² over the pixels of the region; x̄ is the sample's mean colour there, so a uniform picture of
    the right colour explains nothing. -inf where a region is too small or too flat to say anything.
    """
    n, pixels = len(samples), regions[0].numel()
    mask = regions.flatten(1).float()
    x, r = samples.flatten(2), references.flatten(2)
    count = mask.sum(1)
    masked = x * mask[:, None]
    mean = masked.sum(2) / count.clamp(min=1)[:, None]
    contrast = ((x - mean[..., None]).square() * mask[:, None]).sum((1, 2))
    energy = (masked * x).sum((1, 2))
    error = energy[:, None] - 2 * masked.reshape(n, -1) @ r.flatten(1).T + mask @ r.square().sum(1).T
    enough = (count >= LEAST_AREA * pixels) & (contrast >= 3 * count * LEAST_CONTRAST**2)
    return torch.where(enough[:, None], 1 - error / contrast.clamp(min=1e-9)[:, None], -torch.inf)


def common_area(copies: torch.Tensor) -> float:
    """Share of the picture in which most pairs of copies agree: near 1 if all are one picture; 1 for a single one."""
    n = len(copies)
    if n < 2:
        return 1.0
    pairs = (_agreement(copies).sum((0, 1)) - n) / (n * (n - 1))
    return float((pairs > 0.8).float().mean())


def _agreement(samples: torch.Tensor) -> torch.Tensor:
    """[n, n, h, w] bool: which pixels of two samples are the same."""
    rows = [(samples - s).square().mean(1).sqrt() <= AGREEMENT for s in samples]
    return torch.stack(rows)
