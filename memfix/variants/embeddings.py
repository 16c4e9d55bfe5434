"""Variants of a prompt that only its embedding has: no text says them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random

import torch

from memfix.models.conditioning import Conditioning
from memfix.variants.base import Subject, Variant

NOISE = (1.0, 2.0, 4.0)  # of an embedding's own spread
DESCENT = (10, 20, 40)  # steps after which the embedding is taken
DESCENT_RATE, DESCENT_SEEDS = 0.05, 4


def noised(subject: Subject) -> list[Variant]:
    """The embedding plus Gaussian noise of growing size, the same directions each time."""
    tokens = subject.conditioning.tokens
    generator = torch.Generator().manual_seed(Random(subject.text).getrandbits(63))
    return [subject.moved(tokens + s * tokens.std() * torch.randn(tokens.shape, generator=generator)) for s in NOISE]


def descended(subject: Subject) -> list[Variant]:
    """The embedding after a few steps that bring the magnitude score down."""
    return [subject.moved(tokens) for n, tokens in enumerate(descent(subject), 1) if n in DESCENT]


def descent(subject: Subject) -> Iterator[torch.Tensor]:
    """Token embeddings [1, L, D] along steps of Adam on ‖ε_θ(x_T, c) - ε_θ(x_T, ∅)‖², averaged over seeds.

    Memorized prompts move the first prediction further than others (Wen et al., ICLR 2024, section 4.2.1).
    """
    model, settings = subject.model, subject.settings
    seeds = range(settings.seed, settings.seed + DESCENT_SEEDS)
    course, told = model.course(seeds, settings.num_inference_steps), subject.conditioning.to(model.device)
    network = model.denoiser.network(settings.mixed_precision)
    moved = told.tokens.clone().requires_grad_()
    optimizer = torch.optim.Adam([moved], lr=DESCENT_RATE)

    def predict(one: Conditioning) -> torch.Tensor:
        return network(course.latents, course.time, one.expand(len(seeds)))

    with torch.no_grad():
        without = predict(model.text.encode([None]))
    for _ in range(max(DESCENT)):
        score = (predict(replace(told, tokens=moved)) - without).square().flatten(1).sum(1).mean()
        (moved.grad,) = torch.autograd.grad(score, [moved])
        optimizer.step()
        yield moved.detach().cpu().clone()
