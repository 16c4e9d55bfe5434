"""The new weights of a run for other tools: all of them answer as the run's own do."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file

from memfix import flow
from memfix.config.unlearn import UnlearnSettings
from memfix.console import Talk
from memfix.errors import MemfixError
from memfix.flow.detection import Detection
from memfix.flow.new_weights import NewWeights
from memfix.models import loading, single_file
from memfix.run.folder import Run
from tests.conftest import tiny_pipeline, tiny_xl
from tests.detected import FEW, detected_run
from tests.original_layout import original_state, save_original
from tests.processes import memfix

QUIET = Talk(quiet=True)


def unlearned(folder: Path, model: Path, references: Path, weights: str = "lora", dora: bool = False) -> Run:
    path = detected_run(folder, model, references)
    settings = UnlearnSettings(**FEW, rank=2, reword=False, weights=weights, use_dora=dora, learning_rate=0.01)
    flow.unlearn(Run.open(path), settings, [], QUIET)
    return Run.open(path)


def new_weights(run: Run) -> dict[str, torch.Tensor]:
    model = NewWeights.of(run).load(Detection.of(run), QUIET)
    return dict(model.denoiser.module.state_dict())


def alike(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor], rtol: float = 1e-5) -> None:
    assert found.keys() == wanted.keys()
    for name, weight in wanted.items():
        torch.testing.assert_close(found[name].float(), weight, atol=1e-6, rtol=rtol)


@pytest.fixture(scope="module")
def guarded(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a safety checker, which nothing here uses."""
    folder = tmp_path_factory.mktemp("guarded") / "model"
    shutil.copytree(model_folder, folder)
    (folder / "safety_checker").mkdir()
    (folder / "safety_checker/config.json").write_text("{}")
    index = json.loads((folder / "model_index.json").read_text())
    index |= {"safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"], "requires_safety_checker": True}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


@pytest.mark.parametrize(("weights", "dora"), [("lora", False), ("lora", True), ("full", False)])
def test_a_whole_pipeline(guarded: Path, reference_folder: Path, tmp_path: Path, weights: str, dora: bool) -> None:
    run = unlearned(tmp_path, guarded, reference_folder, weights, dora)
    flow.export(run, "diffusers", tmp_path / "out", QUIET)
    alone = StableDiffusionPipeline.from_pretrained(tmp_path / "out", safety_checker=None)
    alike(dict(alone.unet.state_dict()), new_weights(run))
    for folder in (tmp_path / "out", *([run.path / "model"] if weights == "full" else [])):
        told = json.loads((folder / "model_index.json").read_text())
        assert told["safety_checker"][1] == "StableDiffusionSafetyChecker" and told["requires_safety_checker"]
        assert (folder / "safety_checker/config.json").is_file()
    with pytest.raises(MemfixError, match="exists already"):
        flow.export(run, "diffusers", tmp_path / "out", QUIET)
    with pytest.raises(MemfixError, match="no single file"):
        flow.export(run, "checkpoint", tmp_path / "m.safetensors", QUIET)
    plain = weights == "lora" and not dora
    assert bool(list((run.path / "model").glob("*.kohya.safetensors"))) == plain
    if plain:
        flow.export(run, "kohya", tmp_path / "k.safetensors", QUIET)
        (own,) = (run.path / "model").glob("*.kohya.safetensors")
        assert own.read_bytes() == (tmp_path / "k.safetensors").read_bytes()
    else:
        with pytest.raises(MemfixError, match="DoRA" if dora else "no LoRA") as caught:
            flow.export(run, "kohya", tmp_path / "k.safetensors", QUIET)
        assert "--format checkpoint" in caught.value.hint


@pytest.mark.parametrize(("weights", "dora"), [("lora", True), ("full", False)])
def test_a_file_in_the_layout_of_the_users_own(
    model_folder: Path,
    reference_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    weights: str,
    dora: bool,
) -> None:
    """The configuration that memfix brings is that of the large models, and here that of the tiny one."""
    shutil.copytree(model_folder, tmp_path / "configs/sd1")
    monkeypatch.setattr(single_file, "CONFIGS", tmp_path / "configs")
    pipe = tiny_pipeline()
    untrained = {"modelspec.prediction_type": "v"}
    own = save_original(pipe, tmp_path / "own.safetensors", untrained)
    run = unlearned(tmp_path, own, reference_folder, weights, dora)
    wanted = new_weights(run)
    donated = Run.open(Path(shutil.copytree(run.path, tmp_path / "donated", ignore=shutil.ignore_patterns(".lock"))))
    with donated.lock(), donated.amending("detect"):
        detected = donated.header.stages.detect
        assert detected
        detected.settings = detected.settings.model_copy(update={"vae": str(model_folder / "vae")})
    with pytest.raises(MemfixError, match="The vae of this run's model is not that of"):
        flow.export(donated, "checkpoint", tmp_path / "new.safetensors", QUIET)
    flow.export(run, "checkpoint", tmp_path / "new.safetensors", QUIET)
    pipe.unet.load_state_dict(wanted)
    alike(load_file(tmp_path / "new.safetensors"), original_state(pipe), rtol=1e-3)
    (tmp_path / "own.safetensors").write_bytes((tmp_path / "new.safetensors").read_bytes())
    with pytest.raises(MemfixError, match="weights of the model changed"):
        flow.export(run, "checkpoint", tmp_path / "again.safetensors", QUIET)


@pytest.mark.parametrize(("weights", "dora"), [("lora", False), ("lora", True), ("full", False)])
def test_a_file_of_xl_in_the_layout_of_the_users_own(
    reference_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: str, dora: bool
) -> None:
    """With both encoders, marks of velocity and zero terminal SNR, as it was; read again, it answers as the run's."""
    pipe = tiny_xl("v_prediction", layers=10)
    pipe.save_pretrained(tmp_path / "configs/xl")
    monkeypatch.setattr(single_file, "CONFIGS", tmp_path / "configs")
    monkeypatch.setattr(single_file, "XL_WIDTH", 16 + 24)
    marks = {"v_pred": torch.ones(1), "ztsnr": torch.ones(1)}
    save_file(original_state(pipe) | marks, tmp_path / "own.safetensors")
    run = unlearned(tmp_path, tmp_path / "own.safetensors", reference_folder, weights, dora)
    wanted = new_weights(run)
    flow.export(run, "checkpoint", tmp_path / "new.safetensors", QUIET)
    pipe.unet.load_state_dict(wanted)
    alike(load_file(tmp_path / "new.safetensors"), original_state(pipe) | marks, rtol=1e-3)
    again = loading.load(loading.locate(str(tmp_path / "new.safetensors")))
    alike(dict(again.denoiser.module.state_dict()), wanted, rtol=1e-3)
    assert again.schedule.prediction_type == "v_prediction"


@pytest.mark.slow
def test_unlearn_leaves_a_copy_where_training_scripts_do(
    model_folder: Path, reference_folder: Path, tmp_path: Path
) -> None:
    run, out = detected_run(tmp_path, model_folder, reference_folder), tmp_path / "out"
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in FEW.items()]
    words = ["unlearn", str(run), "--lora", "--rank=2", *flags, "--output_dir", str(out)]
    assert f"{out} as well." in memfix(*words, cwd=tmp_path).stdout
    made = {file.relative_to(run / "model"): file.read_bytes() for file in (run / "model").rglob("*") if file.is_file()}
    assert {file.relative_to(out): file.read_bytes() for file in out.rglob("*") if file.is_file()} == made
    pipeline = StableDiffusionPipeline.from_pretrained(model_folder)
    pipeline.load_lora_weights(str(out))
    assert pipeline.get_active_adapters()
    assert "exists already" in memfix(*words, cwd=tmp_path, code=2).stderr
