"""A world in 16 dimensions in which one point was trained on too often, and a small network that learnt it.

As a command it prints the table of research/unlearning_runs.md: python tests/unlearn/sixteen.py [TRAIN_SEED]
"""

from __future__ import annotations

import copy
import math
import sys
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from memfix.config.unlearn import UnlearnSettings
from memfix.models.denoiser import network_of
from memfix.unlearn.data.bank import Bank, Target
from memfix.unlearn.objective.methods import get_method
from memfix.unlearn.train.trainer import Trainer

SHAPE = (1, 4, 4)
STEPS = 100  # timesteps of training noise, every fourth of them sampled
COPIES = 0.05  # share of the training set that is the one point
NEAR = 1.5  # a sample closer to the point than this is a copy; the clusters are 5 and more away
SPREAD = 0.3


class Noise:
    """Diffusion with a cosine."""

    prediction_type = "epsilon"

    def __init__(self) -> None:
        u = torch.linspace(0.02, 0.98, STEPS, dtype=torch.float64)
        self.signal_scale, self.noise_scale = torch.cos(u * math.pi / 2), torch.sin(u * math.pi / 2)

    def __len__(self) -> int:
        return STEPS


class Net(nn.Module):
    """ε-prediction from a noisy point and its time."""

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        self.time = nn.Linear(16, width)
        self.first = nn.Linear(16, width)
        self.rest = nn.Sequential(
            nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 16)
        )

    def forward(self, noisy: torch.Tensor, t: torch.Tensor, return_dict: bool = False) -> tuple[torch.Tensor]:
        angle = (t.float() / STEPS)[:, None] * math.pi * 2.0 ** torch.arange(8)
        hidden = self.first(noisy.flatten(1)) + self.time(torch.cat([angle.sin(), angle.cos()], 1))
        return (self.rest(hidden).reshape(noisy.shape),)


@dataclass
class World:
    """What the network was trained on: clusters, and the point."""

    centres: torch.Tensor
    point: torch.Tensor

    @classmethod
    def seeded(cls, seed: int = 0) -> World:
        centres = torch.randn(5, 16, generator=torch.Generator().manual_seed(seed))
        return cls(centres[:4], centres[4])

    def draw(self, n: int, generator: torch.Generator) -> torch.Tensor:
        """Points of the clusters, [n, 16]."""
        which = torch.randint(len(self.centres), (n,), generator=generator)
        return self.centres[which] + SPREAD * torch.randn(n, 16, generator=generator)

    def train(self, steps: int = 2500, seed: int = 0) -> Net:
        """A network that has learnt the clusters, and the point too well."""
        torch.manual_seed(seed)
        generator, noise, model = torch.Generator().manual_seed(seed), Noise(), Net()
        optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = 2e-3 * (1 - step / steps)
            x = self.draw(256, generator)
            x[torch.rand(256, generator=generator) < COPIES] = self.point
            t = torch.randint(STEPS, (256,), generator=generator)
            eps = torch.randn(x.shape, generator=generator)
            m = noise.signal_scale[t].float()[:, None] * x + noise.noise_scale[t].float()[:, None] * eps
            loss = (model(m.reshape(-1, *SHAPE), t)[0].flatten(1) - eps).square().sum(1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return model

    def bank(self, keep: int = 512) -> Bank:
        """The point to forget, some of the clusters to keep; its surrogate is the nearest kept one."""
        kept = self.draw(keep, torch.Generator().manual_seed(1))
        nearest = kept[(kept - self.point).square().sum(1).argmin()]
        target = Target(
            "", [self.point.reshape(SHAPE)], list(kept.reshape(-1, *SHAPE)), [nearest.reshape(1, *SHAPE)]
        )  # fmt: skip
        return Bank([target], [], None, Noise())

    def judge(self, model: Net, n: int = 4000) -> tuple[float, float]:
        """Share of samples that are the point, and the energy distance of the others from the clusters."""
        x = sample(model, n)
        if not torch.isfinite(x).all():
            return math.nan, math.inf
        copies = (x - self.point).square().sum(1).sqrt() < NEAR
        return copies.double().mean().item(), energy_distance(
            x[~copies], self.draw(n, torch.Generator().manual_seed(2))
        )


@torch.no_grad()
def sample(model: Net, n: int, stride: int = 4) -> torch.Tensor:
    """Deterministic sampling (DDIM), [n, 16]."""
    noise, x = Noise(), torch.randn(n, 16, generator=torch.Generator().manual_seed(3))
    times = list(range(STEPS - 1, -1, -stride))
    for t, after in zip(times, [*times[1:], None], strict=True):
        g, s = float(noise.signal_scale[t]), float(noise.noise_scale[t])
        eps = model(x.reshape(-1, *SHAPE), torch.full((n,), t))[0].flatten(1)
        clean = (x - s * eps) / g
        x = clean if after is None else float(noise.signal_scale[after]) * clean + float(noise.noise_scale[after]) * eps
    return x


def energy_distance(x: torch.Tensor, y: torch.Tensor) -> float:
    """2E‖x - y‖ - E‖x - x'‖ - E‖y - y'‖, 0 if and only if both are alike."""

    def apart(a: torch.Tensor, b: torch.Tensor, pairs: int) -> float:
        return torch.cdist(a, b).double().sum().item() / pairs

    n, m = len(x), len(y)
    return 2 * apart(x, y, n * m) - apart(x, x, n * (n - 1)) - apart(y, y, m * (m - 1))


def unlearn(world: World, model: Net, method: str, **values: Any) -> Net:
    """A copy of the network after unlearning the point."""
    model = copy.deepcopy(model)
    settings = UnlearnSettings(
        **{
            "weights": "full", "learning_rate": 2e-4, "max_train_steps": 150, "train_batch_size": 64,
            "prior_batch_size": 0, "adam_weight_decay": 0.0, "bome_eta": 1e-3,
        } | values
    )  # fmt: skip
    for _ in Trainer(
        network_of(model, "no"), dict(model.named_parameters()), world.bank(), get_method(method), settings, "no"
    ):
        pass
    return model


ROWS: list[tuple[str, dict[str, Any]]] = [
    ("naive", {}),
    ("siss", {}),
    ("siss", {"siss_mode": "no-is"}),
    ("siss", {"siss_mode": "bernoulli"}),
    ("bounded", {}),
    ("retrack", {"forget_weight": 0.005}),
    ("retrack", {}),
    ("surrogate", {}),
    ("erasediff", {}),
    ("vdu", {}),
    *(("vdu", {"parameter_prior": share}) for share in (0.992, 0.994, 0.996, 0.998, 0.999)),
    ("neggrad", {"forget_cap": 1.0}),
    ("neggrad", {}),
]


def main(train_seed: int = 0) -> None:
    """The table."""
    world = World.seeded()
    model = world.train()
    print("| method | settings | copies, % | distance of the rest |\n|---|---|---|---|")
    print("| before | | {:.2f} | {:.4f} |".format(*((v := world.judge(model))[0] * 100, v[1])))
    for name, values in ROWS:
        copies, distance = world.judge(unlearn(world, model, name, train_seed=train_seed, **values))
        told = ", ".join(f"`{k} = {v}`" for k, v in values.items())
        print(f"| `{name}` | {told} | {copies * 100:.2f} | {distance:.4f} |", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
