"""Let a prompt that was unlearned read like a shorter wording of it: a closed-form edit of cross-attention.

A fully memorized prompt never learned to show anything but its training image. Once that is unlearned, its embedding
means nothing to the network. The edit maps the embeddings of such prompts onto those of wordings that name the same
things without reproducing anything. Only for prompts that are unlearned already: built in before that, it would hide
what the weights still hold (research/rewording.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

import torch

from memfix.models.context import ContextEdit
from memfix.variants.wordings import known_words

KNOWN = 50.0  # weight of the run's other texts, which must not move, against what must
ANYTHING = 0.1  # weight of texts out of the model's vocabulary: what nobody listed must not move either
RIDGE = 1e-5  # of the mean squared embedding
ENERGY = 0.999  # share of the wanted shift (squared) that the low-rank edit keeps


def solve(memorized: torch.Tensor, wording: torch.Tensor, known: torch.Tensor, anything: torch.Tensor) -> ContextEdit:
    """The edit that brings `memorized` closest to `wording`, token by token, and moves the others least.

    memorized, wording: [n, L, D]; known: [m, L, D]; anything: [k, L, D]. Least squares as in UCE (Gandikota
    et al., WACV 2024, eq. 7), but on the embeddings instead of on each layer's answer to them, so that one edit serves
    all layers and is of low rank: the projection on the main directions of the shift that it makes on `memorized`.
    """
    x, y = (v.double().flatten(0, 1) for v in (memorized, wording))
    moments = _moments(memorized) + KNOWN * _moments(known) + ANYTHING * _moments(anything)
    moments += RIDGE * moments.diagonal().mean() * torch.eye(len(moments), dtype=moments.dtype)
    shift = torch.linalg.solve(moments, x.T @ (y - x) / len(x))
    _, strength, directions = torch.linalg.svd(x @ shift, full_matrices=False)
    kept = strength.square().cumsum(0) / strength.square().sum().clamp_min(1e-30)
    write = directions[: int((kept < ENERGY).sum()) + 1].T
    return ContextEdit((shift @ write).T.float(), write.float())


def _moments(context: torch.Tensor) -> torch.Tensor:
    """Mean outer product of all tokens of [n, L, D], [D, D]."""
    tokens = context.double().flatten(0, 1)
    return tokens.T @ tokens / len(tokens)


def random_texts(vocabulary: Iterable[str], count: int = 400, longest: int = 8) -> list[str]:
    """Texts of 1 to `longest` random words of a vocabulary of CLIP's kind, always the same ones."""
    words = known_words(vocabulary)
    draw = Random(0)
    return [" ".join(draw.choices(words, k=draw.randint(1, longest))) for _ in range(count)]
