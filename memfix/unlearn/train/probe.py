"""A text embedding that an attack moves towards drawing one target's image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

NEAR = 20  # Adam steps that lead away from a text which is not the target's own
MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass
class Probe:
    """Where an embedding stands, [1, tokens, width], and after how many Adam steps it is given up.

    `foreign`: it began elsewhere than at the target's own prompt.
    """

    tokens: torch.Tensor
    optimizer: torch.optim.Adam
    life: int
    foreign: bool
    age: int = 0

    @classmethod
    def begun(cls, tokens: torch.Tensor, rate: float, life: int, foreign: bool) -> Probe:
        """One that has not moved yet."""
        moved = tokens.detach().clone().float().requires_grad_()
        return cls(moved, torch.optim.Adam([moved], lr=rate), life, foreign)

    @classmethod
    def of(cls, state: Mapping[str, torch.Tensor], device: torch.device) -> Probe:
        """The one that gave this `state`."""
        rate, life, foreign, age = state["numbers"].tolist()
        probe = cls.begun(state["tokens"].to(device), rate, int(life), bool(foreign))
        probe.age = int(age)
        if probe.age:
            moments = {name: state[name] for name in MOMENTS} | {"step": torch.tensor(float(age))}
            groups = probe.optimizer.state_dict()["param_groups"]
            probe.optimizer.load_state_dict({"state": {0: moments}, "param_groups": groups})
        return probe

    def state(self) -> dict[str, torch.Tensor]:
        """All there is to know of it, on the CPU."""
        rate = self.optimizer.param_groups[0]["lr"]
        numbers = torch.tensor([rate, self.life, self.foreign, self.age], dtype=torch.float64)
        moments = self.optimizer.state.get(self.tokens, {})
        known = {name: moments[name].cpu() for name in MOMENTS if name in moments}
        return {"numbers": numbers, "tokens": self.tokens.detach().cpu(), **known}

    @property
    def alive(self) -> bool:
        """Whether it is moved further."""
        return self.age < self.life

    @property
    def mature(self) -> bool:
        """Whether it has left the text that it began at."""
        return self.age >= NEAR

    @property
    def near_another(self) -> bool:
        """Whether it still is next to a text that means something else."""
        return self.foreign and not self.mature

    def move(self, gradient: torch.Tensor) -> None:
        """Take an Adam step."""
        self.tokens.grad = gradient
        self.optimizer.step()
        self.tokens.grad, self.age = None, self.age + 1
