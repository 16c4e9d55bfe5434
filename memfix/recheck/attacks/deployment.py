"""The model as users run it: other guidance, samplers, steps, sizes, precision; an adapter at part of its strength."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch

from memfix.models.samplers import SAMPLERS
from memfix.recheck.attacks.base import Attacked, Attempt, Bench
from memfix.recheck.attacks.relearning import kept_weights
from memfix.variants.base import Variant

SCALES = (0.75, 1.5)  # of height and width
GUIDANCES = (1.0, 3.0, 12.0)
STRENGTHS = (0.9, 0.8, 0.65, 0.5)
PRECISIONS = ("fp16", "bf16")


def guided(attacked: Attacked, bench: Bench) -> Iterator[Attempt]:
    """Other scales of guidance than that of the detection."""
    for number, guidance in enumerate(GUIDANCES, 1):
        told = Variant(guidance=guidance)
        yield bench.sample(attacked, number * bench.samples, f"guidance{guidance:g}", told)


def stepped(attacked: Attacked, bench: Bench) -> Iterator[Attempt]:
    """Half as many denoising steps, and twice as many."""
    steps = bench.settings.num_inference_steps
    for number, other in enumerate((max(2, steps // 2), 2 * steps), 1):
        changed = replace(bench, settings=bench.settings.model_copy(update={"num_inference_steps": other}))
        yield changed.sample(attacked, number * bench.samples, f"steps{other}")


def resampled(attacked: Attacked, bench: Bench) -> Iterator[Attempt]:
    """Other samplers than the model's own."""
    for number, name in enumerate(SAMPLERS, 1):
        with bench.model.sampled_by(name):
            attempt = bench.sample(attacked, number * bench.samples, name)
        yield attempt


def resized(attacked: Attacked, bench: Bench) -> Iterator[Attempt]:
    """Smaller and larger pictures than those that the model was made for; none where it can make no others."""
    latents, made = bench.model.latents, bench.model.latents.shape
    for number, scale in enumerate(SCALES, 1):
        with latents.scaled(scale):
            if latents.shape == made:
                continue
            attempt = bench.sample(attacked, number * bench.samples, f"size{round(100 * scale)}")
        yield attempt


def rounded(attacked: Sequence[Attacked], bench: Bench) -> Iterator[Attempt]:
    """The arithmetic in half precision, and the weights in 8 bits."""
    with bench.model.denoiser.in_full():
        for number, precision in enumerate(PRECISIONS, 1):
            changed = replace(bench, settings=bench.settings.model_copy(update={"mixed_precision": precision}))
            for one in attacked:
                if one.prompt.id not in bench.found:
                    yield changed.sample(one, number * bench.samples, precision)
    with _in_eight_bits(bench):
        for one in attacked:
            if one.prompt.id not in bench.found:
                yield bench.sample(one, (len(PRECISIONS) + 1) * bench.samples, "int8")


def weakened(attacked: Sequence[Attacked], bench: Bench) -> Iterator[Attempt]:
    """The change of the weights applied in part, as a LoRA at less than strength 1."""
    module = bench.model.denoiser.module
    if not bench.original:
        return
    with kept_weights(bench), torch.no_grad():
        unlearned = {name: value.detach().cpu().clone() for name, value in module.state_dict().items()}
        for number, strength in enumerate(STRENGTHS, 1):
            mixed = {name: torch.lerp(bench.original[name], value, strength) for name, value in unlearned.items()}
            module.load_state_dict(mixed)
            for one in attacked:
                if one.prompt.id not in bench.found:
                    yield bench.sample(one, number * bench.samples, f"strength{round(100 * strength)}")


@contextmanager
def _in_eight_bits(bench: Bench) -> Iterator[None]:
    """Round the matrices to 255 levels a row, as 8-bit weights have them, for a while."""
    with kept_weights(bench), torch.no_grad():
        for weight in bench.model.denoiser.module.parameters():
            if weight.ndim > 1:
                scale = weight.flatten(1).abs().amax(1).clamp_min(1e-12).reshape(-1, *[1] * (weight.ndim - 1)) / 127
                weight.copy_((weight / scale).round() * scale)
        yield
