"""Steps of a training for TensorBoard, Weights & Biases and their like, through the trackers of accelerate."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

from memfix.errors import ExitCode, MemfixError, did_you_mean
from memfix.models.device import state
from memfix.offline import is_offline
from memfix.records import Step

LOGS = "logs"
"""Folder of a run for what trackers write on this disk."""


ALL = "all"
"""As in training scripts: every tracker that is installed."""

NO_TRACKER = "none"
"""As there: no tracker."""


def check_trackers(names: Sequence[str]) -> None:
    """Raise MemfixError for a tracker that is not known, or not installed."""
    known = _words(LOGGER_TYPE_TO_CLASS)
    if ALL in names and not get_available_trackers():
        raise MemfixError("--report-to all: no tracker is installed.", "pip install tensorboard", ExitCode.USAGE)
    for name in names:
        if name == ALL or names == (NO_TRACKER,):
            continue
        if name == NO_TRACKER:
            raise MemfixError("--report-to none stands alone.", "Leave out the other trackers.", ExitCode.USAGE)
        if name not in known:
            hint = did_you_mean(name, [*known, ALL, NO_TRACKER])
            raise MemfixError(f"--report-to knows no tracker '{name}'.", hint, ExitCode.USAGE)
        if not is_installed(name):
            raise MemfixError(f"--report-to {name}: it is not installed.", f"pip install {name}", ExitCode.USAGE)


def _words(names: Iterable[Any]) -> list[str]:
    """Names of trackers, which are texts or members of accelerate's enumeration, as texts."""
    return [str(getattr(name, "value", name)) for name in names]


def is_installed(name: str) -> bool:
    """Whether the package of a tracker, or one in its place (tensorboardX), is there."""
    return name in _words(get_available_trackers())


def _expanded(names: Sequence[str]) -> list[str]:
    """The trackers that names mean, each once."""
    meant = [[name] if name != ALL else _words(get_available_trackers()) for name in names if name != NO_TRACKER]
    return list(dict.fromkeys(chain.from_iterable(meant)))


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
    """Trackers for the steps of a phase while the block runs. Offline, none of them uses the network.

    Weights & Biases writes into ./wandb, or where WANDB_DIR says, and not into the run, since it makes links.
    """
    if is_offline():
        os.environ.setdefault("WANDB_MODE", "offline")
    state()  # which trackers ask whether this is the process that writes
    opened = list[Any]()
    for name in _expanded(names):
        made = LOGGER_TYPE_TO_CLASS[name]
        opened.append(made(run.name, logging_dir=run / LOGS) if made.requires_logging_directory else made(run.name))
    plain = {k: v if isinstance(v, (int, float, str, bool)) else str(v) for k, v in settings.items()}
    for tracker in opened:
        try:
            if start := getattr(tracker, "start", None):  # which older releases do as they are made
                start()
            tracker.store_init_configuration(plain)
        except Exception as error:  # each tracker has errors of its own
            raise MemfixError(
                f"The tracker {tracker.name} of --report-to did not start: {error}",
                "Log in there first, give --offline if it works without the network, or leave it out.",
            ) from error
    try:
        yield Trackers(opened, phase)
    finally:
        for tracker in opened:
            tracker.finish()
