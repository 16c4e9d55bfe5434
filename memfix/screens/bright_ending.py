"""Where the end of the prompt is attended to in the last step, and how far the prompt moves the prediction there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from memfix.models.attention import record_cross_attention
from memfix.models.model import DiffusionModel
from memfix.screens.base import mean_over_seeds, norms, probe
from memfix.screens.sampling import Sampling


class BrightEnding(NamedTuple):
    """scores: [P]. masks: [P, S, h, w], shares of attention between 0 and 1; bright where a copy is local."""

    scores: torch.Tensor
    masks: torch.Tensor


def bright_ending(model: DiffusionModel, prompts: Sequence[str], sampling: Sampling) -> torch.Tensor:
    """The scores of `bright_ending_with_masks`, [P]."""
    return bright_ending_with_masks(model, prompts, sampling).scores


@torch.no_grad()
def bright_ending_with_masks(model: DiffusionModel, prompts: Sequence[str], sampling: Sampling) -> BrightEnding:
    """Mean over all steps and over seeds of ‖d_t ∘ m‖₂ / mean(m), with m the last step's attention to the end token.

    Chen et al., Exploring Local Memorization in Diffusion Models via Bright Ending Attention, ICLR 2025. d_t =
    ε_θ(x_t, c) - ε_θ(x_t, ∅). Always walks all steps: 2 N UNet evaluations.

    Reconstructed: m is averaged over heads and over the cross-attention layers at the latents' own resolution, and
    the end token is the first after the prompt.
    """
    total = len(model.timesteps(sampling.num_inference_steps))
    walk, differences = probe(model, prompts, sampling), list[torch.Tensor]()
    _, height, width = model.latents.shape
    for number in range(total):
        if number in (0, total - 1):  # the first one only for a model without such layers to be refused at once
            with record_cross_attention(model.denoiser.module, height * width) as recorder:
                differences.append(next(walk).difference)
            with_prompt, _ = recorder.mean().chunk(2)
        else:
            differences.append(next(walk).difference)
    ends = model.text.end_places(prompts).repeat_interleave(len(sampling.seeds))
    masks = with_prompt[torch.arange(len(ends)), :, ends].reshape(-1, height, width)
    masked = torch.stack([norms(d * masks[:, None]) for d in differences]).mean(0)
    scores = mean_over_seeds(masked / masks.mean((1, 2)), len(sampling.seeds))
    return BrightEnding(scores, masks.reshape(len(prompts), -1, height, width).cpu())
