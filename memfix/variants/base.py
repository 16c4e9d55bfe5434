"""What a variant of a prompt is, and what it is made from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch

from memfix.config.checks import DetectSettings
from memfix.models.conditioning import Conditioning
from memfix.models.model import DiffusionModel


class Variant(NamedTuple):
    """How a picture is sampled, where that differs from the prompt: another text, another row of conditioning, or
    another guidance."""

    wording: str | None = None
    conditioning: Conditioning | None = None
    guidance: float | None = None


@dataclass(frozen=True)
class Subject:
    """A prompt, and the model that it is a prompt of, sampled with the settings of the detection."""

    text: str
    model: DiffusionModel
    settings: DetectSettings

    @property
    def conditioning(self) -> Conditioning:
        """What the denoiser is told of the prompt, one row on the CPU."""
        return self.model.text.encode([self.text]).to("cpu")

    def moved(self, tokens: torch.Tensor) -> Variant:
        """The prompt with other token embeddings, [1, L, D]."""
        return Variant(conditioning=replace(self.conditioning, tokens=tokens))


@dataclass(frozen=True)
class VariantKind:
    """A name, and the variants of a prompt that it stands for, at most so many, those closest to the prompt first."""

    name: str
    summary: str
    vary: Callable[[Subject], list[Variant]]
    most: int
