"""Where numbers stop being numbers. A model that answers NaN draws black pictures, and those are copies of nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from memfix.errors import MemfixError


class NotFiniteError(MemfixError):
    """Numbers of a model are none."""


def require_finite_weights(parts: Mapping[str, nn.Module], name: str) -> None:
    """Raise NotFiniteError if a weight of a model is not finite; names the first one. `parts`: the modules by name."""
    broken = first_broken_weight(parts)
    if broken is not None:
        raise NotFiniteError(
            f"{name} has weights that are not numbers; the first are in {broken}.",
            "Nothing can be said of such a model. Give weights that are whole.",
        )


def first_broken_weight(parts: Mapping[str, nn.Module]) -> str | None:
    """The first parameter or buffer that is not finite, as part.layer.weight; None if all are."""
    for part, module in parts.items():
        state = [*module.named_parameters(), *module.named_buffers()]
        for name, values in state:
            if values.is_floating_point() and not values.isfinite().all():
                return f"{part}.{name}"
    return None


def require_finite(values: torch.Tensor, parts: Mapping[str, nn.Module], again: Callable[[], object]) -> None:
    """Raise NotFiniteError if what a model has computed is not finite; names the first layer that goes wrong.

    again: computes it once more. Only called if something is wrong, so that what is right costs nothing.
    """
    if values.isfinite().all():
        return
    with _watched(parts) as broken:
        again()
    where = broken[0] if broken else "no layer of the networks, so the numbers go wrong between them"
    raise NotFiniteError(
        f"The model does not give numbers but NaN or infinity. The first layer that does: {where}.",
        "In half precision numbers can overflow: try --mixed-precision bf16 or no. Otherwise the weights are broken.",
    )


@contextmanager
def _watched(parts: Mapping[str, nn.Module]) -> Iterator[list[str]]:
    """Note the layers that make what is not finite, in the order in which they do."""
    found: list[str] = []
    hooks = []

    def watch(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, given: Any, answer: Any) -> None:
            if isinstance(answer, torch.Tensor) and not answer.isfinite().all():
                found.append(name)

        return hook

    for part, module in parts.items():
        for name, layer in module.named_modules():
            if not any(layer.children()):
                hooks.append(layer.register_forward_hook(watch(f"{part}.{name}")))
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
