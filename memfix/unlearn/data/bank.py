"""Forget and keep items as latents, and the seeded draws that make a training batch of them. Knows no method."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import torch

from memfix.models.conditioning import Conditioning
from memfix.unlearn.data.draws import Draw


class Schedule(Protocol):
    """Training noise by timestep: x_t = signal_scale[t] x + noise_scale[t] ε, and what the network predicts."""

    prediction_type: str
    signal_scale: torch.Tensor
    noise_scale: torch.Tensor

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class Items:
    """Noisy points, and the clean picture that the network's answer at each is held against.

    noisy, clean: [n, C, h, w]; t, signal, noise: [n]; conditioning: a row each, None for a network without prompts.
    """

    noisy: torch.Tensor
    clean: torch.Tensor
    t: torch.Tensor
    signal: torch.Tensor
    noise: torch.Tensor
    conditioning: Conditioning | None

    def __len__(self) -> int:
        return len(self.t)

    def pick(self, chosen: torch.Tensor) -> Items:
        """Those for which `chosen`, [n] bool, holds."""
        return Items(
            self.noisy[chosen], self.clean[chosen], self.t[chosen], self.signal[chosen], self.noise[chosen],
            None if self.conditioning is None else self.conditioning.pick(chosen),
        )  # fmt: skip

    def join(self, other: Items) -> Items:
        """These, then the others."""
        told = [c for c in (self.conditioning, other.conditioning) if c is not None]
        return Items(
            torch.cat([self.noisy, other.noisy]), torch.cat([self.clean, other.clean]), torch.cat([self.t, other.t]),
            torch.cat([self.signal, other.signal]), torch.cat([self.noise, other.noise]),
            Conditioning.cat(told) if told else None,
        )  # fmt: skip

    def towards(self, clean: torch.Tensor) -> Items:
        """The same noisy points, to be denoised to other pictures."""
        return Items(self.noisy, clean, self.t, self.signal, self.noise, self.conditioning)


@dataclass(frozen=True)
class Batch:
    """One pass of B mixture items and P prior items.

    Item i of the mixture is a keep and a forget picture under the same timestep and noise; `from_forget` [B] says on
    which side it was drawn. `keep` has the text of its keep picture, `forget` that of the memorized prompt. `prior` are
    noised keep pictures of other prompts. `draw` is for what a term draws for itself; `targets` are the places of the
    items' targets in the bank. `surrogates` holds [K, C, h, w] for each item, `anchors` B rows of harmless wordings;
    both only if the bank has them. `reworded` [B] says whose keep picture the model drew under another wording of the
    prompt, and `wordings` has the rows, [B], of the texts that keep pictures were drawn under.
    """

    keep: Items
    forget: Items
    from_forget: torch.Tensor
    reworded: torch.Tensor
    prior: Items
    draw: Draw
    targets: tuple[int, ...] = ()
    surrogates: tuple[torch.Tensor, ...] = ()
    anchors: Conditioning | None = None
    wordings: Conditioning | None = None

    def __len__(self) -> int:
        return len(self.from_forget)

    @property
    def most(self) -> int:
        """Items that a network may be asked about at once."""
        return len(self) + len(self.prior)

    @property
    def mixture(self) -> float:
        """Share of the mixture items that start from forget images: λ as drawn."""
        return float(self.from_forget.double().mean())

    @property
    def alike(self) -> torch.Tensor:
        """Whether the keep and the forget picture of an item are under the same text, or both without, [B] bool."""
        if self.keep.conditioning is None or self.forget.conditioning is None:
            return torch.ones(len(self), dtype=torch.bool)
        return self.keep.conditioning.equals(self.forget.conditioning).to(self.from_forget.device)

    @property
    def points(self) -> Items:
        """The mixture itself: each item on the side it was drawn on."""
        chosen = self.from_forget.reshape(-1, 1, 1, 1)
        told = self.keep.conditioning
        if told is not None and self.forget.conditioning is not None:
            told = self.forget.conditioning.where(self.from_forget, told)
        return Items(
            torch.where(chosen, self.forget.noisy, self.keep.noisy),
            torch.where(chosen, self.forget.clean, self.keep.clean),
            self.keep.t, self.keep.signal, self.keep.noise, told,
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

    surrogates: for each forget latent, [K, C, h, w] of what its noisy versions may be denoised to instead.
    anchors: wordings of the prompt that do not give copies.
    frames: for each forget latent, what the network is told of its picture's size and crop, [6], if it is told that.
    wordings: for each keep latent, a wording that gives no copies under which the model drew it, or None; may be empty.
    """

    text: str
    forget: list[torch.Tensor] = field(default_factory=list)
    keep: list[torch.Tensor] = field(default_factory=list)
    surrogates: list[torch.Tensor] = field(default_factory=list)
    anchors: list[str] = field(default_factory=list)
    frames: list[torch.Tensor] = field(default_factory=list)
    wordings: list[str | None] = field(default_factory=list)


class Picked(NamedTuple):
    """A picture for an item: its text, empty for no prompt; its latent; and what the network is told of its size and
    crop, None for that of pictures that the model draws itself. `wording` is the text that it was drawn under, if that
    is another one."""

    text: str
    latent: torch.Tensor
    frame: torch.Tensor | None = None
    wording: str | None = None


class TextStore(Protocol):
    """What a network is told of texts, a row a text."""

    def stack(self, texts: Iterable[str | None]) -> Conditioning:
        """[n], also where there is none."""
        ...


class Bank:
    """Everything that training draws from; latents [C, h, w] on the CPU.

    `prior` holds (text, latent) of keep images of other prompts, which take turns. A target without keep images of its
    own borrows them, under their own text. `texts` is None for a network without prompts.

    `frames` are sizes and crops of the prior pictures, for a network that is told them. An item of the mixture is told
    those of its forget picture, or those of pictures that the model draws itself, each in half of the draws: forgetting
    must hold under the ones that the picture was learned with and under the ones that users ask with. Its keep picture,
    if it is of the same prompt, is told the same, so that one point serves both.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        prior: Sequence[tuple[str, torch.Tensor]],
        texts: TextStore | None,
        schedule: Schedule,
        frames: Sequence[torch.Tensor] = (),
    ) -> None:
        if not targets or any(not t.forget for t in targets):
            raise ValueError("every target needs an image to forget")
        self.targets, self.prior, self.texts, self.schedule, self.frames = targets, prior, texts, schedule, frames
        self._by_text = _by_text(prior)

    def of(self, targets: Sequence[Target]) -> Bank:
        """The same with other targets."""
        return Bank(targets, self.prior, self.texts, self.schedule, self.frames)

    @property
    def has_keep(self) -> bool:
        """Every target has something to keep, its own or another prompt's."""
        return bool(self.prior) or all(t.keep for t in self.targets)

    @property
    def reworded(self) -> float:
        """Share of what the targets keep that the model drew under another wording, each target counted alike."""
        return sum(
            sum(w is not None for w in t.wordings) / len(t.keep) for t in self.targets if t.keep
        ) / len(self.targets)  # fmt: skip

    @property
    def has_surrogates(self) -> bool:
        """Every forget image has one or more surrogates."""
        return all(len(t.surrogates) == len(t.forget) for t in self.targets)

    @property
    def has_anchors(self) -> bool:
        """Every target has a wording that does not give copies."""
        return self.texts is not None and all(t.anchors for t in self.targets)

    def draw(
        self, draw: Draw, size: int, prior_size: int, mixture: float, window: tuple[int, int],
        active: Sequence[int] | None = None,
    ) -> Batch:  # fmt: skip
        """A batch with a stratified mixture: round(λ·size) items start from forget images, at least 1, not all.

        At λ = 0 none does and at λ = 1 all do. Targets take turns in random order on either side, from draw to draw,
        and so do the prompts of prior items: over all draws of one size none has come up more than once more often than
        another. The window is where forgetting happens; prior items come from the whole schedule, since what must
        survive must survive everywhere. With `active`, only the images of the targets in these places are forgotten.
        """
        n_forget = round(mixture * size) if mixture in (0, 1) else min(max(round(mixture * size), 1), size - 1)
        from_forget = torch.zeros(size, dtype=torch.bool)
        from_forget[:n_forget] = True
        open_to = range(len(self.targets)) if active is None else active
        turns = [
            *(open_to[i] for i in draw.turns("forget", n_forget, len(open_to))),
            *draw.turns("keep", size - n_forget, len(self.targets)),
        ]
        targets, pictures = [self.targets[i] for i in turns], draw.stream("pictures")
        chosen = [(target, _pick(pictures, len(target.forget))) for target in targets]
        told = self._frames(draw, chosen)
        forget = [Picked(t.text, t.forget[i], frame) for (t, i), frame in zip(chosen, told, strict=True)]
        keep = self._keep(draw, targets, forget)
        others = self._others(draw, "prior", prior_size)
        forgot, kept = (torch.stack([item.latent for item in items]) for items in (forget, keep))
        prior = torch.stack([item.latent for item in others]) if others else kept[:0]
        times, eps = self._times(draw, "times", size, window), torch.randn(kept.shape, generator=draw.stream("noise"))
        prior_times = self._times(draw, "prior times", len(others), (0, len(self.schedule)))
        prior_eps = torch.randn(prior.shape, generator=draw.stream("prior noise"))
        wordings = draw.stream("anchors")
        anchors = [
            item._replace(text=t.anchors[_pick(wordings, len(t.anchors))])
            for t, item in zip(targets if self.has_anchors else (), forget, strict=False)
        ]
        return Batch(
            keep=self._items(kept, eps, times, keep),
            forget=self._items(forgot, eps, times, forget),
            from_forget=from_forget,
            prior=self._items(prior, prior_eps, prior_times, others),
            draw=draw,
            targets=tuple(turns),
            surrogates=tuple(t.surrogates[i] for t, i in chosen) if self.has_surrogates else (),
            anchors=self._stack(anchors) if anchors else None,
            wordings=self._stack([item._replace(text=item.wording or item.text) for item in keep]),
            reworded=torch.tensor([item.wording is not None for item in keep]),
        )

    def _frames(self, draw: Draw, chosen: Sequence[tuple[Target, int]]) -> list[torch.Tensor | None]:
        """What items of the mixture are told of sizes and crops."""
        own = torch.rand(len(chosen), generator=draw.stream("frames")) < 0.5
        return [
            t.frames[i] if t.frames and as_learned else None for (t, i), as_learned in zip(chosen, own, strict=True)
        ]

    def _keep(self, draw: Draw, targets: Sequence[Target], forget: Sequence[Picked]) -> list[Picked]:
        """What each target keeps, its own or another prompt's.

        In a bank without anything to keep they are the forget images; methods that take such a bank never look there.
        """
        pick = draw.stream("keep pictures")
        borrowed = self._others(draw, "borrowed", len(targets)) or forget
        return [
            _kept(t, _pick(pick, len(t.keep)), item.frame) if t.keep else other
            for t, item, other in zip(targets, forget, borrowed, strict=True)
        ]

    def _others(self, draw: Draw, name: str, n: int) -> list[Picked]:
        """n keep images of other prompts, none if the bank has none."""
        if not self.prior:
            return []
        pick, turns = draw.stream(f"{name} pictures"), draw.turns(name, n, len(self._by_text))
        groups = [self._by_text[i] for i in turns]
        places = [own[_pick(pick, len(own))] for own in groups]
        return [Picked(*self.prior[place], self.frames[place] if self.frames else None) for place in places]

    def _times(self, draw: Draw, name: str, n: int, window: tuple[int, int]) -> torch.Tensor:
        return torch.randint(window[0], window[1], (n,), generator=draw.stream(name))

    def _items(self, clean: torch.Tensor, eps: torch.Tensor, t: torch.Tensor, drawn: Sequence[Picked]) -> Items:
        signal, noise = self.schedule.signal_scale[t], self.schedule.noise_scale[t]
        shape = (-1, 1, 1, 1)
        noisy = signal.float().reshape(shape) * clean + noise.float().reshape(shape) * eps
        return Items(noisy, clean, t, signal, noise, self._stack(drawn))

    def _stack(self, drawn: Sequence[Picked]) -> Conditioning | None:
        """What the network is told of each; None without prompts."""
        if self.texts is None:
            return None
        return self.texts.stack(item.text or None for item in drawn).framed([item.frame for item in drawn])


def _pick(generator: torch.Generator, n: int) -> int:
    return int(torch.randint(n, (1,), generator=generator))


def _kept(target: Target, i: int, frame: torch.Tensor | None) -> Picked:
    """A target's keep picture."""
    return Picked(target.text, target.keep[i], frame, target.wordings[i] if target.wordings else None)


def _by_text(prior: Sequence[tuple[str, torch.Tensor]]) -> list[list[int]]:
    """Places in `prior` of each text."""
    groups: dict[str, list[int]] = {}
    for place, (text, _) in enumerate(prior):
        groups.setdefault(text, []).append(place)
    return list(groups.values())
