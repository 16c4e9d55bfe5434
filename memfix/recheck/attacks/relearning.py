"""A little more training, of the kind that users do: what was erased may come back by itself (DiMRA, 2512.03564)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch

from memfix.models.conditioning import Conditioning
from memfix.models.denoiser import Network
from memfix.models.prediction import expand, target
from memfix.models.room import Room
from memfix.recheck.attacks.base import Attacked, Attempt, Bench

BENIGN_STEPS, BENIGN_RATE, BATCH = (50, 100, 200), 1e-5, 8
ONE_STEPS, ONE_RATE, ONE_BATCH = (1, 2, 5, 10, 20, 50), 1e-5, 4


def benign(attacked: Sequence[Attacked], bench: Bench) -> Iterator[Attempt]:
    """Fine-tune all weights on samples of prompts that were never memorized, and ask for the training images again."""
    if not bench.clean:
        return
    prompts, pictures = [p.text for p, _ in bench.clean], [image for _, image in bench.clean]
    latents = torch.stack(list(bench.model.latents.encode(pictures)))
    with kept_weights(bench):
        for step in fine_tuned(bench, prompts, latents, BENIGN_RATE, BATCH):
            if step in BENIGN_STEPS:
                for one in attacked:
                    if one.prompt.id not in bench.found:
                        yield bench.sample(one, step, f"benign{step}")
            if step == BENIGN_STEPS[-1]:
                return


def relearned(attacked: Attacked, bench: Bench) -> Iterator[Attempt]:
    """Fine-tune all weights on the training image itself: how many steps until it is back."""
    with kept_weights(bench):
        for step in fine_tuned(bench, [attacked.prompt.text], attacked.latent[None], ONE_RATE, ONE_BATCH):
            if step in ONE_STEPS:
                yield bench.sample(attacked, step, f"relearned{step}")
            if step == ONE_STEPS[-1]:
                return


@contextmanager
def kept_weights(bench: Bench) -> Iterator[None]:
    """The denoiser's weights in full; whatever becomes of them inside, afterwards they are the same ones."""
    module = bench.model.denoiser.module
    with bench.model.denoiser.in_full():
        before = {name: value.detach().cpu().clone() for name, value in module.state_dict().items()}
        try:
            yield
        finally:
            module.load_state_dict(before)
            module.requires_grad_(False)


def fine_tuned(
    bench: Bench, texts: Sequence[str], latents: torch.Tensor, rate: float, batch: int
) -> Iterator[int]:  # fmt: skip
    """Plain training of all weights on pictures of texts, latents [m, C, h, w]; yields after each step, without end.

    A step that memory does not hold is taken in parts, which changes nothing.
    """
    model, schedule = bench.model, bench.model.schedule
    module, room = model.denoiser.module.requires_grad_(True), Room(save=model.denoiser.save_memory)
    network = room.network(model.denoiser.network(bench.settings.mixed_precision))
    optimizer, encoded = torch.optim.AdamW(module.parameters(), lr=rate), model.text.encode(texts)
    generator, step = torch.Generator().manual_seed(bench.seed), 0
    while True:
        chosen = torch.randint(len(texts), (batch,), generator=generator)
        t = torch.randint(len(schedule), (batch,), generator=generator)
        clean, noise = latents[chosen], torch.randn(batch, *latents.shape[1:], generator=generator)
        signal, scale = schedule.signal_scale[t], schedule.noise_scale[t]
        noisy = expand(signal, noise) * clean + expand(scale, noise) * noise
        wanted = target(noisy, clean, signal, scale, schedule.prediction_type).to(model.device)
        told = encoded.pick(chosen)
        room.fit(partial(_differentiate, optimizer, network, noisy, t.to(model.device), told, wanted), batch)
        optimizer.step()
        step += 1
        with torch.no_grad():
            yield step


def _differentiate(
    optimizer: torch.optim.Optimizer, network: Network, noisy: torch.Tensor, t: torch.Tensor, told: Conditioning,
    wanted: torch.Tensor,
) -> None:  # fmt: skip
    """Leave the gradient of the denoising loss in the weights, and nothing of an attempt that ran out of memory."""
    optimizer.zero_grad(set_to_none=True)
    loss = (network(noisy, t, told) - wanted).square().mean()
    loss.backward()  # type: ignore[no-untyped-call]  # torch does not type it
