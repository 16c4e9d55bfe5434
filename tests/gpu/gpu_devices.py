"""The CPU always, and a GPU where there is one: the same test on both."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from accelerate import PartialState

CUDA = pytest.param(
    "cuda",
    marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")],
)
DEVICES = pytest.mark.parametrize("on", ["cpu", CUDA])
ONLY_CUDA = pytest.mark.parametrize("on", [CUDA])


@contextmanager
def running_on(on: str) -> Iterator[None]:
    """Let memfix run on a device: it asks accelerate, which remembers its answer."""
    before = os.environ.get("ACCELERATE_USE_CPU")
    os.environ["ACCELERATE_USE_CPU"] = str(on == "cpu")
    PartialState._reset_state()
    try:
        yield
    finally:
        PartialState._reset_state()
        os.environ.pop("ACCELERATE_USE_CPU")
        if before is not None:
            os.environ["ACCELERATE_USE_CPU"] = before
