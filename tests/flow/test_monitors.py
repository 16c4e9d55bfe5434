"""What looks at a training are prompts that were clean, and noised training images where these say something."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from PIL import Image

from memfix.config.unlearn import UnlearnSettings
from memfix.flow.detection import Detection
from memfix.flow.monitors import new_monitor, to_be_noised
from memfix.flow.pairs import gather
from memfix.inputs.prompts import id_of
from memfix.records import Prompt, Role
from memfix.unlearn.data.bank import Bank
from memfix.unlearn.data.encode import build_bank, encode_pairs
from memfix.unlearn.objective.methods import get_method
from memfix.unlearn.train.attacked import ToBeNoised
from memfix.unlearn.train.validation import Monitor
from tests.detected import detected_run
from tests.flow.working import opened, sampler, unlearning

SETTINGS = UnlearnSettings(validation_inference_steps=2, num_validation_images=1, train_batch_size=4)
IDS = [id_of("disc")]


@pytest.fixture(scope="module")
def detected(tmp_path_factory: pytest.TempPathFactory, model_folder: Path, reference_folder: Path) -> Path:
    return detected_run(tmp_path_factory.mktemp("looks"), model_folder, reference_folder)


@pytest.fixture
def detection(detected: Path, tmp_path: Path) -> Detection:
    return opened(detected, tmp_path / "run")


def bank_of(detection: Detection, prior_prompts: int = 0) -> Bank:
    with unlearning(detection, keep_variants=0, prior_prompts=prior_prompts) as entry:
        pairs = gather(detection, entry, sampler(detection), get_method("siss"), {})
    model = detection.model()
    return build_bank(model, pairs, list(encode_pairs(model, pairs)))


def monitor_of(detection: Detection, bank: Bank) -> Monitor:
    return new_monitor(detection, sampler(detection), bank, IDS, SETTINGS, "no")


def controls_of(monitor: Monitor) -> list[str]:
    return [p.text for p in monitor._controls]


def test_controls_come_before_prompts_that_a_short_list_was_filled_up_with(detection: Detection) -> None:
    bank, clean = bank_of(detection, prior_prompts=4), detection.verdicts
    held = {text for text, _ in bank.prior if text}
    roles = {p.id: p.role for p in detection.prompts}
    controls = [v for v in clean if roles[v.prompt_id] is Role.CONTROL and v.verdict == "clean"]
    looked = set(controls_of(monitor_of(detection, bank)))
    assert looked == ({v.text for v in controls} if controls else held)
    detection.__dict__["verdicts"] = [v.model_copy(update={"verdict": "undecided"}) for v in clean]
    assert set(controls_of(monitor_of(detection, bank))) <= held and held
    assert controls_of(monitor_of(detection, bank.of(bank.targets))) == controls_of(monitor_of(detection, bank))


def test_noised_images_are_looked_at_unless_clean_ones_are_completed_as_well(
    detection: Detection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the model before training completes any picture, that it completes an erased one says nothing."""
    monitor = monitor_of(detection, bank_of(detection))
    shown = detection.shown[IDS[0]]
    detection.__dict__["scores"] = [s for s in detection.scores if s.shows == shown.file_name or not s.copy_]
    asked: list[list[str]] = []

    def found(*completed: float, captions: float = 0.0) -> ToBeNoised:
        def shares(prompts: Sequence[Prompt], each: int, given: Mapping[str, Image.Image] | None = None):
            asked.append([p.text for p in prompts])
            return dict(enumerate(completed)) if given else {p.id: captions for p in prompts}

        monkeypatch.setattr(monitor, "shares", shares)  # a tiny network cannot be made to complete just some
        return to_be_noised(detection, monitor, IDS, SETTINGS)

    assert found(0, 0.5, 0, 0, 0).pictures.keys() == set(IDS)
    assert asked[0] and shown.text not in asked[0]
    assert found(0, 0.5, 0, 0, 0).forced == 0  # one of five, a fifth of them
    assert found(0, 0.5, 0, 0).forced == 0.5
    assert found(0.625, 0, 0.125, 0, 0.875, 0, 0, 0).forced == 0.625  # a target with 6 of 8 gives more
    assert found(0, 1.0, 1.0, 0, 0) == ToBeNoised()
    assert found(0, captions=0.25) == ToBeNoised()  # what the list does not ask for, and is memorized
    few = SETTINGS.model_copy(update={"validation_inference_steps": 1})
    assert to_be_noised(detection, monitor, IDS, few) == ToBeNoised()


def test_samples_begin_at_the_picture_that_is_given(detection: Detection) -> None:
    """From three quarters of the noise a picture still shows, however it is denoised; from noise alone nothing does."""
    monitor = monitor_of(detection, bank_of(detection))
    prompt = detection.memorized(Role.PROMPT)[0]
    black, white = (Image.new("RGB", (16, 16), colour) for colour in ("black", "white"))
    plain, _ = monitor._draw([prompt], 2, 0)
    one, other = (monitor._draw([prompt], 2, 0, given={prompt.id: image})[0] for image in (black, white))
    assert [a.tobytes() for a in one] != [a.tobytes() for a in other] != [a.tobytes() for a in plain]
    copies, scores = monitor.sampled(3, IDS, 2, given={IDS[0]: black})
    assert copies.keys() == set(IDS) and len(scores) == 2
