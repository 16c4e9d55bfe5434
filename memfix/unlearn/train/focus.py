"""Which targets adversarial steps turn to: those that an attack still denoises better than it does the others."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

BANDS = 10  # of timesteps: the error of denoising is another one in each
OF_TARGETS, OF_BANDS = 0.1, 0.02  # how much one observation moves a running mean
SHARPNESS = 5.0  # log odds per unit of log error


class Focus:
    """Running means of the log error under attack: of each target against the mean of all, at like timesteps.

    What is known is in two tensors, so that it can be written down: `lead` by target, nan where nothing was seen, and
    `level` by band of timesteps.
    """

    def __init__(self, targets: int, timesteps: int) -> None:
        self.lead, self.level = torch.full((targets,), math.nan), torch.full((BANDS,), math.nan)
        self._timesteps = timesteps

    def see(self, target: int, t: int, error: float) -> None:
        """Take in the error, a mean square, of denoising a target's image at timestep t under attack."""
        band, seen = t * BANDS // self._timesteps, math.log(max(error, 1e-12))
        self.level[band] = _moved(float(self.level[band]), seen, OF_BANDS)
        self.lead[target] = _moved(float(self.lead[target]), seen - float(self.level[band]), OF_TARGETS)

    @property
    def odds(self) -> torch.Tensor:
        """How often each target is to come up, in relation to the others, [targets]; one of which nothing is known
        counts as average."""
        lead = self.lead.nan_to_num(0.0)
        return torch.softmax(-SHARPNESS * lead, 0)

    def state(self) -> dict[str, torch.Tensor]:
        """What is known, to be written into a checkpoint."""
        return {"lead": self.lead.clone(), "level": self.level.clone()}

    def take_up(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on from what `state` gave."""
        self.lead, self.level = state["lead"].clone(), state["level"].clone()


def _moved(mean: float, seen: float, share: float) -> float:
    return seen if math.isnan(mean) else mean + share * (seen - mean)
