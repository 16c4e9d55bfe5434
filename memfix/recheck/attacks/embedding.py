"""Text embeddings optimised until the model draws the training image: what the weights still hold, whatever the words.

Finding DoRI (arXiv 2507.16880): Adam on the denoising loss of the training image with respect to the embedding, with a
new timestep and new noise at each step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import torch

from memfix.models.conditioning import Conditioning
from memfix.models.denoiser import Network
from memfix.models.prediction import expand, target
from memfix.models.room import Room
from memfix.recheck.attacks.base import Attacked, Attempt, Bench
from memfix.variants.base import Variant

USUAL_STEPS, LONG = (50,), (50, 100, 200, 300, 500)  # after which the model is sampled
LEARNING_RATE, BATCH = 0.1, 8  # as published
SCALE = 1024.0  # of the loss, so that half precision keeps its gradient; Adam does not care

Start = Callable[[Attacked, Bench], Conditioning]


def from_prompt(attacked: Attacked, bench: Bench) -> Conditioning:
    """The prompt's own embedding, one row."""
    return bench.model.text.encode([attacked.prompt.text])


def from_noise(attacked: Attacked, bench: Bench) -> Conditioning:
    """Numbers of N(0, 1) in its place."""
    told = from_prompt(attacked, bench)
    drawn = torch.randn(told.tokens.shape, generator=_generator(attacked, bench))
    return replace(told, tokens=drawn.to(told.tokens))


def from_clean(attacked: Attacked, bench: Bench) -> Conditioning:
    """The embedding of a prompt that is not memorized; of the empty one where there is none."""
    texts = [prompt.text for prompt, _ in bench.clean if prompt.id != attacked.prompt.id] or [""]
    place = int(torch.randint(len(texts), (), generator=_generator(attacked, bench)))
    return bench.model.text.encode([texts[place]])


def optimised(start: Start, after: Sequence[int] = USUAL_STEPS) -> Callable[[Attacked, Bench], Iterator[Attempt]]:
    """The attack from a start, sampled after so many steps."""

    def attack(attacked: Attacked, bench: Bench) -> Iterator[Attempt]:
        told = start(attacked, bench)
        for step, tokens in enumerate(optimisation(attacked, bench, told), 1):
            if step in after:
                found = replace(told, tokens=tokens).to("cpu")
                yield bench.sample(attacked, step, f"step{step}", Variant(conditioning=found))
            if step == after[-1]:
                return

    return attack


def optimisation(attacked: Attacked, bench: Bench, told: Conditioning) -> Iterator[torch.Tensor]:
    """Token embeddings [1, L, D] after each step, on the device, without end."""
    model, schedule = bench.model, bench.model.schedule
    room = Room(save=model.denoiser.save_memory)
    network = room.network(model.denoiser.network(bench.settings.mixed_precision))
    generator, clean = _generator(attacked, bench), attacked.latent[None]
    moved = told.tokens.clone().float().requires_grad_()
    optimizer = torch.optim.Adam([moved], lr=LEARNING_RATE)
    while True:
        t = torch.randint(len(schedule), (BATCH,), generator=generator)
        noise = torch.randn(BATCH, *attacked.latent.shape, generator=generator)
        signal, scale = schedule.signal_scale[t], schedule.noise_scale[t]
        noisy = expand(signal, noise) * clean + expand(scale, noise) * noise
        wanted = target(noisy, clean, signal, scale, schedule.prediction_type).to(model.device)
        now = partial(_gradient, network, noisy, t.to(model.device), wanted, told, moved)
        moved.grad = room.fit(now, BATCH)
        optimizer.step()
        yield moved.detach().clone()


def _gradient(
    network: Network, noisy: torch.Tensor, t: torch.Tensor, wanted: torch.Tensor, told: Conditioning,
    moved: torch.Tensor,
) -> torch.Tensor:  # fmt: skip
    """Of the scaled loss, by the embedding that takes the place of the tokens that are told."""
    answer = network(noisy, t, replace(told, tokens=moved).expand(len(noisy)))
    (gradient,) = torch.autograd.grad(SCALE * (answer - wanted).square().mean(), [moved])
    return gradient


def _generator(attacked: Attacked, bench: Bench) -> torch.Generator:
    """The same for a prompt whichever model is attacked."""
    return torch.Generator().manual_seed(bench.seed + sum(attacked.prompt.id.encode()))
