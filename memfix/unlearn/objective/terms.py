"""Keep and forget terms: pure functions of a batch and a network. Each gives one number, averaged over its items.

A term that is climbed (ascent) gives the plain error; the trainer turns its sign. Squared errors are summed over a
latent, so that constants do not depend on how many items there are, only on their size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeAlias

import torch

from memfix.models.conditioning import Conditioning
from memfix.models.denoiser import Network
from memfix.models.prediction import implied_clean, implied_noise, target
from memfix.unlearn.data.bank import Batch, Items
from memfix.unlearn.objective import siss
from memfix.unlearn.objective.residuals import min_snr, squared_error
from memfix.unlearn.objective.retrack import posterior_mean
from memfix.unlearn.objective.surrogate import weight_of_time

TAUGHT = 3.0  # weight of an item that is held to the model's answer under another wording; such answers have no noise

Term: TypeAlias = Callable[[Batch, Network, "View"], torch.Tensor]


class Climbed(Protocol):
    """A forget term that is climbed, each item up to a bound if there is one."""

    def __call__(self, batch: Batch, network: Network, view: View, cap: float | None = None) -> torch.Tensor:
        """cap: the bound, as a multiple of L_null."""
        ...


class View(NamedTuple):
    """How answers are read: the network's prediction type, the low-pass on residuals of the forget side, the bound
    of the weight of time, and the weight of a prior item beside that of an item of the mixture. `original` is the
    network before training, if what is kept is held to its answers."""

    prediction_type: str
    low_pass: float | None = None
    snr_gamma: float | None = None
    prior_weight: float = 1.0
    original: Network | None = None

    @property
    def whole(self) -> View:
        """The same without a low-pass: what the keep side uses."""
        return self._replace(low_pass=None)

    def error(self, answer: torch.Tensor, wanted: torch.Tensor, items: Items) -> torch.Tensor:
        """Weighted squared error of each item, [n]."""
        error = squared_error(answer, wanted.to(answer.device), self.low_pass)
        if self.snr_gamma is None:
            return error
        return min_snr(items.signal, items.noise, self.snr_gamma, self.prediction_type).to(error) * error

    def held(self, items: Items, told: Conditioning | None = None) -> Items:
        """The same points, to be answered as the original network does, where it is `told` so, [n], or the same."""
        assert self.original
        with torch.no_grad():
            answer = self.original(items.noisy, items.t, items.conditioning if told is None else told)
        clean = implied_clean(answer, items.noisy, items.signal, items.noise, self.prediction_type)
        return items.towards(clean)


def errors(items: Items, network: Network, view: View) -> torch.Tensor:
    """Squared error of denoising each noisy point to its clean picture, [n]."""
    answer = network(items.noisy, items.t, items.conditioning)
    wanted = target(items.noisy, items.clean, items.signal, items.noise, view.prediction_type)
    return view.error(answer, wanted, items)


def weighted(items: Items, weight: torch.Tensor, network: Network, view: View, over: int) -> torch.Tensor:
    """Σ weight · error / over, with `weight` [n]; 0 without items."""
    if not len(items):
        return torch.zeros(())
    error = errors(items, network, view)
    return (weight.to(error.device) * error).sum() / over


# -- keep -----------------------------------------------------------------------------------------------------------


def denoise_keep(batch: Batch, network: Network, view: View) -> torch.Tensor:
    """E‖ε(x_t; x) - ε_θ(x_t)‖² over the keep side, plus plain denoising of the prior items over the whole batch."""
    chosen = ~batch.from_forget
    weight = torch.full((len(batch),), len(batch) / max(int(chosen.sum()), 1))
    return _kept(batch.keep, weight, chosen, batch, network, view)


def _kept(
    points: Items, weight: torch.Tensor, chosen: torch.Tensor, batch: Batch, network: Network, view: View
) -> torch.Tensor:
    """The points of `chosen` items, [B] bool, to be denoised to their keep pictures, plus the prior items.

    A picture that the model drew under another wording of the prompt is one sample of what it knows of that wording.
    Where the original network is there, the point is held to its answer under the wording instead, the mean over all
    such pictures: it says the same without the noise of a single one, so that the prompt learns in far fewer steps what
    to show. Source: the model-based form of Concept Ablation (arXiv 2303.13516), here on the keep side.
    """
    items, weight = points.towards(batch.keep.clean).pick(chosen), weight[chosen].float()
    taught = batch.reworded[chosen]
    if view.original and batch.wordings and taught.any():
        held = view.held(items.pick(taught), batch.wordings.pick(chosen).pick(taught))
        items = items.towards(items.clean.masked_scatter(taught.reshape(-1, 1, 1, 1), held.clean.to(items.clean)))
        weight = torch.where(taught, TAUGHT * weight, weight)
    return _with_prior(items, weight, batch, network, view)


def _with_prior(items: Items, weight: torch.Tensor, batch: Batch, network: Network, view: View) -> torch.Tensor:
    """Items and prior items in one pass."""
    if len(batch.prior):
        prior = torch.full((len(batch.prior),), view.prior_weight)
        items, weight = items.join(batch.prior), torch.cat([weight, prior])
    return weighted(items, weight, network, view.whole, len(batch))


# -- SISS -----------------------------------------------------------------------------------------------------------


def siss_keep(batch: Batch, network: Network, view: View) -> torch.Tensor:
    """w_x ‖ε(m; x) - ε_θ(m)‖² over the mixture, plus plain denoising of the prior items."""
    weight = _importance(batch).keep
    return _kept(batch.points, weight, _counts(weight), batch, network, view)


def siss_forget(batch: Batch, network: Network, view: View, cap: float | None = None) -> torch.Tensor:
    """w_a ‖ε(m; a) - ε_θ(m)‖² over the mixture; with `cap` each error only up to that multiple of L_null."""
    weight = _importance(batch).forget
    chosen = _counts(weight)
    error = _capped(batch.points.towards(batch.forget.clean).pick(chosen), network, view, cap)
    return (weight[chosen].float().to(error.device) * error).sum() / len(batch)


def _importance(batch: Batch) -> siss.ImportanceWeights:
    """Weights of the mixture's points. A point is noisy latents and their text: where the two sides of an item have
    different ones, which a borrowed keep picture brings, neither side could have drawn what the other did."""
    m, alike = batch.points, batch.alike
    ratio = siss.log_density_ratio(m.noisy, batch.keep.clean, batch.forget.clean, m.signal, m.noise)
    pairs = zip(
        siss.importance_weights(ratio, batch.mixture), siss.one_sided(batch.from_forget, batch.mixture), strict=True
    )
    return siss.ImportanceWeights(*(torch.where(alike, mixed, own) for mixed, own in pairs))


def _counts(weight: torch.Tensor) -> torch.Tensor:
    """The items whose weight on a side counts, [B] bool: only they go through the network.

    Away from the last timesteps an item's weight is all but 0 on one side, so keep and forget pass together cost one
    forward and one backward an item instead of two. One item always goes: ranks that hold the weights in parts must
    all take every pass.
    """
    chosen = weight > siss.NEGLIGIBLE
    chosen[weight.argmax()] = True
    return chosen


def paired_keep(batch: Batch, network: Network, view: View) -> torch.Tensor:
    """SISS without importance sampling, keep side: every item as its keep picture, plus the prior items."""
    all_of_them = torch.ones(len(batch), dtype=torch.bool)
    return _kept(batch.keep, torch.ones(len(batch)), all_of_them, batch, network, view)


def paired_forget(batch: Batch, network: Network, view: View, cap: float | None = None) -> torch.Tensor:
    """SISS without importance sampling, forget side: every item as its forget picture, under the same t and noise."""
    return _capped(batch.forget, network, view, cap).mean()


# -- forget ---------------------------------------------------------------------------------------------------------


def denoise_forget(batch: Batch, network: Network, view: View, cap: float | None = None) -> torch.Tensor:
    """E‖ε(a_t; a) - ε_θ(a_t)‖² over the forget side; climbed, this is gradient ascent.

    With `cap` it is E min(error, cap · L_null), where L_null is the error of the answer 0: 1 per dimension for an
    ε-network. An item past the cap has no gradient. Source: the bounded loss of MUCS (arXiv 2605.17938), here item by
    item.
    """
    return _capped(batch.forget_half, network, view, cap).mean()


def _capped(items: Items, network: Network, view: View, cap: float | None) -> torch.Tensor:
    """Squared error of each item, [n], each up to cap · L_null if there is a cap."""
    error = errors(items, network, view)
    return error if cap is None else torch.minimum(error, _bounds(items, view, cap).to(error.device))


def bound(batch: Batch, view: View, cap: float) -> torch.Tensor:
    """E cap · L_null over the forget side; no network is asked."""
    return _bounds(batch.forget_half, view, cap).mean()


def _bounds(items: Items, view: View, cap: float) -> torch.Tensor:
    wanted = target(items.noisy, items.clean, items.signal, items.noise, view.prediction_type)
    return cap * view.error(torch.zeros_like(wanted), wanted, items)


def uniform_forget(batch: Batch, network: Network, view: View) -> torch.Tensor:
    """E‖ε_θ(a_t) - u‖², u ~ U[0, 1) drawn anew each pass. Source: EraseDiff (arXiv 2401.05779).

    The ε that the answer stands for is compared, whatever the network predicts: a v that means u would grow like 1/γ.
    """
    items = batch.forget_half
    answer = network(items.noisy, items.t, items.conditioning)
    eps = implied_noise(
        answer, items.noisy.to(answer.device), items.signal, items.noise, view.prediction_type
    )  # fmt: skip
    u = torch.rand(items.noisy.shape, generator=batch.draw.stream("uniform"))
    return view._replace(prediction_type="epsilon").error(eps, u, items).mean()


def nearest_forget(batch: Batch, network: Network, view: View) -> torch.Tensor:
    """E‖ε(a_t; Σ w_k x_k) - ε_θ(a_t)‖² with the K nearest keep pictures x_k. Source: ReTrack (arXiv 2509.13007)."""
    items = batch.forget_half
    means = posterior_mean(items.noisy, _stand_ins(batch), items.signal, items.noise)
    return errors(items.towards(means), network, view).mean()


def surrogate_forget(batch: Batch, network: Network, view: View) -> torch.Tensor:
    """E ω(t)‖ε(a_t; s) - ε_θ(a_t)‖² with a surrogate s of a, ω = min(1, σ²/γ²). Source: arXiv 2603.10445."""
    items = batch.forget_half
    clean = torch.stack([s[0] for s in _stand_ins(batch)])
    return weighted(
        items.towards(clean), weight_of_time(items.signal, items.noise).float(), network, view, len(items)
    )  # fmt: skip


def _stand_ins(batch: Batch) -> list[torch.Tensor]:
    return [s for s, chosen in zip(batch.surrogates, batch.from_forget.tolist(), strict=True) if chosen]


def anchor_forget(batch: Batch, network: Network, view: View) -> torch.Tensor:
    """E‖ε_θ(z_t, prompt) - ε_θ(z_t, anchor)‖², the second without gradient; z is the item's keep picture.

    The prompt learns to mean what a harmless wording of it means. Source: Concept Ablation (arXiv 2303.13516).
    """
    if batch.anchors is None or batch.forget.conditioning is None:
        raise ValueError("the batch has no anchors")
    chosen = batch.from_forget
    points = batch.keep.pick(chosen)
    with torch.no_grad():
        wanted = network(points.noisy, points.t, batch.anchors.pick(chosen))
    answer = network(points.noisy, points.t, batch.forget.conditioning.pick(chosen))
    return view.error(answer, wanted, points).mean()
