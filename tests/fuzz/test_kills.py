"""A process that is killed at any change of the file system loses nothing: the same commands lead to the same files."""

import json
import os
import signal
import sys
from pathlib import Path
from random import Random

import pytest
import torch

from memfix import flow
from memfix.config.checks import DetectSettings
from memfix.run.folder import Run
from tests.fuzz.runs import QUIET, RECHECK, UNLEARN
from tests.processes import started

pytestmark = pytest.mark.slow  # a chain for each kill

KILLS = 12
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}
SETTINGS = {"num_samples": 4, "num_inference_steps": 2, "mixed_precision": "no", "measure": "tiled_l2"}


def work(folder: Path, model: Path, references: Path, kill_at: int | None) -> None:
    """All stages, in a process of its own, killed at the n-th change in its run. Writes how many there were."""
    run, seen = folder / "run", 0

    def count(event: str, given: tuple[object, ...]) -> None:
        nonlocal seen
        writes = event == "open" and isinstance(given[2], int) and given[2] & (os.O_WRONLY | os.O_RDWR)
        if (writes or event in CHANGES) and str(given[0]).startswith(str(run)):
            seen += 1
            if seen == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    torch.set_num_threads(1)
    settings = DetectSettings(
        model=str(model), references=str(references), controls=str(folder.parent / "controls.txt"), threshold=0.3,
        **SETTINGS,
    )  # fmt: skip
    made = flow.detect(str(folder.parent / "prompts.txt"), settings, run, folder, [], QUIET)
    flow.unlearn(made, UNLEARN, [], QUIET)
    flow.recheck(Run.open(run), RECHECK, [], QUIET)
    flow.report(Run.open(run))
    (folder / "changes").write_text(str(seen))


def left(folder: Path) -> dict[str, str]:
    """What the stages left behind, but for the seconds that steps took."""
    lists = [(folder / f"run/{stage}.sha256").read_text() for stage in ("detect", "unlearn", "recheck")]
    files = dict(reversed(line.split("  ")) for line in "".join(lists).splitlines())
    del files["training.jsonl"]
    return files


def test_a_chain_that_is_killed_goes_on_to_the_same_files(
    tmp_path: Path, model_folder: Path, reference_folder: Path
) -> None:
    (tmp_path / "prompts.txt").write_text("disc\ncat\n")
    (tmp_path / "controls.txt").write_text("sky\nsea\n")
    (whole := tmp_path / "whole").mkdir()
    assert started(work, whole, model_folder, reference_folder, None) == 0
    changes, expected = int((whole / "changes").read_text()), left(whole)
    assert changes > 100 and len(expected) > 20
    random = Random(19)
    for number in range(KILLS):
        at = random.randrange(changes * number // KILLS, changes * (number + 1) // KILLS) + 1
        (folder := tmp_path / f"killed-{at}").mkdir()
        assert started(work, folder, model_folder, reference_folder, at) == -signal.SIGKILL, f"at change {at}"
        assert started(work, folder, model_folder, reference_folder, None) == 0, f"after a kill at change {at}"
        assert left(folder) == expected, f"after a kill at change {at}"
        assert not list((folder / "run").rglob(".*.tmp"))
        assert json.loads((folder / "run/run.json").read_text())["status"] == "finished"
