"""Where the GPU runs out of memory less is computed at once, and where one item is too much the user is told."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from PIL import Image
from typer.testing import CliRunner

from memfix.cli import app

SAMPLING = ["--num-samples", "2", "--num-inference-steps", "1", "--mixed-precision", "no", "--measure", "ssim", "-q"]

PASSES = 4  # through the network, of which the first two ask what it predicts


@pytest.fixture
def small_gpu() -> Iterator[dict[str, int]]:
    """A network whose memory is used up by more than so many items at once, or while it is trained."""
    limit = {"items": 10**6, "trained": 10**6}

    def check(module: torch.nn.Module, args: tuple) -> None:
        most = limit["trained" if torch.is_grad_enabled() else "items"]
        if isinstance(module, UNet2DConditionModel) and len(args[0]) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity …")

    hook = torch.nn.modules.module.register_module_forward_pre_hook(check)
    yield limit
    hook.remove()


def memfix(*args: object, code: int) -> str:
    done = CliRunner().invoke(app, [*map(str, args)])
    assert done.exit_code == code, done.output
    return " ".join(done.stderr.split())


@pytest.fixture
def detection(tmp_path: Path, model_folder: Path, reference_folder: Path) -> list[object]:
    (tmp_path / "prompts.txt").write_text("disc\ncat\n")
    return ["detect", tmp_path / "prompts.txt", "-m", model_folder, "--references", reference_folder, *SAMPLING]


def status(run: Path) -> str:
    return json.loads((run / "run.json").read_text())["status"]


def test_a_detection(tmp_path: Path, detection: list[object], small_gpu: dict[str, int]) -> None:
    small_gpu["items"] = 1
    said = memfix(*detection, "--batch-size", 4, "-o", tmp_path / "run", code=1)  # with and without the prompt: 2 items
    assert "The GPU ran out of memory in the detection (2.50 GiB more were asked for)." in said
    assert "Give --mixed-precision fp16 or bf16." in said
    assert "Traceback" not in said
    assert status(tmp_path / "run") == "failed"


def test_a_batch_that_memory_does_not_hold_is_sampled_in_parts(
    tmp_path: Path, detection: list[object], small_gpu: dict[str, int]
) -> None:
    memfix(*detection, "--batch-size", 4, "-o", tmp_path / "whole", code=0)
    small_gpu["items"] = 4
    memfix(*detection, "--batch-size", 4, "-o", tmp_path / "parts", code=0)
    whole, parts = (sorted((tmp_path / run / "before").glob("*.png")) for run in ("whole", "parts"))
    assert [p.name for p in whole] == [p.name for p in parts] and len(whole) == 4
    for a, b in zip(whole, parts, strict=True):
        difference = np.asarray(Image.open(a), np.int16) - np.asarray(Image.open(b), np.int16)
        assert abs(difference).max() <= 2


def test_samples_that_are_finished_stay(tmp_path: Path, detection: list[object], small_gpu: dict[str, int]) -> None:
    """Memory that runs out in mid-run, as where another program takes it, loses the batch that was being drawn."""
    one_by_one = [*detection, "--batch-size", 1, "-o", tmp_path / "run"]
    passes = 0

    def take_memory(module: torch.nn.Module, *_: object) -> None:
        nonlocal passes
        passes += isinstance(module, UNet2DConditionModel)
        if passes == PASSES:
            small_gpu["items"] = 1

    hook = torch.nn.modules.module.register_module_forward_hook(take_memory)
    memfix(*one_by_one, code=1)
    hook.remove()
    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "run/before").glob("*.png")}
    assert 0 < len(kept) < 4
    small_gpu["items"] = 10**6
    memfix(*one_by_one, code=0)
    assert len(list((tmp_path / "run/before").glob("*.png"))) == 4
    assert {file: file.stat().st_mtime_ns for file in kept} == kept


@pytest.mark.slow
def test_a_training_and_a_recheck(tmp_path: Path, detection: list[object], small_gpu: dict[str, int]) -> None:
    run = tmp_path / "run"
    memfix(*detection, "--batch-size", 4, "--threshold", -1, "-o", run, code=0)  # so that all samples are copies
    unlearn = ["unlearn", run, "-q", "--method", "neggrad", "--max-train-steps", 1, "--no-reword"]
    small_gpu["trained"] = 0
    said = memfix(*unlearn, "--train-batch-size", 8, code=1)
    assert "The GPU ran out of memory in a training step" in said
    assert "--gradient-checkpointing" not in said  # which was tried
    assert "take a larger one" in said
    assert "8bit" not in said  # a LoRA has next to no optimizer state
    small_gpu["trained"] = small_gpu["items"] = 2
    said = memfix(*[word for word in unlearn if word != "-q"], "--train-batch-size", 8, code=0)
    assert "each pass of a step was split into parts of at most 2 items. That takes up to a third longer" in said
    small_gpu["items"] = 1
    said = memfix("recheck", run, "-q", "--num-fresh", 2, code=1)
    assert "The GPU ran out of memory while sampling" in said and "take a larger one" in said


def test_a_screen(tmp_path: Path, detection: list[object], small_gpu: dict[str, int]) -> None:
    small_gpu["items"] = 1
    said = memfix("screen", detection[1], "-m", detection[3], "-q", "-o", tmp_path / "screen", code=1)
    assert "The GPU ran out of memory while screening" in said
    assert "--batch-size (8)" in said
