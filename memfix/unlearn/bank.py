"""Forget and keep items as latents, and the seeded draws that make a training batch of them. Knows no method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from memfix.errors import MemfixError
from memfix.models.latents import NoiseSchedule
from memfix.models.text import TextCache


@dataclass(frozen=True)
class Batch:
    """One pass. Mixture items come first; `prior` items are plain noised keep images.

    noisy, keep, forget: [B, C, h, w]; t, signal, noise: [B]; context: [B, L, D]; from_forget: [B] bool.
    prior_*: the same for P further items, with `prior_clean` [P, C, h, w].
    """

    noisy: torch.Tensor
    keep: torch.Tensor
    forget: torch.Tensor
    t: torch.Tensor
    signal: torch.Tensor
    noise: torch.Tensor
    context: torch.Tensor
    from_forget: torch.Tensor
    prior_noisy: torch.Tensor
    prior_clean: torch.Tensor
    prior_t: torch.Tensor
    prior_signal: torch.Tensor
    prior_noise: torch.Tensor
    prior_context: torch.Tensor

    @property
    def mixture(self) -> float:
        """Share of the mixture items that start from forget images: λ as drawn."""
        return float(self.from_forget.double().mean())


@dataclass
class Target:
    """One memorized prompt: latents to forget, latents to keep under the same text (there may be none)."""

    text: str
    forget: list[torch.Tensor] = field(default_factory=list)
    keep: list[torch.Tensor] = field(default_factory=list)


class Bank:
    """Everything that training draws from; latents [C, h, w] on the CPU.

    `prior` holds (text, latent) of keep images of other prompts. A target without keep images of its own borrows
    them, under their own text.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        prior: Sequence[tuple[str, torch.Tensor]],
        texts: TextCache,
        schedule: NoiseSchedule,
    ) -> None:
        if not targets or any(not t.forget for t in targets):
            raise ValueError("every target needs an image to forget")
        if not prior and any(not t.keep for t in targets):
            raise MemfixError(
                "There is nothing to keep: every sample of every prompt is a copy or a near-copy.",
                "Give --controls, a list of prompts that must not change, or a smaller --keep-margin.",
            )
        self.targets, self.prior, self.texts, self.schedule = targets, prior, texts, schedule

    def draw(
        self, generator: torch.Generator, size: int, prior_size: int, mixture: float, window: tuple[int, int]
    ) -> Batch:
        """A batch with a stratified mixture: round(λ·size) items start from forget images, at least 1, not all.

        Targets take turns in random order, so that all of them come up equally often. The window is where forgetting
        happens; prior items come from the whole schedule, since what must survive must survive everywhere.
        """
        n_forget = min(max(round(mixture * size), 1), size - 1)
        from_forget = torch.zeros(size, dtype=torch.bool)
        from_forget[:n_forget] = True
        keep, forget, texts = [], [], []
        for i, target in enumerate([*self._turns(generator, n_forget), *self._turns(generator, size - n_forget)]):
            a = target.forget[self._pick(generator, len(target.forget))]
            if target.keep:
                text, x = target.text, target.keep[self._pick(generator, len(target.keep))]
            else:
                text, x = self.prior[self._pick(generator, len(self.prior))]
            keep.append(x)
            forget.append(a)
            texts.append(target.text if from_forget[i] else text)
        kept, forgot = torch.stack(keep), torch.stack(forget)
        t, signal, noise = self._times(generator, size, window)
        clean = torch.where(from_forget.reshape(-1, 1, 1, 1), forgot, kept)

        prior_size = prior_size if self.prior else 0
        chosen = [self.prior[self._pick(generator, len(self.prior))] for _ in range(prior_size)]
        prior_t, prior_signal, prior_noise = self._times(generator, prior_size, (0, len(self.schedule)))
        prior_clean = torch.stack([x for _, x in chosen]) if chosen else kept[:0]
        return Batch(
            noisy=self._noised(generator, clean, signal, noise), keep=kept, forget=forgot, t=t, signal=signal,
            noise=noise, context=self.texts.stack(texts), from_forget=from_forget,
            prior_noisy=self._noised(generator, prior_clean, prior_signal, prior_noise), prior_clean=prior_clean,
            prior_t=prior_t, prior_signal=prior_signal, prior_noise=prior_noise,
            prior_context=self.texts.stack([text for text, _ in chosen] or [texts[0]])[:prior_size],
        )  # fmt: skip

    def _turns(self, generator: torch.Generator, n: int) -> list[Target]:
        order: list[int] = []
        while len(order) < n:
            order += torch.randperm(len(self.targets), generator=generator).tolist()
        return [self.targets[i] for i in order[:n]]

    def _times(self, generator: torch.Generator, n: int, window: tuple[int, int]) -> tuple[torch.Tensor, ...]:
        t = torch.randint(window[0], window[1], (n,), generator=generator)
        return t, self.schedule.signal_scale[t], self.schedule.noise_scale[t]

    @staticmethod
    def _pick(generator: torch.Generator, n: int) -> int:
        return int(torch.randint(n, (1,), generator=generator))

    @staticmethod
    def _noised(
        generator: torch.Generator, clean: torch.Tensor, signal: torch.Tensor, noise: torch.Tensor
    ) -> torch.Tensor:
        eps = torch.randn(clean.shape, generator=generator)
        shape = (-1, 1, 1, 1)
        return signal.float().reshape(shape) * clean + noise.float().reshape(shape) * eps
