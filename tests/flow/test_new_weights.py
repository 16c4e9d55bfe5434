"""Which weights a re-check takes, and what else is on the model: on a tiny pipeline, with an adapter below."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from memfix import flow
from memfix.config.checks import RecheckSettings
from memfix.config.unlearn import UnlearnSettings
from memfix.console import Talk
from memfix.flow.detection import Detection
from memfix.flow.new_weights import NewWeights
from memfix.models import loading, lora
from memfix.models.model import DiffusionModel
from memfix.run.folder import Run
from tests.detected import FEW, detected_run

QUIET = Talk(quiet=True)


def adapter(model: Path, folder: Path, size: float) -> Path:
    """A LoRA that changes every layer."""
    loaded = loading.load(loading.locate(str(model)))
    loaded.adapters.add(2, seed=round(1000 * size))
    with torch.no_grad():
        for name, weight in loaded.denoiser.trained().items():
            if "lora_B" in name:
                weight.fill_(size)
    loaded.adapters.save(folder)
    return folder


@pytest.fixture(scope="module")
def unlearned(tmp_path_factory: pytest.TempPathFactory, model_folder: Path, reference_folder: Path) -> Path:
    """A run whose model had an adapter, one more of which was trained for each memorized prompt."""
    folder = tmp_path_factory.mktemp("below")
    below = adapter(model_folder, folder / "below", 0.02)
    path = detected_run(folder, model_folder, reference_folder, adapter=(str(below),))
    settings = UnlearnSettings(**FEW, rank=2, reword=False, adapter_per_prompt=True)
    flow.unlearn(Run.open(path), settings, [], QUIET)
    return path


def weights(model: DiffusionModel) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.denoiser.module.parameters()])


def test_the_runs_own_adapter_holds_the_one_below_wherever_it_lies(unlearned: Path, tmp_path: Path) -> None:
    run = Run.open(Path(shutil.copytree(unlearned, tmp_path / "run")))
    detection, copy = Detection.of(run), Path(shutil.copytree(unlearned / "model", tmp_path / "copy"))
    with safe_open(lora.file_of(copy), "pt") as file:
        assert detection.stage.inputs.adapter_sha256 in file.metadata()[lora.HELD].split()
    assert NewWeights.of(run).below(detection) == []
    elsewhere = NewWeights.of(run, [copy])
    run.discard("unlearn")  # nothing but the file itself says what it holds
    assert elsewhere.below(detection) == []
    bare, own = detection.model(), elsewhere.load(detection, QUIET)
    assert not torch.equal(weights(bare), weights(own))


def test_other_weights_do_not_take_away_what_the_model_had(
    unlearned: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Otherwise a memory that came with the adapter would be called mitigated by weights that know nothing of it."""
    run = Run.open(unlearned)
    detection, other = Detection.of(run), adapter(model_folder, tmp_path / "other", 0.05)
    below = Path(detection.settings.adapter[0])
    assert NewWeights.of(run, [other]).below(detection) == [lora.Adapter(below)]
    wanted = loading.load(loading.locate(str(model_folder)))
    wanted.adapters.fuse(below, other)
    assert torch.equal(weights(NewWeights.of(run, [other]).load(detection, Talk())), weights(wanted))
    assert "is put on the model as well" in " ".join(capsys.readouterr().err.split())

    whole = loading.load(loading.locate(str(model_folder)))
    whole.adapters.fuse(other)
    whole.save(tmp_path / "whole")
    given = NewWeights.of(run, model=tmp_path / "whole")
    torch.testing.assert_close(weights(given.load(detection, QUIET)), weights(wanted))


def test_a_part_that_was_trained_for_one_prompt_is_put_on_the_adapter_below(unlearned: Path) -> None:
    run = Run.open(unlearned)
    detection, part = Detection.of(run), next((unlearned / "adapters").iterdir()) / "model"
    assert NewWeights.of(run, [part]).below(detection) == [lora.Adapter.named(detection.settings.adapter[0])]


def test_a_merged_adapter_is_not_put_on_the_one_that_it_holds(
    unlearned: Path, model_folder: Path, tmp_path: Path
) -> None:
    """Twice as strong, what a model has learned by heart is another picture or none: no copy, and nothing erased."""
    run = Run.open(unlearned)
    detection, other = Detection.of(run), adapter(model_folder, tmp_path / "other", 0.05)
    below = Path(detection.settings.adapter[0])
    loading.load(loading.locate(str(model_folder))).adapters.save_sum(tmp_path / "both", [below, other])
    for again in ("both", "more"):  # also through a further merge
        given = NewWeights.of(run, [tmp_path / again])
        assert given.below(detection) == []
        loaded = loading.load(loading.locate(str(model_folder)))
        loaded.adapters.save_sum(tmp_path / "more", [tmp_path / "both", other])
    assert NewWeights.of(run, [below]).below(detection) == []  # it is that one itself
    wanted = loading.load(loading.locate(str(model_folder)))
    wanted.adapters.fuse(below, other)
    torch.testing.assert_close(
        weights(NewWeights.of(run, [tmp_path / "both"]).load(detection, QUIET)), weights(wanted), atol=1e-5, rtol=1e-4
    )


def test_another_model_draws_at_the_size_of_the_detection(unlearned: Path, model_folder: Path, tmp_path: Path) -> None:
    """A fine-tune that was saved with a larger size of its own is asked at the one at which its base copied."""
    larger = Path(shutil.copytree(model_folder, tmp_path / "larger"))
    config = json.loads((larger / "unet/config.json").read_text())
    (larger / "unet/config.json").write_text(json.dumps(config | {"sample_size": 2 * config["sample_size"]}))
    detection = Detection.of(Run.open(unlearned))
    drawn = detection.asked_model().latents.picture_size
    assert loading.load(loading.locate(str(larger))).latents.picture_size == (2 * drawn[0], 2 * drawn[1])
    assert NewWeights.of(detection.run, model=larger).load(detection, QUIET).latents.picture_size == drawn


def test_a_lora_that_was_distilled_to_few_steps_is_warned_of(
    unlearned: Path, model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in detection, whose steps are taken again; of the run's own weights nothing more is said."""
    run = Run.open(unlearned)
    detection = Detection.of(run)
    NewWeights.of(run).load(detection, Talk())
    assert "distilled" not in capsys.readouterr().err
    given = adapter(model_folder, tmp_path / "lcm-lora-sdv1-5", 0.05)
    NewWeights.of(run, [given]).load(detection, Talk())
    assert "distilled to be sampled in few steps (lcm)" in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
def test_the_doubt_of_a_recheck_is_kept_and_counts_as_one_of_the_run(
    unlearned: Path, model_folder: Path, tmp_path: Path
) -> None:
    """The headline, the card and --fail-on ask the run."""
    run = Run.open(Path(shutil.copytree(unlearned, tmp_path / "run")))
    before = run.header.stages.doubt
    weights = NewWeights.of(run, [adapter(model_folder, tmp_path / "lcm-lora-sdv1-5", 0.05)])
    flow.recheck(run, RecheckSettings(num_fresh=1, attacks="none"), [], QUIET, weights)
    stages = Run.open(run.path).header.stages
    assert stages.recheck is not None and "(lcm)" in stages.recheck.weights_doubt
    assert "(lcm)" not in before and stages.recheck.weights_doubt in stages.doubt
