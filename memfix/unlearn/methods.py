"""Methods: keep term + forget term + combiner, by name. A term is a pure function of a batch and a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch

from memfix.errors import ExitCode, MemfixError, did_you_mean
from memfix.unlearn import siss
from memfix.unlearn.bank import Batch
from memfix.unlearn.combine import Combined, rescale

# network: noisy latents [n, C, h, w], timesteps [n], context [n, L, D] → prediction like the latents
Network: TypeAlias = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
Term: TypeAlias = Callable[[Batch, Network, str], torch.Tensor]
Combiner: TypeAlias = Callable[[Sequence[torch.Tensor], Sequence[torch.Tensor], float], Combined]


@dataclass(frozen=True)
class Method:
    """A named composition. Each term gives the sum of its items' losses over the number of mixture items."""

    name: str
    summary: str
    keep: Term
    forget: Term
    combine: Combiner


def _weights(batch: Batch) -> siss.Weights:
    ratio = siss.log_density_ratio(batch.noisy, batch.keep, batch.forget, batch.signal, batch.noise)
    return siss.importance_weights(ratio, batch.mixture)


def _weighted_loss(
    batch: Batch, network: Network, prediction_type: str, weight: torch.Tensor, clean: torch.Tensor, prior: bool
) -> torch.Tensor:
    """Routed: only items whose weight on this side counts go through the network.

    Away from the last timesteps an item's weight is all but 0 on one side, so keep and forget pass together cost one
    forward and one backward an item instead of two.
    """
    chosen = weight > siss.NEGLIGIBLE
    noisy, t, context = batch.noisy[chosen], batch.t[chosen], batch.context[chosen.to(batch.context.device)]
    wanted = siss.target(noisy, clean[chosen], batch.signal[chosen], batch.noise[chosen], prediction_type)
    weight = weight[chosen].float()
    if prior and len(batch.prior_t):
        other = siss.target(
            batch.prior_noisy, batch.prior_clean, batch.prior_signal, batch.prior_noise, prediction_type
        )
        noisy, t = torch.cat([noisy, batch.prior_noisy]), torch.cat([t, batch.prior_t])
        context, wanted = torch.cat([context, batch.prior_context]), torch.cat([wanted, other])
        weight = torch.cat([weight, torch.ones(len(other))])
    if not len(t):
        return torch.zeros((), device=context.device)
    on = context.device
    error = siss.squared_error(network(noisy.to(on), t.to(on), context), wanted.to(on))
    return (weight.to(on) * error).sum() / len(batch.t)


def siss_keep(batch: Batch, network: Network, prediction_type: str) -> torch.Tensor:
    """w_x ‖ε(m; x) - ε_θ(m)‖² over the mixture, plus plain denoising of the prior items."""
    return _weighted_loss(batch, network, prediction_type, _weights(batch).keep, batch.keep, prior=True)


def siss_forget(batch: Batch, network: Network, prediction_type: str) -> torch.Tensor:
    """w_a ‖ε(m; a) - ε_θ(m)‖² over the mixture; the combiner subtracts it."""
    return _weighted_loss(batch, network, prediction_type, _weights(batch).forget, batch.forget, prior=False)


METHODS: dict[str, Method] = {
    m.name: m
    for m in [
        Method(
            "siss",
            "Denoise keep images, un-denoise forget images, both from one importance-weighted mixture (ICLR 2025).",
            siss_keep, siss_forget, rescale,
        ),
    ]
}  # fmt: skip


def get_method(name: str) -> Method:
    """Look a method up. Raises MemfixError for an unknown name."""
    if name not in METHODS:
        raise MemfixError(f"Unknown method '{name}'.", did_you_mean(name, list(METHODS)), ExitCode.USAGE)
    return METHODS[name]
