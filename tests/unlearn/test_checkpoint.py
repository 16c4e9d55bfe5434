"""Training that was cut off goes on bit for bit, whatever it was made of."""

from pathlib import Path

import pytest
import torch
from tiny import Net, bank_of, parts

from memfix.config.unlearn import UnlearnSettings
from memfix.errors import MemfixError
from memfix.unlearn.objective.methods import METHODS
from memfix.unlearn.train.checkpoint import OPTIMIZER, Checkpoints, chosen_step
from memfix.unlearn.train.trainer import Trainer


def training(folder: Path, limit: int | None = None, **values) -> tuple[Net, Trainer, Checkpoints]:
    settings = UnlearnSettings(
        **{"max_train_steps": 6, "train_batch_size": 4, "prior_batch_size": 2, "learning_rate": 0.01} | values
    )
    model = Net()
    trainer = Trainer(*parts(model), bank_of("epsilon"), METHODS["siss"], settings, "no")
    return model, trainer, Checkpoints(folder, trainer, limit)


def advance(trainer: Trainer, step: int) -> list:
    return [next(iter(trainer)) for _ in range(step - trainer.step)]


@pytest.mark.parametrize(
    "values",
    [{}, {"saliency": 0.3, "lr_scheduler": "cosine"}, {"parameter_prior": 0.5, "gradient_accumulation_steps": 2}],
    ids=str,
)
def test_weights_and_records_are_those_of_an_undisturbed_training(tmp_path: Path, values: dict) -> None:
    whole, trainer, _ = training(tmp_path, **values)
    records = advance(trainer, 6)
    _, first, checkpoints = training(tmp_path, **values)
    advance(first, 3)
    checkpoints.save()
    resumed, second, checkpoints = training(tmp_path, **values)
    assert checkpoints.restore() == 3
    later = advance(second, 6)
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)
    assert [r.model_copy(update={"seconds": 0}) for r in later] == [
        r.model_copy(update={"seconds": 0}) for r in records[3:]
    ]


def test_the_newest_whole_one_is_taken_and_the_oldest_go(tmp_path: Path) -> None:
    _, trainer, checkpoints = training(tmp_path, limit=2)
    assert checkpoints.restore() == 0
    for step in (1, 2, 3):
        advance(trainer, step)
        checkpoints.save()
    assert checkpoints.steps() == [2, 3]
    (tmp_path / ".checkpoint-4.tmp").mkdir()  # what a kill in the middle of a write leaves
    (tmp_path / ".checkpoint-4.tmp" / OPTIMIZER).write_bytes(b"half")
    _, trainer, checkpoints = training(tmp_path)
    assert checkpoints.restore("2") == 2
    assert checkpoints.restore() == 3
    advance(trainer, 4)
    checkpoints.save()
    checkpoints.save()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint-2", "checkpoint-3", "checkpoint-4"]


def test_the_one_to_go_back_to_stays(tmp_path: Path) -> None:
    _, trainer, checkpoints = training(tmp_path, limit=1)
    for step in (1, 2, 3, 4):
        advance(trainer, step)
        checkpoints.save(2 if step > 1 else None)
    assert checkpoints.steps() == [2, 4]


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    _, trainer, checkpoints = training(tmp_path)
    with pytest.raises(MemfixError, match="no checkpoint of step 7"):
        checkpoints.restore("7")
    advance(trainer, 1)
    checkpoints.save()
    _, trainer, _ = training(tmp_path)
    trainer.weights = dict(list(trainer.weights.items())[:2])
    with pytest.raises(MemfixError, match="6 weights, and 2 others"):
        Checkpoints(tmp_path, trainer).restore()
    (tmp_path / "checkpoint-1" / OPTIMIZER).write_bytes(b"half")
    with pytest.raises(MemfixError, match="does not fit"):
        checkpoints.restore()


def test_a_checkpoint_is_asked_for_by_step_name_or_path(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    for step in (4, 12):
        (folder / f"checkpoint-{step}").mkdir(parents=True)
    assert chosen_step(folder, "latest") == 12
    for name in ("4", "checkpoint-4", "checkpoint-4/", "run/checkpoints/checkpoint-4/", str(folder / "checkpoint-4")):
        assert chosen_step(folder, name) == 4
    for name in ("5", "checkpoint-5", "checkpoint-4x", str(tmp_path / "other/checkpoint-4")):
        with pytest.raises(MemfixError, match="contains no checkpoint of step") as caught:
            chosen_step(folder, name)
        assert "one of these steps: 4, 12" in caught.value.hint
