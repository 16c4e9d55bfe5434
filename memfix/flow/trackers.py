"""Steps of a training for TensorBoard, Weights & Biases and their like, through the trackers of accelerate."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from accelerate.tracking import LOGGER_TYPE_TO_CLASS

from memfix.errors import ExitCode, MemfixError, did_you_mean
from memfix.offline import is_offline
from memfix.records import Step

LOGS = "logs"
"""Folder of a run for what trackers write on this disk."""


def check_trackers(names: Sequence[str]) -> None:
    """Raise MemfixError for a tracker that is not known, or not installed."""
    known = [str(getattr(name, "value", name)) for name in LOGGER_TYPE_TO_CLASS]
    for name in names:
        if name not in known:
            raise MemfixError(f"--report-to knows no tracker '{name}'.", did_you_mean(name, known), ExitCode.USAGE)
        if not is_installed(name):
            raise MemfixError(f"--report-to {name}: it is not installed.", f"pip install {name}", ExitCode.USAGE)


def is_installed(name: str) -> bool:
    """Whether the package of a tracker, which is called as it is, is there."""
    return find_spec(name) is not None


class Trackers:
    """The trackers of one training."""

    def __init__(self, open_ones: Sequence[Any], phase: str) -> None:
        self._open, self._phase = open_ones, phase

    def log(self, step: Step) -> None:
        """Hand the numbers of a step on."""
        numbers = {f"{self._phase}/{k}": v for k, v in step.model_dump().items() if isinstance(v, (int, float))}
        for tracker in self._open:
            tracker.log(numbers, step=step.step)


@contextmanager
def trackers(names: Sequence[str], run: Path, phase: str, settings: dict[str, Any]) -> Iterator[Trackers]:
    """Trackers for the steps of a phase while the block runs. Offline, none of them uses the network."""
    if is_offline():
        os.environ.setdefault("WANDB_MODE", "offline")
    opened = list[Any]()
    for name in names:
        made = LOGGER_TYPE_TO_CLASS[name]
        opened.append(made(run.name, logging_dir=run / LOGS) if made.requires_logging_directory else made(run.name))
    plain = {k: v if isinstance(v, (int, float, str, bool)) else str(v) for k, v in settings.items()}
    for tracker in opened:
        if start := getattr(tracker, "start", None):  # which older releases do as they are made
            start()
        tracker.store_init_configuration(plain)
    try:
        yield Trackers(opened, phase)
    finally:
        for tracker in opened:
            tracker.finish()
