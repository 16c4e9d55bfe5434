"""What a look sees, on a real pipeline; by hand where it can be."""

from pathlib import Path

import pytest
import torch
from test_trainer import bank_for

from memfix.config.checks import DetectSettings
from memfix.config.unlearn import UnlearnSettings
from memfix.console import Talk
from memfix.measures.copy_rule import CopyRule
from memfix.measures.pixels import TiledL2
from memfix.measures.structure import Structure
from memfix.models import loading, replicas
from memfix.models.model import DiffusionModel
from memfix.models.sampling import plan_samples
from memfix.records import Prompt, Reference, Score
from memfix.references.in_memory import HeldReferences
from memfix.references.judge import Judge
from memfix.unlearn.data.sampler import Sampler
from memfix.unlearn.train.validation import FIRST_SEED, Monitor, skew, spread

TARGET, CONTROL = Prompt(id="p1", text="a"), Prompt(id="c1", text="sky")
DETECTED = DetectSettings(num_samples=4, num_inference_steps=3, batch_size=4, mixed_precision="no")


def score(name: str, detail: float) -> Score:
    return Score(
        file_name=name, prompt_id="p1", seed=0, reference="r.png", measures={}, copy_=False, detail=detail
    )  # fmt: skip


@pytest.fixture
def model(model_folder: Path) -> DiffusionModel:
    return loading.load(loading.locate(str(model_folder)))


def monitor_of(model: DiffusionModel, folder: Path, witness: float | None = None, **values) -> Monitor:
    """The reference is what the model draws for the target from the first look's first seed.

    `witness`: the threshold of structure, which is no witness without one.
    """
    plan = plan_samples([TARGET], [FIRST_SEED], steps=2, guidance=DETECTED.guidance_scale)
    model.sample(plan, "no")[0].save(folder / "r.png")
    rules = [] if witness is None else [CopyRule(Structure(), witness, "test")]
    reference, measures = Reference(file_name="r.png", path=str(folder / "r.png")), [rule.measure for rule in rules]
    references = HeldReferences([reference], TiledL2(), witnesses=measures)
    judge = Judge(references, CopyRule(TiledL2(), 1e-4, "test"), witnesses=rules)
    settings = UnlearnSettings(validation_inference_steps=2, num_validation_images=2, train_batch_size=16, **values)
    sample = Sampler(model, judge, DETECTED, Talk(quiet=True))
    before = [score("a.png", detail=d) for d in (1e-3, 0.5)]
    return Monitor(
        sample, model.denoiser.network("no"), bank_for(model), [TARGET], [CONTROL], before, settings
    )  # fmt: skip


def test_copies_of_the_model_in_training_see_what_it_sees(
    model: DiffusionModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on several GPUs, after weights have moved."""
    monitor = monitor_of(model, tmp_path)
    model.prepare_training("lora", 2, 0, False)
    for weight in model.denoiser.trained().values():
        torch.nn.init.normal_(weight, std=0.3)
    seen = [monitor(3)]
    monkeypatch.setattr(replicas, "places_for", lambda precision: [torch.device("cpu")] * 2)
    seen.append(monitor(3))
    first, second = (v.model_copy(update={"seconds": 0.0}) for v in seen)
    assert first == second and first.drift > 0


@pytest.mark.slow
def test_original_weights_have_not_moved_and_their_copies_are_seen(model: DiffusionModel, tmp_path: Path) -> None:
    monitor = monitor_of(model, tmp_path)
    first = monitor(0)
    assert first.copies == {"p1": 1}  # of two seeds, one is the reference
    assert first.drift == first.skew_keep == first.skew_forget == first.broken == 0
    assert monitor(0).model_copy(update={"seconds": first.seconds}) == first
    assert monitor(7).copies == {"p1": 0}  # other seeds
    assert 0 < first.loss_forget < 10


def test_a_disputed_sample_counts_as_a_copy(model: DiffusionModel, tmp_path: Path) -> None:
    """Nothing may be called forgotten that a witness still sees."""
    assert monitor_of(model, tmp_path, witness=1.01)(7).copies == {"p1": 0}
    assert monitor_of(model, tmp_path, witness=-1.01)(7).copies == {"p1": 2}


def test_only_those_that_are_looked_at_are_sampled(model: DiffusionModel, tmp_path: Path) -> None:
    monitor = monitor_of(model, tmp_path)
    nothing = monitor(0, looked=(), each=1)
    assert (nothing.copies, nothing.drawn, nothing.broken_targets) == ({}, 0, 0.0)
    assert monitor(0, looked=("p1",), each=3).drawn == 3
    assert nothing.diversity > 0 == nothing.drift
    assert monitor.evaluations(2, 3) == (2 * 3 + 1) * 2 * 2  # with the control; two steps, guided


def test_no_two_samples_share_their_noise(model: DiffusionModel, tmp_path: Path) -> None:
    monitor = monitor_of(model, tmp_path)
    _, scores = monitor._draw([TARGET, CONTROL], 2, 4)
    assert [s.seed - FIRST_SEED for s in scores] == [4, 5, 6, 7]


@pytest.mark.slow
def test_a_changed_model_is_seen_to_have_changed(model: DiffusionModel, tmp_path: Path) -> None:
    model.adapters.add(2)
    monitor = monitor_of(model, tmp_path)
    assert monitor(0).drift == 0  # a fresh adapter changes nothing
    with torch.no_grad():
        for name, parameter in model.denoiser.trained().items():
            if "lora_B" in name:
                parameter.add_(0.5)
    validation = monitor(0)
    assert validation.copies == {"p1": 0}
    assert validation.drift > 0
    assert validation.skew_keep != 0 != validation.skew_forget


def test_pictures_outside_the_range_of_detail_are_broken(model: DiffusionModel, tmp_path: Path) -> None:
    monitor = monitor_of(model, tmp_path)
    monitor._range = (0.9, 1.0)
    validation = monitor(0)
    assert validation.broken == validation.broken_targets == 1
    assert validation.shapeless == {"p1": 2}


def test_skew_by_hand() -> None:
    assert skew(torch.tensor([0.1, 0.2]), torch.tensor([0.3, 0.2])).tolist() == pytest.approx([0.2 / 0.401, 0])


def test_prompts_are_taken_from_all_over_the_list() -> None:
    prompts = [Prompt(id=str(i), text="") for i in range(7)]
    assert [p.id for p in spread(prompts, 3)] == ["0", "3", "6"]
    assert spread(prompts, 9) == prompts
    assert spread([], 3) == []
