"""A copy of a finished detection, opened for what comes after it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from memfix.config.unlearn import UnlearnSettings
from memfix.console import Talk
from memfix.flow.detection import Detection
from memfix.run.folder import Run
from memfix.run.header import UnlearnStage
from memfix.run.inputs import UnlearnInputs
from memfix.unlearn.data.sampler import Sampler
from tests.detected import FEW


def opened(detected: Path, folder: Path) -> Detection:
    """The detection in a copy of its run."""
    shutil.copytree(detected, folder, ignore=shutil.ignore_patterns(".lock"))
    return Detection.of(Run.open(folder))


def sampler(detection: Detection) -> Sampler:
    """A sampler of a fresh model."""
    return Sampler(detection.model(), detection.judge(), detection.settings, Talk(quiet=True))


@contextmanager
def unlearning(detection: Detection, **values: object) -> Iterator[UnlearnStage]:
    """The stage of an unlearning with few steps, as it is recorded."""
    settings = UnlearnSettings(**FEW | values)
    with detection.run.lock(), detection.run.stage(UnlearnStage, settings, UnlearnInputs(), []) as entry:
        yield entry
