"""Trainings in a run folder on a tiny pipeline: what is written down, what goes on, and how they end."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from safetensors.torch import load_file

from memfix.config.unlearn import UnlearnSettings
from memfix.errors import MemfixError
from memfix.flow.detection import Detection
from memfix.flow.pairs import gather
from memfix.flow.training import ADVERSARIAL, APART, CHECKPOINTS, STEPS, VALIDATIONS, Training, begun, clear
from memfix.models.adapters import Factors
from memfix.records import Ending, Pair, Side, Step, Validation
from memfix.run.header import UnlearnStage
from memfix.unlearn.data.bank import Bank
from memfix.unlearn.data.encode import build_bank, encode_pairs
from memfix.unlearn.data.sampler import Sampler
from memfix.unlearn.objective.methods import get_method
from memfix.unlearn.train.trainer import Trainer
from tests.detected import FEW, detected_run
from tests.flow.working import opened, sampler, unlearning

pytestmark = pytest.mark.slow  # whole trainings

SISS = get_method("siss")


@pytest.fixture(scope="module")
def detected(tmp_path_factory: pytest.TempPathFactory, model_folder: Path, reference_folder: Path) -> Path:
    return detected_run(tmp_path_factory.mktemp("training"), model_folder, reference_folder)


class Ready(NamedTuple):
    """All that a training takes, and the record of its stage."""

    detection: Detection
    entry: UnlearnStage
    pairs: list[Pair]

    def train(self, **values: object) -> tuple[Ending, dict[str, torch.Tensor]]:
        """How a training of a fresh model ends, and what it has trained."""
        sample = sampler(self.detection)
        settings = UnlearnSettings(**FEW | {"learning_rate": 0.01, "rank": 2} | values)
        ending = Training(self.detection.run, sample, self.bank(sample), SISS, settings, self.detection)()
        return ending, {k: p.detach().clone() for k, p in sample.model.denoiser.trained().items()}

    def bank(self, sample: Sampler) -> Bank:
        return build_bank(sample.model, self.pairs, list(encode_pairs(sample.model, self.pairs)))

    def steps(self) -> list[int]:
        return [s.step for s in self.detection.run.read(STEPS, Step)]


@pytest.fixture
def ready(detected: Path, tmp_path: Path) -> Iterator[Ready]:
    detection = opened(detected, tmp_path / "run")
    with unlearning(detection, keep_variants=0) as entry:
        yield Ready(detection, entry, gather(detection, entry, sampler(detection), SISS, {}))


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_adversarial_steps_follow_and_go_on_after_a_kill(ready: Ready, monkeypatch: pytest.MonkeyPatch) -> None:
    run = ready.detection.run
    _, plain = ready.train(max_train_steps=2)
    clear(run)
    _, whole = ready.train(max_train_steps=2, adversarial_steps=4, checkpointing_steps=2)
    assert [s.step for s in run.read(ADVERSARIAL.steps, Step)] == [1, 2, 3, 4]
    assert ready.steps() == [1, 2] and not same(plain, whole)

    shutil.rmtree(run.path / CHECKPOINTS)
    step = Trainer._take_step

    def killed(self: Trainer) -> Step:
        if self.adversary and self.step == 3:
            raise KeyboardInterrupt
        return step(self)

    monkeypatch.setattr(Trainer, "_take_step", killed)
    with pytest.raises(KeyboardInterrupt):
        ready.train(max_train_steps=2, adversarial_steps=4, checkpointing_steps=2)
    monkeypatch.setattr(Trainer, "_take_step", step)
    _, resumed = ready.train(max_train_steps=2, adversarial_steps=4, checkpointing_steps=2)
    assert [s.step for s in run.read(ADVERSARIAL.steps, Step)] == [1, 2, 3, 4] and same(whole, resumed)


def test_a_training_takes_its_steps_writes_them_down_and_says_so(ready: Ready) -> None:
    run = ready.detection.run
    assert not begun(run)
    ending, trained = ready.train(max_train_steps=3)
    assert ending == Ending(reason="all steps", step=3, taken=3)
    assert ready.steps() == [1, 2, 3] and begun(run)
    assert any(weight.any() for name, weight in trained.items() if "lora_B" in name)
    assert not (run.path / VALIDATIONS).exists() and not (run.path / CHECKPOINTS).exists()
    assert same(trained, ready.train(max_train_steps=3)[1])  # again from the beginning, since there is no checkpoint
    assert ready.steps() == [1, 2, 3]


def test_a_killed_training_goes_on_from_its_checkpoint_to_the_same_weights(
    ready: Ready, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {"max_train_steps": 4, "checkpointing_steps": 2, "checkpoints_total_limit": 2}
    whole = ready.train(**values)
    shutil.rmtree(ready.detection.run.path / CHECKPOINTS / "checkpoint-4")  # as if killed in the step after it
    lines = ready.detection.run.read(STEPS, Step)
    again = ready.train(**values)
    assert again[0] == whole[0] and same(again[1], whole[1])
    assert ready.steps() == [1, 2, 3, 4]
    assert ready.detection.run.read(STEPS, Step)[:2] == lines[:2]  # these were not taken again


def test_validations_are_at_the_beginning_at_their_steps_and_at_the_end(ready: Ready) -> None:
    ending, _ = ready.train(
        max_train_steps=3, validation_steps=2, validation_inference_steps=2, max_broken=1.0, max_drift=99.0,
        clean_validations=99,
    )  # fmt: skip
    found = ready.detection.run.read(VALIDATIONS, Validation)
    assert [v.step for v in found] == [0, 2, 3]
    ids = {p.prompt_id for p in ready.pairs if p.side is Side.FORGET}
    assert all(v.copies.keys() == ids and v.samples == 2 for v in found)
    assert found[0].skew_forget == found[0].skew_keep == 0 != found[-1].skew_forget
    assert (ending.reason, ending.step, ending.taken) == ("all steps", 3, 3)
    assert (ending.copies, ending.samples) == (found[-1].total, 2 * len(ids))
    assert ending.good is (found[-1].total == 0)


def test_a_loss_that_is_no_number_ends_a_training(ready: Ready) -> None:
    wild = {"learning_rate": 1e25, "max_train_steps": 6, "lr_warmup_steps": 0}
    with pytest.raises(MemfixError, match="is not a number"):
        ready.train(**wild)
    validated = {"validation_steps": 100, "validation_inference_steps": 2, "max_broken": 1.0}
    ready.detection.run.write(STEPS, [])
    ending, trained = ready.train(**wild, **validated)
    assert (ending.reason, ending.step) == ("rolled back", 0)
    assert not any(weight.any() for name, weight in trained.items() if "lora_B" in name)  # the original model


CLOSED = {
    "loop": "closed", "max_train_steps": 6, "validation_steps": 2, "validation_inference_steps": 2, "max_broken": 1.0,
    "max_drift": 99.0,
}  # fmt: skip


def test_a_closed_loop_looks_at_targets_until_all_are_forgotten(ready: Ready) -> None:
    ids = {p.prompt_id for p in ready.pairs if p.side is Side.FORGET}
    ending, _ = ready.train(**CLOSED)
    found = ready.detection.run.read(VALIDATIONS, Validation)
    assert found[0].step == 0 and not found[0].copies  # the detection has seen the original weights
    assert [v.step for v in found[:2]] == [0, 2] and found[1].copies.keys() == ids
    assert all(v.diversity == found[0].diversity > 0 for v in found)
    assert ending.targets.keys() == ids
    assert ending.good is (set(ending.targets.values()) == {"forgotten"})
    assert "prompt" in ending.sentence


def test_a_killed_closed_loop_goes_on_to_the_same_weights(ready: Ready, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, step = ready.detection.run.path, Trainer._take_step
    narrow = CLOSED | {"max_drift": 1e-9, "learning_rate": 1e-3}  # so that it goes back after each validation
    whole = ready.train(**narrow)
    lines = (folder / VALIDATIONS).read_text().count("\n")
    assert whole[0].reason == "rolled back" and whole[0].step == 0 and lines == 4
    assert not any(weight.any() for name, weight in whole[1].items() if "lora_B" in name)  # the original model

    shutil.rmtree(folder / CHECKPOINTS)

    def killed(self: Trainer) -> Step:
        if self.step == 3:
            raise KeyboardInterrupt
        return step(self)

    monkeypatch.setattr(Trainer, "_take_step", killed)
    with pytest.raises(KeyboardInterrupt):
        ready.train(**narrow)
    monkeypatch.setattr(Trainer, "_take_step", step)
    rates = [s.learning_rate for s in ready.detection.run.read(STEPS, Step)]
    again = ready.train(**narrow)
    assert again[0] == whole[0] and same(again[1], whole[1])
    assert (folder / VALIDATIONS).read_text().count("\n") == lines
    assert [s.learning_rate for s in ready.detection.run.read(STEPS, Step)][:2] == rates[:2]


def test_a_closed_loop_goes_back_from_numbers_that_are_none(ready: Ready) -> None:
    ending, trained = ready.train(**CLOSED | {"learning_rate": 1e25, "lr_warmup_steps": 0, "max_train_steps": 20})
    assert (ending.reason, ending.step) == ("rolled back", 0) and "NOTHING IS UNLEARNED" in ending.sentence
    assert all(weight.isfinite().all() for weight in trained.values())
    found = ready.detection.run.read(VALIDATIONS, Validation)
    assert all(v.broken_targets == 1 or v.drift > 0 for v in found[1:])


def test_adversarial_steps_in_a_closed_loop_are_validated_under_attack(ready: Ready) -> None:
    run = ready.detection.run
    ending, _ = ready.train(**CLOSED | {"adversarial_steps": 6})
    found = run.read(ADVERSARIAL.validations, Validation)
    assert found[0].step == 0 and found[0].copies.keys() == ending.targets.keys() and found[0].samples in (3, 4)
    assert found[1].samples in (3, 4)  # two plain ones to each under attack, of one kind or both
    assert ending.attacked.keys() == ending.targets.keys()
    shutil.rmtree(run.path / ADVERSARIAL.checkpoints)
    assert ready.train(**CLOSED | {"adversarial_steps": 6})[0] == ending


def test_what_a_training_without_a_step_left_is_cleared(ready: Ready) -> None:
    run = ready.detection.run
    (run.path / CHECKPOINTS / "checkpoint-0").mkdir(parents=True)
    (run.path / APART / "p0001").mkdir(parents=True)
    run.write(VALIDATIONS, [])
    assert not begun(run)
    clear(run)
    assert not any((run.path / name).exists() for name in (CHECKPOINTS, APART, VALIDATIONS))
    clear(run)  # nothing to do is no error


def test_adapters_trained_apart_are_each_their_own_and_the_model_has_all(ready: Ready, model_folder: Path) -> None:
    detection = ready.detection
    sample = sampler(detection)
    entry = ready.entry.model_copy(update={"settings": UnlearnSettings(
        **FEW | {"learning_rate": 0.01, "rank": 2, "adapter_per_prompt": True}
    )})  # fmt: skip
    before = {k: p.detach().clone() for k, p in sample.model.denoiser.module.named_parameters()}
    training = Training(detection.run, sample, ready.bank(sample), SISS, entry.settings, detection)
    folders = training.apart(entry, ready.pairs)
    ids = list(dict.fromkeys(p.prompt_id for p in ready.pairs if p.side is Side.FORGET))
    assert [f.relative_to(detection.run.path).as_posix() for f in folders] == [f"{APART}/{i}/model" for i in ids]
    assert {i: ending.taken for i, ending in entry.endings.items()} == dict.fromkeys(ids, 2)
    assert ready.steps() == list(range(1, 2 * len(ids) + 1)) and begun(detection.run)
    adapters: list[dict[str, Factors]] = [sampler(detection).model.adapters.read(f) for f in folders]
    for name, weight in sample.model.denoiser.module.named_parameters():
        parts = [a[layer] for a in adapters if (layer := name.removesuffix(".weight")) in a]
        if parts and parts[0].down.ndim == 2:
            wanted = sum((f.up @ f.down for f in parts), before[name])
            torch.testing.assert_close(weight, wanted, atol=1e-5, rtol=1e-4)
    written = {f: (f / "pytorch_lora_weights.safetensors").stat().st_mtime_ns for f in folders}
    replace(training, sample=sampler(detection)).apart(entry, ready.pairs)  # nothing is trained again
    assert written == {f: (f / "pytorch_lora_weights.safetensors").stat().st_mtime_ns for f in folders}
    assert all(load_file(f / "pytorch_lora_weights.safetensors") for f in folders)
