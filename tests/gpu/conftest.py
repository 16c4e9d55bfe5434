"""Tests that take the argument `on` run there, as memfix sees it."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from gpu_devices import running_on
from torch.nn.attention import SDPBackend, sdpa_kernel

from memfix.models import loading

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts; for `repeatable`


@pytest.fixture
def model(on: str, model_folder: Path) -> Iterator:
    """The tiny model, loaded on the device."""
    with running_on(on):
        yield loading.load(loading.locate(str(model_folder)))


@pytest.fixture
def repeatable() -> Iterator[None]:
    """Kernels whose sums do not depend on which thread is first."""
    before = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = True
    torch.use_deterministic_algorithms(True, warn_only=True)
    with sdpa_kernel(SDPBackend.MATH):
        yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.deterministic = before
