"""Let a prompt that was unlearned read like a shorter wording of it: a closed-form edit of cross-attention.

A fully memorized prompt never learned to show anything but its training image. Once that is unlearned, its embedding
means nothing to the network. The edit maps the embeddings of such prompts onto those of wordings that name the same
things without reproducing anything. Only for prompts that are unlearned already: built in before that, it would hide
what the weights still hold.
"""

from __future__ import annotations

import torch

from memfix.models.context import ContextEdit

PRESERVE = 30.0  # weight of what must not move against what must
RIDGE = 1e-5  # of the mean squared embedding
ENERGY = 0.999  # share of the wanted shift (squared) that the low-rank edit keeps


def solve(memorized: torch.Tensor, wording: torch.Tensor, preserved: torch.Tensor) -> ContextEdit:
    """The edit that brings `memorized` closest to `wording`, token by token, and moves `preserved` least.

    memorized, wording: [n, L, D]; preserved: [m, L, D]. Least squares as in UCE (Gandikota et al., WACV 2024, eq. 7),
    but on the embeddings instead of on each layer's answer to them, so that one edit serves all layers and is of low
    rank: the projection on the main directions of the shift that it makes on `memorized`.
    """
    x, y = (v.double().flatten(0, 1) for v in (memorized, wording))
    others = preserved.double().flatten(0, 1)
    covariance = x.T @ x / len(x)
    moments = covariance + PRESERVE * others.T @ others / len(others)
    moments += RIDGE * moments.diagonal().mean() * torch.eye(len(moments), dtype=moments.dtype)
    shift = torch.linalg.solve(moments, x.T @ (y - x) / len(x))
    _, strength, directions = torch.linalg.svd(x @ shift, full_matrices=False)
    kept = strength.square().cumsum(0) / strength.square().sum().clamp_min(1e-30)
    write = directions[: int((kept < ENERGY).sum()) + 1].T
    return ContextEdit((shift @ write).T.float(), write.float())
