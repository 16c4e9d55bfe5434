"""Tests that take the argument `on` run there, as memfix sees it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from gpu_devices import running_on

from memfix.models import pipeline


@pytest.fixture
def pipe(on: str, model_folder: Path) -> Iterator:
    """The tiny pipeline, loaded on the device."""
    with running_on(on):
        yield pipeline.load(pipeline.locate(str(model_folder)))
