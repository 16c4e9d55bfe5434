"""Which device, in which precision. The only place that asks the hardware."""

from __future__ import annotations

import atexit
import contextlib
import os
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env
from torch import distributed

from memfix.errors import MemfixError

PATIENCE = timedelta(days=3)  # processes wait while one of them samples for all


def state() -> PartialState:
    """This process among those that were started together, as accelerate sees it."""
    launched = "LOCAL_RANK" in os.environ  # by accelerate or torchrun; a bare RANK only shares out work
    cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or (launched and not torch.accelerator.is_available())
    before = distributed.is_initialized()
    here = PartialState(cpu=cpu, timeout=PATIENCE)
    if distributed.is_initialized() and not before:
        # Threads of gloo that are still there when Python ends may abort the process (pytorch issue 179291).
        atexit.register(here.destroy_process_group)
    return here


def device() -> torch.device:
    """The device of this process."""
    return torch.device(state().device)


def autocast_dtype(mixed_precision: str) -> torch.dtype | None:
    """The dtype that arithmetic is cast to, None for none. `auto`: bf16 where the device is fast at it."""
    match mixed_precision:
        case "no":
            return None
        case "fp16":
            return torch.float16
        case "bf16":
            return torch.bfloat16
        case _:
            return torch.bfloat16 if _fast_bf16() else None


def held_dtype(mixed_precision: str) -> torch.dtype | None:
    """The dtype in which weights that are only asked are held: that of arithmetic on a GPU; None for fp32."""
    return autocast_dtype(mixed_precision) if device().type == "cuda" else None


def precision_advice(mixed_precision: str) -> str:
    """What a user of this device should know of the precision that is asked for; empty where it is the best one."""
    kind = device().type
    name = torch.cuda.get_device_name() if kind == "cuda" else "MPS"
    return "" if kind == "cpu" else advice_for(kind, name, _fast_bf16(), mixed_precision)


def advice_for(kind: str, name: str, fast_bf16: bool, mixed_precision: str) -> str:
    """The same for a device of some kind and name. Cards before Ampere (T4, V100, RTX 20) are fast at fp16 alone."""
    if kind == "mps":
        slow = "half precision is not tried there" if mixed_precision in ("fp16", "bf16") else "in fp32"
        return f"Arithmetic is done by MPS, {slow}. Compare a few verdicts with those of another device."
    if fast_bf16 or mixed_precision == "fp16":
        return ""
    if mixed_precision == "bf16":
        return f"{name} has no bf16 of its own and is slow at it. Give --mixed-precision fp16, which it is fast at."
    return (
        f"Arithmetic is in fp32, since {name} is not fast at bf16. --mixed-precision fp16 is several times as fast "
        "there, and takes less memory."
    )


def _fast_bf16() -> bool:
    if device().type == "cuda":
        return torch.cuda.get_device_capability()[0] >= 8
    capabilities: dict[str, object] = getattr(
        torch.cpu, "get_capabilities", dict
    )()  # newer torch tells what the processor has
    return device().type == "cpu" and bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))


def autocast(mixed_precision: str) -> contextlib.AbstractContextManager[Any]:
    """A context in which the model computes in `mixed_precision`."""
    dtype = autocast_dtype(mixed_precision)
    return tf32() if dtype is None else torch.autocast(device().type, dtype)


@contextlib.contextmanager
def tf32() -> Iterator[None]:
    """Let products of matrices in fp32 be rounded to TF32, as PyTorch has it for convolutions, where a GPU can.

    Only while a model computes: similarities stay in full precision.
    """
    if device().type != "cuda":
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def like_devices() -> list[torch.device]:
    """This process's GPU, and all others of the host that are the same, unless processes share them; none on a CPU."""
    own = device()
    if own.type != "cuda":
        return []
    if state().num_processes > 1:
        return [own]
    name, first = torch.cuda.get_device_name(own), own.index or 0
    others = [i for i in range(torch.cuda.device_count()) if i != first and torch.cuda.get_device_name(i) == name]
    return [own, *(torch.device("cuda", i) for i in others)]


def gpu_memory() -> int | None:
    """Bytes of the GPU that is there; None on a CPU and where the device does not tell."""
    return torch.cuda.get_device_properties(device()).total_memory if device().type == "cuda" else None


def forget_peak_memory() -> None:
    """Let `peak_memory` of a GPU tell of what comes from here on; a process always tells of all its life."""
    if device().type == "cuda":
        torch.cuda.reset_peak_memory_stats()


def peak_memory() -> int:
    """Bytes: of the GPU since `forget_peak_memory` when there is one, else of the process."""
    if device().type == "cuda":
        return int(torch.cuda.max_memory_allocated())
    import resource
    import sys

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@contextlib.contextmanager
def memory_for(work: str, hint: str) -> Iterator[None]:
    """What is done inside takes memory of the GPU. Raises MemfixError where there is too little of it.

    work: what is done, to follow "ran out of memory"; hint: what to lower.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        wanted = re.search(r"Tried to allocate ([\d.]+ \w+)", str(error))
        more = f" ({wanted[1]} more were asked for)" if wanted else ""
        raise MemfixError(f"The GPU ran out of memory {work}{more}.", hint) from error
