"""What every training stage of the recipes shares: resumable loops in bounded pieces, EMA, a one-cycle rate."""

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

WARMUP = 0.05
FAST_BF16 = "AVX512" in torch.backends.cpu.get_cpu_capability()  # elsewhere bfloat16 is many times slower than float32


def one_cycle(progress: float) -> float:
    """Factor on the learning rate at a share of all steps: linear up, cosine down to zero."""
    if progress < WARMUP:
        return progress / WARMUP
    return 0.5 * (1 + math.cos(math.pi * (progress - WARMUP) / (1 - WARMUP)))


def warm(progress: float) -> float:
    """Linear up, then level."""
    return min(1.0, progress / WARMUP)


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
    schedule: Callable[[float], float] = one_cycle,
    ema_decay: float = 0.999,
    extra: dict[str, Any] | None = None,
    report: int = 100,
    after_step: Callable[[int, Ema], bool] = lambda step, ema: False,
) -> Ema | None:
    """Train for at most `minutes`, from where the last piece ended; the EMA once it is finished, else None.

    Finished is after `steps`, or when `after_step` returns True.

    Step `i` draws from a generator seeded with `i`, so pieces of any length give the same run. `extra` is a dict of
    plain values that `loss` or `after_step` change and that must survive an interruption.
    """
    optimizer = torch.optim.AdamW(
        model.parameters(), learning_rate, weight_decay=weight_decay, betas=(0.9, 0.99), fused=True
    )
    ema, first, spent, extra = Ema(model, ema_decay), 0, 0.0, {} if extra is None else extra
    path = build / f"{name}.ckpt"
    if path.exists():
        state = torch.load(path, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        ema.shadow, first, spent = state["ema"], state["step"], state["seconds"]
        extra.update(state["extra"])
        if state.get("finished"):
            return ema
    started = last = time.monotonic()

    def save(step: int, finished: bool = False) -> None:
        seconds = spent + time.monotonic() - started
        torch.save(
            {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "ema": ema.shadow, "step": step,
             "seconds": seconds, "extra": extra, "finished": finished}, path.with_suffix(".tmp"),
        )  # fmt: skip
        path.with_suffix(".tmp").replace(path)

    for step in range(first, steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * schedule(step / steps)
        with torch.autocast("cpu", torch.bfloat16, enabled=FAST_BF16):
            value = loss(step, torch.Generator().manual_seed(step))
        torch.autograd.backward(value)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        ema.update(model, step)
        finished = after_step(step + 1, ema)
        if (step + 1) % report == 0:
            row = {
                "step": step + 1,
                "loss": round(value.item(), 5),
                "seconds": round(spent + time.monotonic() - started),
            }
            print(name, json.dumps(row), flush=True)
        if finished:
            save(step + 1, finished=True)
            return ema
        if time.monotonic() - last > 240:
            save(step + 1)
            last = time.monotonic()
        if time.monotonic() - started > minutes * 60:
            save(step + 1)
            return None
    save(steps, finished=True)
    return ema


def run_in_pieces(doc: str, work: Callable[[Path, int, float], None], steps: int) -> None:
    """Command line of a training recipe: the build folder, how many steps, how long this piece may take."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", type=Path)
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--minutes", type=float, default=60, help="length of this piece; run again to go on")
    args = parser.parse_args()
    work(args.build, args.steps, args.minutes)
