"""Trackers of accelerate: known by name, refused before training where they are missing."""

from pathlib import Path

import pytest

from memfix.errors import MemfixError
from memfix.files import require_no_links
from memfix.flow.trackers import check_trackers, is_installed, trackers
from memfix.records import Step

STEP = Step.model_construct(step=1, loss_keep=2.0, loss_forget=1.0, seconds=0.1)


def test_no_tracker_is_needed(tmp_path: Path) -> None:
    check_trackers(())
    check_trackers(("none",))
    with pytest.raises(MemfixError, match="none stands alone"):
        check_trackers(("none", "tensorboard"))
    with trackers(("none",), tmp_path / "run", "training", {"rank": 16}) as told:
        told.log(STEP)
    assert not any(tmp_path.iterdir())


def test_an_unknown_tracker_is_refused() -> None:
    with pytest.raises(MemfixError, match="no tracker 'tensorbord'") as caught:
        check_trackers(["tensorbord"])
    assert "tensorboard" in caught.value.hint and caught.value.exit_code == 2


@pytest.mark.skipif(is_installed("tensorboard"), reason="tensorboard is installed")
def test_all_are_none_where_none_is_installed() -> None:
    with pytest.raises(MemfixError, match="no tracker is installed") as caught:
        check_trackers(["all"])
    assert caught.value.hint == "pip install tensorboard"


@pytest.mark.skipif(is_installed("wandb"), reason="wandb is installed")
def test_a_missing_tracker_is_refused() -> None:
    with pytest.raises(MemfixError, match="not installed") as caught:
        check_trackers(["wandb"])
    assert caught.value.hint == "pip install wandb"


@pytest.mark.skipif(not is_installed("tensorboard"), reason="tensorboard is not installed")
@pytest.mark.parametrize("name", ["tensorboard", "all"])
def test_steps_are_in_the_folder_of_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    check_trackers([name])
    with trackers([name], tmp_path / "run", "training", {"rank": 16, "adapter": None}) as told:
        told.log(STEP)
    assert list((tmp_path / "run/logs").rglob("events.out.tfevents.*"))


@pytest.mark.skipif(not is_installed("wandb"), reason="wandb is not installed")
def test_wandb_offline_leaves_the_run_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    (tmp_path / "run").mkdir()
    for phase in ("training", "adversarial"):
        with trackers(["wandb"], tmp_path / "run", phase, {"rank": 16, "adapter": None}) as told:
            told.log(STEP)
    require_no_links(tmp_path / "run")


@pytest.mark.skipif(not is_installed("tensorboard"), reason="tensorboard is not installed")
def test_a_tracker_that_does_not_start_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/logs").write_text("in its way")
    told = "The tracker tensorboard of --report-to did not start"
    with pytest.raises(MemfixError, match=told), trackers(["tensorboard"], tmp_path / "run", "training", {}):
        pass
