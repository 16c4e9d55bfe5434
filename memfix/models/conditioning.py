"""What a denoiser is told of texts. Callers pass it on, pick rows and join them; they need not know its parts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace

import torch


@dataclass(frozen=True, eq=False)
class Conditioning:
    """All that a denoiser gets of n texts, one row a text; None for what a kind of model does not have.

    Every operation treats all parts alike, so that a part that another kind of model needs is a field here and
    nothing else.
    """

    tokens: torch.Tensor
    """Embeddings that cross-attention reads, [n, L, D]."""
    pooled: torch.Tensor | None = None
    """One embedding of the whole text, [n, P]."""
    time_ids: torch.Tensor | None = None
    """Sizes and crops that come with a text, [n, 6]."""

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def device(self) -> torch.device:
        """Where all parts are."""
        return self.tokens.device

    def parts(self) -> Iterator[torch.Tensor]:
        """The tensors that there are, [n, …] each."""
        yield from (part for field in fields(self) if (part := getattr(self, field.name)) is not None)

    def to(self, place: torch.device | torch.dtype | str) -> Conditioning:
        """The same on a device, or in a precision."""
        return self._each(lambda part: part.to(place))

    def pick(self, rows: torch.Tensor | slice) -> Conditioning:
        """Some rows: a mask [n], places or a slice."""
        chosen = rows if isinstance(rows, slice) else rows.to(self.device)
        return self._each(lambda part: part[chosen])

    def repeat_interleave(self, times: int) -> Conditioning:
        """Each row so many times, side by side: [n·times]."""
        return self._each(lambda part: part.repeat_interleave(times, 0))

    def expand(self, n: int) -> Conditioning:
        """One row as n, without a copy."""
        return self._each(lambda part: part.expand(n, *part.shape[1:]))

    def where(self, chosen: torch.Tensor, other: Conditioning) -> Conditioning:
        """This row where `chosen`, [n] bool, holds, else that of the other."""
        chosen = chosen.to(self.device)
        return _together(lambda a, b: torch.where(chosen.reshape(-1, *[1] * (a.ndim - 1)), a, b), self, other)

    def framed(self, frames: Sequence[torch.Tensor | None]) -> Conditioning:
        """With other sizes and crops, [6], in the rows where there are some, if this kind of model is told any."""
        if self.time_ids is None or all(frame is None for frame in frames):
            return self
        own = self.time_ids
        told = [mine if frame is None else frame.to(mine) for mine, frame in zip(own, frames, strict=True)]
        return replace(self, time_ids=torch.stack(told))

    def equals(self, other: Conditioning) -> torch.Tensor:
        """Whether a row is the same in both, [n] bool."""
        pairs = zip(self.parts(), other.parts(), strict=True)
        return torch.stack([(a == b).flatten(1).all(1) for a, b in pairs]).all(0)

    @staticmethod
    def cat(several: Sequence[Conditioning]) -> Conditioning:
        """All rows, one after the other."""
        return _together(lambda *parts: torch.cat(parts), *several)

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Conditioning:
        return _together(change, self)


def _together(make: Callable[..., torch.Tensor], *several: Conditioning) -> Conditioning:
    """Part by part, what is made of that part of each."""
    names = [field.name for field in fields(Conditioning) if getattr(several[0], field.name) is not None]
    return replace(several[0], **{name: make(*(getattr(one, name) for one in several)) for name in names})


class Texts:
    """The conditioning of texts that are asked for again and again, kept on the CPU."""

    def __init__(self, texts: Iterable[str | None], rows: Conditioning, device: torch.device) -> None:
        """rows: one for each text, None for no prompt; device: where they are wanted."""
        self._place = {text: i for i, text in enumerate(texts)}
        self._rows, self._device = rows.to("cpu"), device

    def stack(self, texts: Iterable[str | None]) -> Conditioning:
        """A row for each text, [n]. Raises KeyError for one that is not kept."""
        return self._rows.pick(torch.tensor([self._place[text] for text in texts], dtype=torch.long)).to(self._device)
