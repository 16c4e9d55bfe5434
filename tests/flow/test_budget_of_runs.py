"""How long a run is trained: by its memorized prompts, and told where that is too little."""

from pathlib import Path

import pytest

from memfix.config.unlearn import UnlearnSettings
from memfix.console import Talk
from memfix.flow import dry_run
from memfix.flow.unlearn import unlearn
from memfix.records import Step
from memfix.run.folder import Run
from tests.detected import FEW, detected_run

pytestmark = pytest.mark.slow  # a detection and trainings


def test_steps_follow_from_the_prompts_that_were_found(
    tmp_path: Path, model_folder: Path, reference_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run.open(detected_run(tmp_path, model_folder, reference_folder))
    drawn = {"max_train_steps": 0, "draws_per_prompt": 80, "train_batch_size": 4}
    closed = dry_run.outline(run, UnlearnSettings(**FEW | drawn))
    assert (closed["loop"], closed["steps"], closed["draws_per_prompt"]) == ("closed", 120, 240)  # at most
    settings = UnlearnSettings(**FEW | drawn, loop="open")
    told = dry_run.outline(run, settings)
    assert (told["memorized_prompts"], told["steps"], told["draws_per_prompt"]) == (2, 40, 80)  # 2 · 80 / 4
    assert unlearn(run, settings, [], Talk(quiet=True))
    assert len(run.read("training.jsonl", Step)) == 40
    stage = run.header.stages.unlearn
    assert stage is not None and stage.settings.max_train_steps == 40
    assert "too few" not in capsys.readouterr().err
    few = settings.model_copy(update={"max_train_steps": 2})
    assert unlearn(run, few, [], Talk(quiet=True), overwrite=True)
    assert "Each of 2 memorized prompts is drawn only 4 times in 2 steps" in " ".join(capsys.readouterr().err.split())
