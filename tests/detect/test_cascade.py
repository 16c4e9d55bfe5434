"""The screen of a detection: what a killed run has scored is not scored again."""

import json
import shutil
from pathlib import Path

import pytest

from memfix.config.checks import DetectSettings
from memfix.console import Talk
from memfix.detect.cascade import screen_first
from memfix.errors import MemfixError
from memfix.models import loading
from memfix.models.model import DiffusionModel
from memfix.records import Prompt, Role
from memfix.run.folder import Run

SETTINGS = DetectSettings(
    screen="fine_detail", screen_seeds=2, num_inference_steps=3, batch_size=8, mixed_precision="no", audit=0
)
PROMPTS = [
    Prompt(id=f"{role.value[0]}{i:04}", text=f"{role.value} {i}", source=f"list:{i}", role=role)
    for role in Role for i in range(30)
]  # fmt: skip


@pytest.fixture(scope="module")
def model(model_folder: Path) -> DiffusionModel:
    return loading.load(loading.locate(str(model_folder)))


@pytest.fixture
def evaluated(model: DiffusionModel):
    """How many latents the UNet has seen."""
    seen: list[int] = []
    handle = model.denoiser.module.register_forward_pre_hook(lambda _, arguments: seen.append(len(arguments[0])))
    yield seen
    handle.remove()


@pytest.mark.slow
def test_a_screen_that_was_killed_goes_on(model: DiffusionModel, evaluated: list[int], tmp_path: Path) -> None:
    talk, run = Talk(quiet=True), Run.create(tmp_path / "whole")
    skipping = screen_first(run, "before", model, PROMPTS, SETTINGS, talk)
    file = run.path / "before/screens.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    assert [json.loads(line)["number"] for line in lines] == list(range(1, 61))
    assert [json.loads(line)["text"] for line in lines] == [p.text for p in PROMPTS]
    assert sum(evaluated) == 60 * 2 * 2  # seeds, with the prompt and without

    # 60 prompts in batches of 4: the kill came in the middle of writing the 31st line, the third of the eighth batch
    killed = shutil.copytree(run.path, tmp_path / "killed")
    (killed / "before/screens.jsonl").write_text("".join(lines[:30]) + lines[30][:20])
    evaluated.clear()
    assert screen_first(Run.open(killed), "before", model, PROMPTS, SETTINGS, talk) == skipping
    assert sum(evaluated) == 32 * 2 * 2  # from the first prompt of the eighth batch, 28, to the last
    assert (killed / "before/screens.jsonl").read_bytes() == file.read_bytes()

    evaluated.clear()
    assert screen_first(run, "before", model, PROMPTS, SETTINGS, talk) == skipping
    assert not evaluated


def test_a_score_that_is_no_number_is_not_written(model: DiffusionModel, tmp_path: Path) -> None:
    run, weight = Run.create(tmp_path / "run"), model.denoiser.module.conv_out.bias
    kept = weight.data.clone()
    weight.data.fill_(float("nan"))
    with pytest.raises(MemfixError, match="list:0: screen 'fine_detail' gives nan"):
        screen_first(run, "before", model, PROMPTS, SETTINGS, Talk(quiet=True))
    weight.data.copy_(kept)
    assert not (run.path / "before/screens.jsonl").exists()
