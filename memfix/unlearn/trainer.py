"""The unlearning loop: a generator that yields a record a step. It never learns the name of the method.

The caller owns logging, progress, saving and stopping.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence

import torch
from torch import nn

from memfix.config import UnlearnSettings
from memfix.models.device import autocast
from memfix.records import Step
from memfix.unlearn.bank import Bank, Batch
from memfix.unlearn.methods import Method, Network, Term

SEED_STRIDE = 1_000_003


def train(
    unet: nn.Module, parameters: Sequence[nn.Parameter], bank: Bank, method: Method, settings: UnlearnSettings,
    mixed_precision: str,
) -> Iterator[Step]:  # fmt: skip
    """Take `settings.max_train_steps` optimizer steps on `parameters`.

    Each step's draws come from a generator of their own, so a step does not depend on how the run got there. The
    forget gradient is combined with the keep gradient once both are complete over all accumulated passes.
    """
    rate = settings.resolved_learning_rate()
    optimizer = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.999), weight_decay=settings.adam_weight_decay)
    window = (settings.timestep_min, min(settings.timestep_max, len(bank.schedule)))

    def network(noisy: torch.Tensor, t: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        with autocast(mixed_precision):
            prediction: torch.Tensor = unet(noisy, t, encoder_hidden_states=context, return_dict=False)[0]
        return prediction.float()

    for step in range(settings.max_train_steps):
        started = time.monotonic()
        generator = torch.Generator().manual_seed(settings.train_seed * SEED_STRIDE + step)
        passes = [
            bank.draw(generator, settings.train_batch_size, settings.prior_batch_size, settings.mixture, window)
            for _ in range(settings.gradient_accumulation_steps)
        ]
        now = rate * lr_factor(step, settings)
        for group in optimizer.param_groups:
            group["lr"] = now

        loss_keep = _backward(method.keep, passes, network, bank.schedule.prediction_type)
        keep = _take_gradients(parameters)
        loss_forget = _backward(method.forget, passes, network, bank.schedule.prediction_type)
        forget = [_gradient(p) for p in parameters]
        norms = method.combine(keep, forget, settings.forget_ratio)
        del keep
        nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        yield Step(
            step=step + 1, loss_keep=loss_keep, loss_forget=loss_forget, norm_keep=norms.norm_keep,
            norm_forget=norms.norm_forget, scale=norms.scale, learning_rate=now, seconds=time.monotonic() - started,
        )  # fmt: skip


def lr_factor(step: int, settings: UnlearnSettings) -> float:
    """The learning rate at a step, as a share of its full value."""
    rise = min(1.0, (step + 1) / (settings.lr_warmup_steps + 1))
    if settings.lr_scheduler == "constant":
        return rise
    return rise * 0.5 * (1 + math.cos(math.pi * step / settings.max_train_steps))


def _backward(term: Term, passes: Sequence[Batch], network: Network, prediction_type: str) -> float:
    """Add the gradient of a term, averaged over the passes, to `.grad`; return its value."""
    total = 0.0
    for batch in passes:
        loss = term(batch, network, prediction_type) / len(passes)
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves backward untyped
        total += float(loss.detach())
    return total


def _gradient(parameter: nn.Parameter) -> torch.Tensor:
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


def _take_gradients(parameters: Sequence[nn.Parameter]) -> list[torch.Tensor]:
    """Move the gradients out of the parameters: the one extra buffer, without a copy."""
    taken = [_gradient(p) for p in parameters]
    for p in parameters:
        p.grad = None
    return taken
