"""What every training stage of the recipes shares: resumable loops in bounded pieces, EMA, a one-cycle rate."""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn


def one_cycle(step: int, steps: int, warmup: float = 0.05) -> float:
    """Factor on the learning rate: linear up, cosine down to zero."""
    progress = step / steps
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


class Ema:
    """Exponential moving average of a module's parameters, with the usual warm-up of the decay."""

    def __init__(self, model: nn.Module, decay: float = 0.999) -> None:
        self.decay = decay
        self.shadow = {k: v.detach().clone() for k, v in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                self.shadow[name].lerp_(value, 1 - decay)
            else:
                self.shadow[name].copy_(value)


def train(
    name: str,
    build: Path,
    model: nn.Module,
    loss: Callable[[int, torch.Generator], torch.Tensor],
    *,
    steps: int,
    learning_rate: float,
    minutes: float,
    weight_decay: float = 0.01,
    extra: dict | None = None,
    report: int = 100,
    after_step: Callable[[int, Ema], None] = lambda step, ema: None,
) -> Ema | None:
    """Train for at most `minutes`, from where the last piece ended; the EMA once all `steps` are done, else None.

    Step `i` draws from a generator seeded with `i`, so pieces of any length give the same run. `extra` is a dict of
    plain values that `loss` or `after_step` change and that must survive an interruption.
    """
    optimizer = torch.optim.AdamW(model.parameters(), learning_rate, weight_decay=weight_decay, betas=(0.9, 0.99))
    ema, first, spent, extra = Ema(model), 0, 0.0, {} if extra is None else extra
    path = build / f"{name}.ckpt"
    if path.exists():
        state = torch.load(path, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        ema.shadow, first, spent = state["ema"], state["step"], state["seconds"]
        extra.update(state["extra"])
    started = last = time.monotonic()

    def save(step: int) -> None:
        seconds = spent + time.monotonic() - started
        torch.save(
            {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "ema": ema.shadow, "step": step,
             "seconds": seconds, "extra": extra}, path.with_suffix(".tmp"),
        )  # fmt: skip
        path.with_suffix(".tmp").replace(path)

    for step in range(first, steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * one_cycle(step, steps)
        with torch.autocast("cpu", torch.bfloat16):
            value = loss(step, torch.Generator().manual_seed(step))
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        ema.update(model, step)
        after_step(step + 1, ema)
        if (step + 1) % report == 0:
            row = {
                "step": step + 1,
                "loss": round(value.item(), 5),
                "seconds": round(spent + time.monotonic() - started),
            }
            print(name, json.dumps(row), flush=True)
        if time.monotonic() - last > 240:
            save(step + 1)
            last = time.monotonic()
        if time.monotonic() - started > minutes * 60:
            save(step + 1)
            return None
    save(steps)
    return ema
