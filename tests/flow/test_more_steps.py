"""A training that ended goes on up to a higher number of steps, as it would have at once; nothing is lost by it."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from memfix import flow
from memfix.config.checks import RecheckSettings
from memfix.config.unlearn import UnlearnSettings
from memfix.console import Talk
from memfix.errors import MemfixError
from memfix.records import Step
from memfix.run.folder import Run
from tests.detected import FEW, detected_run

pytestmark = pytest.mark.slow  # whole trainings
QUIET = Talk(quiet=True)


@pytest.fixture(scope="module")
def detected(tmp_path_factory: pytest.TempPathFactory, model_folder: Path, reference_folder: Path) -> Path:
    return detected_run(tmp_path_factory.mktemp("more"), model_folder, reference_folder)


def train(run: Path, steps: int, given: str = "max_train_steps", **values: object) -> dict[str, torch.Tensor]:
    """The adapter after so many steps, in a run that may have taken some."""
    settings = UnlearnSettings(**FEW | {"rank": 2, "checkpointing_steps": 2, "max_train_steps": steps} | values)
    flow.unlearn(Run.open(run), settings, ["unlearn"], QUIET, given.split())
    return load_file(run / "model/pytorch_lora_weights.safetensors")


def test_six_steps_are_the_same_at_once_and_after_an_end_at_four(detected: Path, tmp_path: Path) -> None:
    parts, whole = (Path(shutil.copytree(detected, tmp_path / name)) for name in ("parts", "whole"))
    ended = train(parts, 4)
    went_on = train(parts, 6, "resume_from_checkpoint", resume_from_checkpoint="checkpoint-4")
    wanted = train(whole, 6)
    assert all(torch.equal(went_on[k], wanted[k]) for k in wanted)
    assert not all(torch.equal(ended[k], wanted[k]) for k in wanted)
    run = Run.open(parts)
    assert [s.step for s in run.read("training.jsonl", Step)] == [1, 2, 3, 4, 5, 6]
    stage = run.header.stages.unlearn
    assert stage is not None and stage.status == "finished" and stage.settings.max_train_steps == 6
    assert [s.status for s in run.header.history if s.stage == "unlearn"] == ["finished", "finished"]
    run.require_intact("unlearn")


def test_what_else_differs_is_refused_and_nothing_changes(detected: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(detected, tmp_path / "run"))
    before = train(run, 4)
    for steps, given, values in (
        (6, "max_train_steps", {}),  # nobody said that it is to go on
        (2, "resume_from_checkpoint", {"resume_from_checkpoint": "2"}),  # fewer
        (6, "resume_from_checkpoint", {"resume_from_checkpoint": "4", "forget_ratio": 0.7}),
        (6, "resume_from_checkpoint", {"resume_from_checkpoint": "checkpoint-3"}),  # there is none
    ):
        with pytest.raises(MemfixError):
            train(run, steps, given, **values)
    flow.recheck(Run.open(run), RecheckSettings(num_fresh=1, attacks="none"), ["recheck"], QUIET)
    with pytest.raises(MemfixError, match="the re-check of"):
        train(run, 6, "resume_from_checkpoint", resume_from_checkpoint="4")
    after = load_file(run / "model/pytorch_lora_weights.safetensors")
    assert all(torch.equal(before[k], after[k]) for k in before)
    Run.open(run).require_intact("unlearn", "recheck")
