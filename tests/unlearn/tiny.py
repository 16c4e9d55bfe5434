"""A network of two layers, and banks to train it on: small enough to be computed again, naively, in float64."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from memfix.models.conditioning import Conditioning
from memfix.models.denoiser import Network, network_of
from memfix.unlearn.data.bank import Bank, Target

WIDTH = 6


@dataclass
class Noise:
    """A schedule of one's own: diffusion with a cosine, or flow."""

    prediction_type: str
    steps: int = 100

    def __post_init__(self) -> None:
        u = torch.linspace(0.03, 0.97, self.steps, dtype=torch.float64)
        if self.prediction_type == "flow_prediction":
            self.signal_scale, self.noise_scale = 1 - u, u
        else:
            self.signal_scale, self.noise_scale = torch.cos(u * torch.pi / 2), torch.sin(u * torch.pi / 2)

    def __len__(self) -> int:
        return self.steps


class Words:
    """Embeddings of texts without a text encoder: three tokens of a text's own random numbers."""

    def stack(self, texts) -> Conditioning:
        rows = [self[text] for text in texts]
        return Conditioning(torch.stack(rows) if rows else torch.empty(0, 3, WIDTH))

    def __getitem__(self, text: str) -> torch.Tensor:
        return torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(sum(map(ord, text or ""))))


class Net(nn.Module):
    """Noisy latents, time and words → latents; smooth, so that gradients are the same in any precision."""

    def __init__(self, channels: int = 2) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first, self.last = nn.Conv2d(channels, 5, 3, padding=1), nn.Conv2d(5, channels, 1)
        self.words = nn.Linear(WIDTH, 5)
        self.seen = 0

    def forward(self, noisy, t, encoder_hidden_states=None, return_dict=False):
        self.seen += len(noisy)
        hidden = self.first(noisy) + (t.to(noisy) / 100).reshape(-1, 1, 1, 1)
        if encoder_hidden_states is not None:
            hidden = hidden + self.words(encoder_hidden_states.to(noisy)).mean(1)[:, :, None, None]
        return (self.last(torch.tanh(hidden)),)

    def network(self, noisy, t, conditioning):
        return self(noisy, t, None if conditioning is None else conditioning.tokens)[0]


def parts(model: nn.Module, precision: str = "no", compiled: bool = False) -> tuple[Network, dict[str, nn.Parameter]]:
    """What a trainer takes of a model."""
    return network_of(model, precision, compiled), dict(model.named_parameters())


def bank_of(kind: str, scale: float = 0.3, channels: int = 2, words: bool = True, size: int = 4) -> Bank:
    """Two prompts, one of which has nothing of its own to keep; pictures so small that many points are ambiguous."""
    generator = torch.Generator().manual_seed(0)

    def pictures(n: int) -> list[torch.Tensor]:
        return [scale * torch.randn(channels, size, size, generator=generator) for _ in range(n)]

    def surrogates(n: int) -> list[torch.Tensor]:
        return [torch.stack(pictures(1)) for _ in range(n)]

    targets = [
        Target(
            "a long title", pictures(2), pictures(3), surrogates(2), ["a long", "a"], wordings=["a long", None, "a"]
        ),
        Target("b long title", pictures(1), [], surrogates(1), ["b long"]),
    ]
    return Bank(targets, [("sky", z) for z in pictures(4)], Words() if words else None, Noise(kind))


def gradient(model: nn.Module, loss: torch.Tensor) -> torch.Tensor:
    model.zero_grad()
    loss.backward()
    return taken(model)


def taken(model: nn.Module) -> torch.Tensor:
    """All of `.grad` as one vector."""
    return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in model.parameters()])
