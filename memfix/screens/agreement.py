"""How near the two nearest of a prompt's seeds are in the clean latents that they head for."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice

import torch

from memfix.models.model import DiffusionModel
from memfix.screens.base import probe, seed_pairs
from memfix.screens.sampling import Sampling


def agreement(model: DiffusionModel, prompts: Sequence[str], sampling: Sampling) -> torch.Tensor:
    """Minus the smallest root mean square distance between two seeds' x̂_0 at step s, [P]; at most 0.

    Carlini et al., Extracting Training Data from Diffusion Models, USENIX Security 2023, in latents and before the
    end: x̂_0 is the clean image that the guided prediction amounts to, and at the last step the final latents. The
    nearest pair stands for a clique of copies, so that a prompt that is memorized in some samples only is found too.
    At the first steps x̂_0 says how far guidance overshoots, and nothing of copies. 2 s UNet evaluations.
    """
    (last,) = deque(islice(probe(model, prompts, sampling), sampling.steps), maxlen=1)
    first, second = seed_pairs(last.clean, len(sampling.seeds))
    return -(first - second).square().mean(-1).amin(1).sqrt().cpu()
