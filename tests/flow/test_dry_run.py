"""What unlearning refuses before it samples, what a refusal leaves alone, and what --dry-run tells."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from memfix import flow
from memfix.cli.options import Call
from memfix.cli.show import trained
from memfix.config.unlearn import UnlearnSettings
from memfix.console import Talk
from memfix.errors import MemfixError
from memfix.flow import dry_run
from memfix.models import loading
from memfix.records import Pair, Side, Step, Yield
from memfix.run.folder import Run
from tests.detected import FEW, as_if_killed, detected_run

QUIET = Talk(quiet=True)


@pytest.fixture(scope="module")
def detected(tmp_path_factory: pytest.TempPathFactory, model_folder: Path, reference_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("planning")
    return detected_run(folder, model_folder, reference_folder, prompts="disc of gold\ncat on a mat\n")


@pytest.fixture
def run(detected: Path, tmp_path: Path) -> Run:
    shutil.copytree(detected, tmp_path / "run", ignore=shutil.ignore_patterns(".lock"))
    return Run.open(tmp_path / "run")


def unlearn(run: Run, overwrite: bool = False, given: tuple[str, ...] = (), talk: Talk = QUIET, **values) -> bool:
    return flow.unlearn(run, UnlearnSettings(**FEW | values), [], talk, given, overwrite)


def times(run: Run, name: str) -> dict[str, int]:
    return {p.name: p.stat().st_mtime_ns for p in (run.path / name).iterdir()}


WRONG = [
    ({"method": "sis"}, "Unknown method"),
    ({"method": "retrack", "forget_weight": 2.0}, "a share"),
    ({"timestep_min": 900, "timestep_max": 500}, "No timestep"),
    ({"variant_kinds": "foo"}, "Unknown kind of variant"),
    ({"use_8bit_adam": True}, "bitsandbytes"),
    ({"resume_from_checkpoint": "7"}, "checkpoint"),
    ({"surrogates": "nowhere", "method": "surrogate"}, "no folder of images"),
    ({"adapter_per_prompt": True, "use_dora": True}, "DoRA"),
]


@pytest.mark.parametrize(("values", "message"), WRONG, ids=lambda v: "-".join(v) if isinstance(v, dict) else "")
@pytest.mark.slow
def test_wrong_settings_are_refused_before_anything_is_sampled_stored_or_discarded(
    run: Run, values: dict, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    unlearn(run)
    before = run.path.joinpath("run.json").read_bytes()
    for overwrite in (True, False):
        with pytest.raises(MemfixError, match=message):
            dry_run.outline(run, UnlearnSettings(**FEW | values), overwrite=overwrite)
        with pytest.raises(MemfixError, match=message):
            unlearn(run, overwrite, **values)
    assert run.path.joinpath("run.json").read_bytes() == before
    assert (run.path / "model").exists()
    assert run.read("training.jsonl", Step)


@pytest.mark.slow
def test_a_window_past_the_end_of_the_schedule_is_refused_before_anything_is_sampled_or_discarded(run: Run) -> None:
    late, message = {"timestep_min": 1000, "timestep_max": 1001}, "No timestep lies between 1000 and 1001 of 1000"
    with pytest.raises(MemfixError, match=message):
        unlearn(run, **late)
    assert not (run.path / "pairs.jsonl").exists()
    assert unlearn(run)  # and what was refused binds nothing
    with pytest.raises(MemfixError, match=message):
        unlearn(run, overwrite=True, **late)
    assert (run.path / "model").exists()


def test_a_method_that_lacks_its_data_leaves_what_was_sampled_to_another(run: Run) -> None:
    with pytest.raises(MemfixError, match="a variant of it") as caught:
        unlearn(run, method="anchor", variant_kinds="noise")
    assert "--keep-enough 1000 --variant-kinds shorten" in caught.value.hint
    assert not (run.path / "training.jsonl").exists()
    before = times(run, "variants")
    assert before
    with pytest.raises(MemfixError, match="variant_kinds: 'noise' there, 'guidance' now"):
        unlearn(run, variant_kinds="guidance")
    assert unlearn(run, variant_kinds="noise", learning_rate=0.01, rank=2, method="bounded")
    assert times(run, "variants") == before
    assert run.header.stages.unlearn.settings.method == "bounded"
    with pytest.raises(MemfixError, match="rank: 2 there, 3 now"):
        unlearn(run, variant_kinds="noise", learning_rate=0.01, rank=3, method="bounded")


@pytest.mark.slow
def test_a_step_that_was_taken_holds_all_settings(run: Run) -> None:
    unlearn(run)
    as_if_killed(run, "unlearn")
    shutil.rmtree(run.path / "model")
    with pytest.raises(MemfixError, match=r"learning_rate: None there, 0\.5 now"):
        unlearn(run, learning_rate=0.5)
    (run.path / "training.jsonl").unlink()
    assert unlearn(run, learning_rate=0.5)


@pytest.mark.slow
def test_surrogates_are_made_of_pictures_that_were_sampled_before(run: Run) -> None:
    with pytest.raises(MemfixError, match="a variant of it"):
        unlearn(run, method="anchor", variant_kinds="noise")
    before = times(run, "variants")
    assert unlearn(run, method="surrogate", variant_kinds="noise")
    assert times(run, "variants") == before
    assert all(p.surrogate for p in run.read("pairs.jsonl", Pair) if p.side is Side.FORGET)


@pytest.mark.slow
def test_nothing_is_sampled_that_nobody_looks_at(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert dry_run.outline(run, UnlearnSettings(**FEW, method="neggrad", reword=False))["keep_variants_at_most"] == 0
    assert unlearn(run, method="neggrad", reword=False)
    assert not (run.path / "variants").exists()
    trained(Call(Talk()), run)
    said = "".join(capsys.readouterr())
    assert "forget loss" in said
    assert "keep loss" not in said
    assert unlearn(run, overwrite=True, method="neggrad", keep_enough=1000, reword=True)
    assert {y.kind for y in run.read("yields.jsonl", Yield)} == {"shorten"}  # for rewording
    as_if_killed(run, "unlearn")
    (run.path / "training.jsonl").unlink()
    shutil.rmtree(run.path / "model")
    assert unlearn(run, keep_enough=1000)  # another method needs the others too
    assert len({y.kind for y in run.read("yields.jsonl", Yield)}) > 1


@pytest.mark.slow
def test_an_outline_counts_what_is_done(run: Run) -> None:
    settings = UnlearnSettings(**FEW, rank=2, gradient_accumulation_steps=3)
    told = dry_run.outline(run, settings)
    assert not (run.path / "pairs.jsonl").exists()
    assert told["memorized_prompts"] == 2
    assert (told["passes"], told["items"]) == (6, 6 * (4 + 2))
    assert told["seconds_at_most"] > 0
    assert (told["method"], told["steps"]) == ("siss", 2)
    further = told["further_prior_images_at_most"]
    assert further >= 2 * 22  # 2 pictures of 24 prompts, less what the two controls give
    sampled = (told["keep_variants_at_most"] + further) * 2 * 2  # two denoising steps, with guidance
    assert told["unet_evaluations_at_most"] == sampled + told["items"]
    model = loading.load(loading.locate(run.header.stages.detect.settings.model))
    model.adapters.add(2)
    assert told["trained_weights"] == sum(p.numel() for p in model.denoiser.trained().values())
    unlearn(run, rank=2, gradient_accumulation_steps=3)
    pairs, drawn = run.read("pairs.jsonl", Pair), sum(y.samples for y in run.read("yields.jsonl", Yield))
    assert told["forget_images"] == sum(p.side is Side.FORGET for p in pairs)
    assert told["keep_images"] == sum(p.side is Side.KEEP and p.origin == "sample" for p in pairs)
    assert told["prior_images"] == sum(p.origin == "control" for p in pairs)
    assert 0 < drawn <= told["keep_variants_at_most"]
    assert sum(p.origin == "prior" for p in pairs) <= further


def test_an_outline_counts_adversarial_steps(run: Run) -> None:
    plain, longer = (dry_run.outline(run, UnlearnSettings(**FEW, rank=2, adversarial_steps=n)) for n in (0, 3))
    assert (plain["adversarial_steps"], longer["adversarial_steps"]) == (0, 3)
    assert (plain["passes"], longer["passes"]) == (2, 5)
    more = longer["unet_evaluations_at_most"] - plain["unet_evaluations_at_most"]
    drawn = longer["items"] - plain["items"]
    assert drawn >= 1.5 * plain["items"]  # there are more prior items, where there are any
    assert more == drawn + 3 * 2 * 5  # 2 images to forget a step, 5 moves for each


@pytest.mark.slow
def test_each_adapter_has_its_ending(run: Run) -> None:
    looking = {"validation_steps": 1, "num_validation_images": 1, "validation_inference_steps": 2, "reword": False}
    assert unlearn(run, adapter_per_prompt=True, **looking)
    endings = Run.open(run.path).header.stages.unlearn.endings
    targets = {p.prompt_id for p in run.read("pairs.jsonl", Pair) if p.side is Side.FORGET}
    assert endings.keys() == targets
    assert len(targets) == 2
    for i, ending in endings.items():
        assert ending.taken == len(Run(run.path / "adapters" / i, run.header).read("training.jsonl", Step))
    report = flow.report(run)
    told = json.loads((run.path / "report.json").read_text())["training"]
    assert [e["prompt_id"] for e in told["endings"]] == list(endings)
    assert told["ending"] is None
    assert report
    assert all(e["sentence"] in (run.path / "report.html").read_text() for e in told["endings"])


def test_memory_by_hand(run: Run) -> None:
    """Full weights: 4 bytes a weight of the model; of those trained 4 for the gradient, 8 for AdamW, 4 to combine."""
    pipe = loading.load(loading.locate(run.header.stages.detect.settings.model))._pipe
    unet = sum(p.numel() for p in pipe.unet.parameters())
    rest = sum(p.numel() for module in (pipe.vae, pipe.text_encoder) for p in module.parameters())

    def told(**values) -> int:
        settings = UnlearnSettings(**FEW | {"weights": "full", "prior_target": "picture", **values})
        return dry_run.outline(run, settings)["memory_bytes_without_activations"]

    assert told() == 4 * rest + 20 * unet
    assert told(method="naive") == 4 * rest + 16 * unet
    assert told(method="naive", use_ema=True, prior_target="model") == 4 * rest + 24 * unet


@pytest.mark.slow
def test_what_settings_cannot_come_true_is_told(
    tmp_path: Path, model_folder: Path, reference_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run.open(detected_run(tmp_path, model_folder, reference_folder, controls=False))
    unlearn(run, talk=Talk(), mixture=0.05, prior_prompts=0)
    said = " ".join(capsys.readouterr().err.split())
    assert "cannot hold a mixture of 0.05; 0.25 is drawn" in said
    assert "no prior items" in said
    unlearn(run, overwrite=True, talk=Talk(), mixture=0.5, prior_batch_size=0)
    said = capsys.readouterr().err
    assert "cannot hold" not in said
    assert "no prior items" not in said


def test_settings_that_nobody_looks_at_are_refused_where_the_user_gave_them(run: Run) -> None:
    with pytest.raises(MemfixError, match="'naive' does not use forget_ratio") as caught:
        unlearn(run, given=("forget_ratio",), method="naive", forget_ratio=0.2)
    assert "--method siss" in caught.value.hint
    assert unlearn(run, method="naive", forget_ratio=0.2)  # as a preset would
    assert json.loads((run.path / "run.json").read_text())["status"] == "finished"


@pytest.mark.slow
def test_a_base_in_fp16_files_is_unlearned_in_fp16(tmp_path: Path, model_folder: Path, reference_folder: Path) -> None:
    loading.load(loading.locate(str(model_folder)))._pipe.to(dtype=torch.float16).save_pretrained(tmp_path / "half")
    run = Run.open(detected_run(tmp_path, tmp_path / "half", reference_folder))
    pipe = loading.load(loading.locate(str(tmp_path / "half")))._pipe
    assert {p.dtype for m in (pipe.unet, pipe.vae, pipe.text_encoder) for p in m.parameters()} == {torch.float32}
    assert unlearn(run, mixed_precision="fp16")
    assert all(s.norm_keep > 0 for s in run.read("training.jsonl", Step))
    weights = load_file(run.path / "model/pytorch_lora_weights.safetensors")
    assert {w.dtype for w in weights.values()} == {torch.float32}
    assert all(w.isfinite().all() for w in weights.values())


def test_fp16_is_too_coarse_for_a_prior_on_the_weights(run: Run) -> None:
    with pytest.raises(MemfixError, match="fp16"):
        unlearn(run, mixed_precision="fp16", method="vdu")
    with pytest.raises(MemfixError, match="--saliency"):
        unlearn(run, mixed_precision="fp16", saliency=0.5, weights="full")
    assert run.header.stages.unlearn is None
