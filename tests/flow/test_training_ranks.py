"""`memfix unlearn` started by torchrun: two processes, one run."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file

from memfix import flow
from memfix.config.unlearn import UnlearnSettings
from memfix.console import Talk
from memfix.records import Step
from memfix.run.folder import Run
from tests.detected import as_if_killed, detected_run
from tests.processes import memfix_on_ranks

pytestmark = pytest.mark.slow  # processes that train together

TRAINING = {
    "train_batch_size": 4, "prior_batch_size": 2, "keep_margin": 0.0, "keep_variants": 0, "max_train_steps": 4,
    "learning_rate": 0.01, "checkpointing_steps": 2, "checkpoints_total_limit": 2,
}  # fmt: skip
SHARDED = {
    **TRAINING, "checkpointing_steps": 0, "prior_target": "model", "max_grad_norm": 0.1, "gradient_checkpointing": True,
    "use_ema": True, "weights": "full",
}  # fmt: skip
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", "-m", "memfix"]


def unlearn_together(run: Path, settings: dict = TRAINING, **environment: str) -> str:
    """What two processes say."""
    done = memfix_on_ranks("unlearn", run.name, *flags_of(settings), cwd=run.parent, env=environment)
    assert done.returncode == 0, done.stderr[:6000]
    return done.stderr


def flags_of(settings: dict) -> list[str]:
    flags = []
    for name, value in settings.items():
        flags += ["--full"] if name == "weights" else [f"--{name}"] if value is True else [f"--{name}", str(value)]
    return flags


def adapter(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model/pytorch_lora_weights.safetensors")


@pytest.fixture(scope="module")
def detected(tmp_path_factory: pytest.TempPathFactory, model_folder: Path, reference_folder: Path) -> Path:
    """A run in which some samples of a prompt count as copies and others do not."""
    return detected_run(tmp_path_factory.mktemp("ranks"), model_folder, reference_folder)


@pytest.fixture(scope="module")
def together(detected: Path) -> tuple[Path, str]:
    """The run of two processes that torchrun starts, and what they said."""
    shutil.copytree(detected, folder := detected.parent / "two")
    done = subprocess.run(
        [*TORCHRUN, "unlearn", folder.name, *flags_of(TRAINING)], cwd=folder.parent, capture_output=True, text=True,
        timeout=900, env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "160", "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[:6000]
    return folder, done.stderr


def test_two_ranks_unlearn_as_one_and_write_once(detected: Path, together: tuple[Path, str]) -> None:
    alone = detected.parent / "one"
    shutil.copytree(detected, alone)
    flow.unlearn(Run.open(alone), UnlearnSettings(**TRAINING, gradient_accumulation_steps=2), [], Talk(quiet=True))
    two, told = together
    assert told.count("memfix recheck") == 1
    assert json.loads((two / "run.json").read_text())["status"] == "finished"
    steps = [Run.open(run).read("training.jsonl", Step) for run in (alone, two)]
    assert [s.step for s in steps[1]] == [1, 2, 3, 4]
    assert steps[1][-1].loss_keep == pytest.approx(steps[0][-1].loss_keep, rel=1e-4)
    for key, weight in adapter(alone).items():
        torch.testing.assert_close(adapter(two)[key], weight, rtol=1e-4, atol=1e-4)


def test_ranks_take_adversarial_steps_as_one_and_go_on_from_a_checkpoint_of_them(detected: Path) -> None:
    against = TRAINING | {"max_train_steps": 2, "adversarial_steps": 4}
    alone, two = detected.parent / "one-against", detected.parent / "two-against"
    for run in (alone, two):
        shutil.copytree(detected, run)
    settings = UnlearnSettings(**against, gradient_accumulation_steps=2)
    flow.unlearn(Run.open(alone), settings, [], Talk(quiet=True))
    unlearn_together(two, against)
    steps = [Run.open(run).read("adversarial.jsonl", Step) for run in (alone, two)]
    assert [s.step for s in steps[1]] == [1, 2, 3, 4]
    assert steps[1][-1].loss_forget == pytest.approx(steps[0][-1].loss_forget, rel=1e-3)
    whole = adapter(two)
    for key, weight in adapter(alone).items():
        torch.testing.assert_close(whole[key], weight, rtol=1e-3, atol=1e-3)

    as_if_killed(Run.open(two), "unlearn")
    shutil.rmtree(two / "model")
    shutil.rmtree(two / "checkpoints/adversarial/checkpoint-4")
    unlearn_together(two, against)
    assert all(torch.equal(weight, whole[key]) for key, weight in adapter(two).items())


def test_ranks_go_on_from_a_checkpoint(together: tuple[Path, str]) -> None:
    two, _ = together
    shutil.copytree(two, cut := two.parent / "cut")
    as_if_killed(Run.open(cut), "unlearn")
    shutil.rmtree(cut / "model")
    shutil.rmtree(cut / "checkpoints/checkpoint-4")
    assert "continues after step 2" in unlearn_together(cut)
    assert all(torch.equal(weight, adapter(two)[key]) for key, weight in adapter(cut).items())


def test_ranks_that_hold_the_weights_in_parts_unlearn_as_one(detected: Path, model_folder: Path) -> None:
    alone, two = detected.parent / "one-full", detected.parent / "two-full"
    for run in (alone, two):
        shutil.copytree(detected, run)
    flow.unlearn(Run.open(alone), UnlearnSettings(**SHARDED, gradient_accumulation_steps=2), [], Talk(quiet=True))
    told = unlearn_together(two, SHARDED, ACCELERATE_USE_FSDP="true")
    assert told.count("memfix recheck") == 1
    assert json.loads((two / "run.json").read_text())["status"] == "finished"
    steps = [Run.open(run).read("training.jsonl", Step) for run in (alone, two)]
    for own, wanted in zip(steps[1], steps[0], strict=True):
        for name in ("loss_keep", "loss_forget", "norm_keep", "norm_forget"):
            assert getattr(own, name) == pytest.approx(getattr(wanted, name), rel=1e-3)
    before, wanted, found = (
        StableDiffusionPipeline.from_pretrained(folder).unet
        for folder in (model_folder, alone / "model", two / "model")
    )
    assert found.config["_class_name"] == "UNet2DConditionModel"
    assert found.state_dict().keys() == before.state_dict().keys()
    for key, weight in wanted.state_dict().items():
        torch.testing.assert_close(found.state_dict()[key], weight, rtol=1e-4, atol=1e-4)
    moved = [not torch.equal(weight, before.state_dict()[key]) for key, weight in found.state_dict().items()]
    assert sum(moved) > 0.9 * len(moved)


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ((), "FSDP is for full weights"),
        (
            ("--full", "--validation-steps", "2"),
            "--validation-steps: this cannot be used with weights that FSDP shards",
        ),
    ],
    ids=["lora", "looks"],
)
def test_what_weights_in_parts_cannot_do_is_refused_before_anything_is_sampled(
    detected: Path, flags: tuple[str, ...], reason: str
) -> None:
    fsdp = {"ACCELERATE_USE_FSDP": "true"}
    done = memfix_on_ranks("unlearn", detected.name, *flags, cwd=detected.parent, env=fsdp)
    assert done.returncode == 2
    assert done.stderr.count(reason) == 2  # each rank says so
    assert not (detected / "pairs.jsonl").exists()


def test_processes_that_accelerate_did_not_start_are_missed(detected: Path) -> None:
    """On CPUs accelerate starts one process whatever it is asked for."""
    shutil.copytree(detected, run := detected.parent / "cpu")
    done = subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "-m", "memfix",
         "unlearn", run.name, *flags_of(TRAINING | {"max_train_steps": 1})],
        cwd=run.parent, capture_output=True, text=True, timeout=500, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[:6000]
    assert "torchrun" in done.stderr
