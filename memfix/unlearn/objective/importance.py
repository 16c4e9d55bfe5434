"""Which weights matter to what: gradients on a bank's items before training. The trained weights stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from memfix.models.denoiser import Network
from memfix.unlearn.data.bank import Bank, Items
from memfix.unlearn.data.draws import Draw
from memfix.unlearn.objective.terms import View, errors

ITEMS = 64  # enough for a ranking of weights; each is one forward and backward


def forget_sensitivity(
    bank: Bank, parameters: Sequence[nn.Parameter], network: Network, view: View, window: tuple[int, int], seed: int
) -> list[torch.Tensor]:
    """|∇ of the denoising loss of the forget images|: what SalUn (arXiv 2310.12508) calls saliency."""

    def items(n: int) -> Items:
        return bank.draw(Draw(seed, n, "saliency"), 1, 0, 1.0, window).forget

    total = [torch.zeros_like(p) for p in parameters]
    _over_items(items, parameters, network, view, lambda i, g: total[i].add_(g))
    return [t.abs_() for t in total]


def keep_fisher(
    bank: Bank, parameters: Sequence[nn.Parameter], network: Network, view: View, seed: int
) -> list[torch.Tensor]:
    """Diagonal of the empirical Fisher information of the keep images: the mean squared gradient, item by item.

    Raises ValueError if there are none.
    """
    if not bank.has_keep:
        raise ValueError("without keep images nothing says which weights matter to them")
    whole = (0, len(bank.schedule))

    def items(n: int) -> Items:
        batch = bank.draw(Draw(seed, n, "fisher"), 1, 1, 0.0, whole)
        return batch.prior if n % 2 and len(batch.prior) else batch.keep

    total = [torch.zeros_like(p) for p in parameters]
    _over_items(items, parameters, network, view, lambda i, g: total[i].addcmul_(g, g))
    return [t.div_(ITEMS) for t in total]


def _over_items(
    items: Callable[[int], Items], parameters: Sequence[nn.Parameter], network: Network, view: View,
    add: Callable[[int, torch.Tensor], object],
) -> None:  # fmt: skip
    """Hand each item's gradient of each parameter to `add`, then forget it."""
    for p in parameters:
        p.grad = None  # of an attempt that ran out of memory
    for n in range(ITEMS):
        errors(items(n), network, view).sum().backward()  # type: ignore[no-untyped-call]  # torch leaves backward untyped
        for i, p in enumerate(parameters):
            if p.grad is not None:
                add(i, p.grad)
                p.grad = None
