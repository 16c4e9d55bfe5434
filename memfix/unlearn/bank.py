"""Forget and keep items as latents, and the seeded draws that make a training batch of them. Knows no method."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch

from memfix.models.text import TextCache


class Schedule(Protocol):
    """Training noise by timestep: x_t = signal_scale[t] x + noise_scale[t] ε, and what the network predicts."""

    prediction_type: str
    signal_scale: torch.Tensor
    noise_scale: torch.Tensor

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class Items:
    """Noisy points, and the clean picture that the network's answer at each is held against.

    noisy, clean: [n, C, h, w]; t, signal, noise: [n]; context: [n, L, D], None for a network without prompts.
    """

    noisy: torch.Tensor
    clean: torch.Tensor
    t: torch.Tensor
    signal: torch.Tensor
    noise: torch.Tensor
    context: torch.Tensor | None

    def __len__(self) -> int:
        return len(self.t)

    def pick(self, chosen: torch.Tensor) -> Items:
        """Those for which `chosen`, [n] bool, holds."""
        context = self.context if self.context is None else self.context[chosen.to(self.context.device)]
        return Items(
            self.noisy[chosen], self.clean[chosen], self.t[chosen], self.signal[chosen], self.noise[chosen], context
        )

    def join(self, other: Items) -> Items:
        """These, then the others."""
        contexts = [c for c in (self.context, other.context) if c is not None]
        return Items(
            torch.cat([self.noisy, other.noisy]), torch.cat([self.clean, other.clean]), torch.cat([self.t, other.t]),
            torch.cat([self.signal, other.signal]), torch.cat([self.noise, other.noise]),
            torch.cat(contexts) if contexts else None,
        )  # fmt: skip

    def towards(self, clean: torch.Tensor) -> Items:
        """The same noisy points, to be denoised to other pictures."""
        return Items(self.noisy, clean, self.t, self.signal, self.noise, self.context)


@dataclass(frozen=True)
class Batch:
    """One pass of B mixture items and P prior items.

    Item i of the mixture is a keep and a forget picture under the same timestep and noise; `from_forget` [B] says on
    which side it was drawn. `keep` has the text of its keep picture, `forget` that of the memorized prompt. `prior` are
    noised keep pictures of other prompts. `stand_ins` holds [K, C, h, w] for each item, `anchors` [B, L, D] the
    embeddings of harmless wordings; both only if the bank has them. `seed` is for draws that a term makes for itself.
    """

    keep: Items
    forget: Items
    from_forget: torch.Tensor
    prior: Items
    stand_ins: tuple[torch.Tensor, ...] = ()
    anchors: torch.Tensor | None = None
    seed: int = 0

    def __len__(self) -> int:
        return len(self.from_forget)

    @property
    def mixture(self) -> float:
        """Share of the mixture items that start from forget images: λ as drawn."""
        return float(self.from_forget.double().mean())

    @property
    def points(self) -> Items:
        """The mixture itself: each item on the side it was drawn on."""
        chosen = self.from_forget.reshape(-1, 1, 1, 1)
        context = self.keep.context
        if context is not None and self.forget.context is not None:
            context = torch.where(self.from_forget.reshape(-1, 1, 1).to(context.device), self.forget.context, context)
        return Items(
            torch.where(chosen, self.forget.noisy, self.keep.noisy),
            torch.where(chosen, self.forget.clean, self.keep.clean),
            self.keep.t, self.keep.signal, self.keep.noise, context,
        )  # fmt: skip

    @property
    def keep_half(self) -> Items:
        """The items drawn on the keep side."""
        return self.keep.pick(~self.from_forget)

    @property
    def forget_half(self) -> Items:
        """The items drawn on the forget side."""
        return self.forget.pick(self.from_forget)


@dataclass
class Target:
    """One memorized prompt: latents to forget, latents to keep under the same text (there may be none).

    stand_ins: for each forget latent, [K, C, h, w] of what its noisy versions may be denoised to instead.
    anchors: wordings of the prompt that do not give copies.
    """

    text: str
    forget: list[torch.Tensor] = field(default_factory=list)
    keep: list[torch.Tensor] = field(default_factory=list)
    stand_ins: list[torch.Tensor] = field(default_factory=list)
    anchors: list[str] = field(default_factory=list)


class Bank:
    """Everything that training draws from; latents [C, h, w] on the CPU.

    `prior` holds (text, latent) of keep images of other prompts, each prompt drawn as often as the others. A target
    without keep images of its own borrows them, under their own text. `texts` is None for a network without prompts.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        prior: Sequence[tuple[str, torch.Tensor]],
        texts: TextCache | None,
        schedule: Schedule,
    ) -> None:
        if not targets or any(not t.forget for t in targets):
            raise ValueError("every target needs an image to forget")
        self.targets, self.prior, self.texts, self.schedule = targets, prior, texts, schedule
        self._balanced = _balanced(prior)

    @property
    def has_keep(self) -> bool:
        """Every target has something to keep, its own or another prompt's."""
        return bool(self.prior) or all(t.keep for t in self.targets)

    @property
    def has_stand_ins(self) -> bool:
        """Every forget image has one or more stand-ins."""
        return all(len(t.stand_ins) == len(t.forget) for t in self.targets)

    @property
    def has_anchors(self) -> bool:
        """Every target has a wording that does not give copies."""
        return self.texts is not None and all(t.anchors for t in self.targets)

    def draw(
        self,
        generator: torch.Generator,
        size: int,
        prior_size: int,
        mixture: float,
        window: tuple[int, int],
        seed: int = 0,
    ) -> Batch:
        """A batch with a stratified mixture: round(λ·size) items start from forget images, at least 1, not all.

        At λ = 0 none does and at λ = 1 all do. Targets take turns in random order, so that all of them come up equally
        often. The window is where forgetting happens; prior items come from the whole schedule, since what must survive
        must survive everywhere.
        """
        n_forget = round(mixture * size) if mixture in (0, 1) else min(max(round(mixture * size), 1), size - 1)
        from_forget = torch.zeros(size, dtype=torch.bool)
        from_forget[:n_forget] = True
        keep, forget, keep_texts, chosen = [], [], [], []
        for target in [*self._turns(generator, n_forget), *self._turns(generator, size - n_forget)]:
            index = self._pick(generator, len(target.forget))
            text, x = self._kept(generator, target, index)
            keep.append(x)
            keep_texts.append(text)
            forget.append(target.forget[index])
            chosen.append((target, index))
        kept, forgot = torch.stack(keep), torch.stack(forget)
        times = self._times(generator, size, window)

        prior_size = prior_size if self.prior else 0
        others = [self._other(generator) for _ in range(prior_size)]
        prior_times = self._times(generator, prior_size, (0, len(self.schedule)))
        prior_clean = torch.stack([x for _, x in others]) if others else kept[:0]
        eps = torch.randn(kept.shape, generator=generator)
        prior_eps = torch.randn(prior_clean.shape, generator=generator)
        aside = torch.Generator().manual_seed(seed)  # so that what only some methods draw leaves all other draws alone
        return Batch(
            keep=self._items(kept, eps, times, keep_texts),
            forget=self._items(forgot, eps, times, [t.text for t, _ in chosen]),
            from_forget=from_forget,
            prior=self._items(prior_clean, prior_eps, prior_times, [text for text, _ in others]),
            stand_ins=tuple(t.stand_ins[i] for t, i in chosen) if self.has_stand_ins else (),
            anchors=self._stack(t.anchors[self._pick(aside, len(t.anchors))] for t, _ in chosen)
            if self.has_anchors
            else None,
            seed=seed,
        )

    def _turns(self, generator: torch.Generator, n: int) -> list[Target]:
        order: list[int] = []
        while len(order) < n:
            order += torch.randperm(len(self.targets), generator=generator).tolist()
        return [self.targets[i] for i in order[:n]]

    def _kept(self, generator: torch.Generator, target: Target, index: int) -> tuple[str, torch.Tensor]:
        if target.keep:
            return target.text, target.keep[self._pick(generator, len(target.keep))]
        if self.prior:
            return self._other(generator)
        return target.text, target.forget[index]  # methods without keep images never look at it

    def _other(self, generator: torch.Generator) -> tuple[str, torch.Tensor]:
        return self.prior[self._balanced[self._pick(generator, len(self._balanced))]]

    def _times(self, generator: torch.Generator, n: int, window: tuple[int, int]) -> torch.Tensor:
        return torch.randint(window[0], window[1], (n,), generator=generator)

    def _items(self, clean: torch.Tensor, eps: torch.Tensor, t: torch.Tensor, texts: Sequence[str]) -> Items:
        signal, noise = self.schedule.signal_scale[t], self.schedule.noise_scale[t]
        shape = (-1, 1, 1, 1)
        noisy = signal.float().reshape(shape) * clean + noise.float().reshape(shape) * eps
        return Items(noisy, clean, t, signal, noise, self._stack(texts))

    def _stack(self, texts: Iterable[str]) -> torch.Tensor | None:
        """Embeddings of texts, [n, L, D]; None without prompts."""
        if self.texts is None:
            return None
        wanted = list(texts)
        return self.texts.stack(wanted or [self.targets[0].text])[: len(wanted)]

    @staticmethod
    def _pick(generator: torch.Generator, n: int) -> int:
        return int(torch.randint(n, (1,), generator=generator))


def _balanced(prior: Sequence[tuple[str, torch.Tensor]]) -> list[int]:
    """Places in `prior`, so often that each text comes up as often as the one with the most items."""
    groups: dict[str, list[int]] = {}
    for place, (text, _) in enumerate(prior):
        groups.setdefault(text, []).append(place)
    most = max(map(len, groups.values()), default=0)
    return [own[i % len(own)] for own in groups.values() for i in range(most)]
