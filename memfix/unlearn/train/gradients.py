"""The gradient of a training step: of both sides, each over all passes and ranks, combined as the method has it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from memfix.models.denoiser import Network
from memfix.models.room import Room
from memfix.unlearn.data.bank import Batch
from memfix.unlearn.objective.combine import Combined, global_norm
from memfix.unlearn.objective.methods import Composition
from memfix.unlearn.objective.terms import Term, View
from memfix.unlearn.train.ranks import Ranks


@dataclass(frozen=True)
class Gradients:
    """What a step differentiates: the terms of a method, in a network, by its parameters."""

    composition: Composition
    parameters: Sequence[nn.Parameter]
    network: Network
    view: View
    ranks: Ranks
    room: Room

    def __call__(
        self, passes: Sequence[Batch], scale: float = 1.0, forget: bool = True
    ) -> tuple[float, float, Combined]:
        """Leave the step's gradient in `.grad`; both losses (0 for a side that is not in use), and the norms.

        `scale` is on the losses only while they go backward. The forget side is left out unless `forget`.
        """
        composition, sign = self.composition, -1 if self.composition.ascent else 1
        loss_keep, keep = self._side(composition.keep, passes, 1, scale)
        if composition.forget is None or not forget:
            return loss_keep, 0.0, Combined(global_norm(keep), 0.0, 0.0)
        loss_forget, own = self._side(composition.forget, passes, sign, scale)
        norms = composition.combine(keep, own) if composition.combine else Combined(0.0, global_norm(own), 1.0)
        return loss_keep, loss_forget, norms._replace(scale=sign * norms.scale)

    def _side(
        self, term: Term | None, passes: Sequence[Batch], sign: int, scale: float
    ) -> tuple[float, list[torch.Tensor]]:
        """Leave the gradient of sign · term, over all passes, in `.grad`; the term's value, and the gradient."""
        if term is None:
            return 0.0, []
        total = self.room.fit(lambda: self._passed(term, passes, sign * scale), max(b.most for b in passes))
        gradients = [_gradient(p) for p in self.parameters]
        if scale != 1:
            torch._foreach_mul_(gradients, 1 / scale)
        self.ranks.average(gradients)
        return self.ranks.mean(total), gradients

    def _passed(self, term: Term, passes: Sequence[Batch], factor: float) -> float:
        """The mean of a term over passes, with the gradient of `factor` times it in `.grad`."""
        for p in self.parameters:
            p.grad = None  # of the other side, whose list has it (the one extra buffer), or of an attempt that ran out
        total = 0.0
        for batch in passes:
            loss = term(batch, self.network, self.view) / len(passes)
            if loss.requires_grad:
                (factor * loss).backward()  # type: ignore[no-untyped-call]  # torch leaves backward untyped
            total += float(loss.detach())
        return total


def _gradient(parameter: nn.Parameter) -> torch.Tensor:
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad
