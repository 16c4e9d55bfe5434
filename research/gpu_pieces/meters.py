"""Seconds, bytes and operations on a device. Knows nothing of memfix."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any, NamedTuple

import torch
import torch._dynamo  # which the count of operations needs; here, so that it is imported once for all pieces
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

GIB = 2**30


class Product(NamedTuple):
    """A matrix product whose speed is the peak: its side, seconds of it before time is taken, and how often it is."""

    side: int
    warm: float
    rounds: int


THOROUGH, QUICK = Product(8192, 1.0, 30), Product(256, 0.02, 5)


def synchronize(device: str) -> None:
    """Until the device has done all that it was given."""
    if device == "cuda":
        torch.cuda.synchronize()


def seconds(work: Callable[[], Any], device: str) -> float:
    """How long it takes, until the device is done."""
    synchronize(device)
    started = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - started


def fresh(device: str) -> None:
    """Give back what is not in use any more, and begin to look for the most that is held."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peaks(device: str, title: str = "") -> dict[str, float]:
    """The most that tensors held, and the most that the process had of the GPU for them; nothing without one."""
    if device != "cuda":
        return {}
    held = {"peak_gib": torch.cuda.max_memory_allocated(), "reserved_gib": torch.cuda.max_memory_reserved()}
    return {f"{title}_{name}" if title else name: size / GIB for name, size in held.items()}


def operations(work: Callable[[], Any]) -> float:
    """Floating-point operations of matrix products, convolutions and attention, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())


def lacks_memory(error: BaseException) -> bool:
    """Whether an error, or the one behind it, says that the device has too little memory."""
    return isinstance(error, torch.OutOfMemoryError) or isinstance(error.__cause__, torch.OutOfMemoryError)


def bf16_peak(device: str, product: Product) -> float:
    """Operations a second of a matrix product in bf16 on random data, once the device is as fast as it gets."""
    a, b = (torch.randn(product.side, product.side, device=device, dtype=torch.bfloat16) for _ in range(2))
    started = time.perf_counter()
    while time.perf_counter() - started < product.warm:
        seconds(lambda: a @ b, device)
    taken = [_elapsed(lambda: a @ b, device) for _ in range(product.rounds)]
    return 2 * product.side**3 / median(taken)


def _elapsed(work: Callable[[], Any], device: str) -> float:
    """Seconds on the device itself."""
    if device != "cuda":
        return seconds(work, device)
    start = _event()
    work()
    end = _event()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end)) / 1000


def _event() -> Any:
    """A mark that the GPU passes once it has done what it was given before."""
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    event.record()
    return event


class Clock:
    """Seconds that the calls of a module took on the device, summed up; read it once the device is done."""

    def __init__(self, device: str) -> None:
        self._cuda = device == "cuda"
        self._marks: list[Any] = []

    def _mark(self) -> None:
        self._marks.append(_event() if self._cuda else time.perf_counter())

    @contextmanager
    def on(self, module: nn.Module) -> Iterator[Clock]:
        """Look at a module for a while."""
        hooks = [
            module.register_forward_pre_hook(lambda *_: self._mark()),
            module.register_forward_hook(lambda *_: self._mark()),
        ]
        try:
            yield self
        finally:
            for hook in hooks:
                hook.remove()

    @property
    def seconds(self) -> float:
        """Of all calls so far."""
        pairs = zip(self._marks[::2], self._marks[1::2], strict=True)
        return float(sum(a.elapsed_time(b) / 1000 if self._cuda else b - a for a, b in pairs))
