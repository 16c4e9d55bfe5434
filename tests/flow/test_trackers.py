"""Trackers of accelerate: known by name, refused before training where they are missing."""

from pathlib import Path

import pytest

from memfix.errors import MemfixError
from memfix.flow.trackers import check_trackers, is_installed, trackers
from memfix.records import Step

STEP = Step.model_construct(step=1, loss_keep=2.0, loss_forget=1.0, seconds=0.1)


def test_no_tracker_is_needed(tmp_path: Path) -> None:
    check_trackers(())
    with trackers((), tmp_path / "run", "training", {"rank": 16}) as told:
        told.log(STEP)
    assert not any(tmp_path.iterdir())


def test_an_unknown_tracker_is_refused() -> None:
    with pytest.raises(MemfixError, match="no tracker 'tensorbord'") as caught:
        check_trackers(["tensorbord"])
    assert "tensorboard" in caught.value.hint and caught.value.exit_code == 2


@pytest.mark.skipif(is_installed("wandb"), reason="wandb is installed")
def test_a_missing_tracker_is_refused() -> None:
    with pytest.raises(MemfixError, match="not installed") as caught:
        check_trackers(["wandb"])
    assert caught.value.hint == "pip install wandb"


@pytest.mark.skipif(not is_installed("tensorboard"), reason="tensorboard is not installed")
def test_steps_are_in_the_folder_of_logs(tmp_path: Path) -> None:
    with trackers(["tensorboard"], tmp_path / "run", "training", {"rank": 16, "adapter": None}) as told:
        told.log(STEP)
    assert list((tmp_path / "run/logs").rglob("events.out.tfevents.*"))
