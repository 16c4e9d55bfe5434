"""The sentence at the top of a report: no good word for a model that is no good."""

from pathlib import Path
from typing import Any, Literal

import pytest

from memfix.config.checks import DetectSettings, RecheckSettings
from memfix.config.unlearn import UnlearnSettings
from memfix.report import card
from memfix.report.html import headline, template_environment
from memfix.report.schema import Report, ReportedRun, ReportedTraining, Summary
from memfix.run.header import DetectStage, RecheckStage, Stages, UnlearnStage
from memfix.run.inputs import DetectInputs, RecheckInputs, UnlearnInputs

DETECTED = {
    "mitigated": None, "controls_changed": None, "memorized_before": 0, "prompts": 300, "clean_before": 298,
    "clean_sampled": 298, "undecided_before": 2,
}  # fmt: skip
SCREENED = DETECTED | {"clean_sampled": 80, "not_sampled": 218, "undecided_before": 0, "clean_before": 298}


def report(unlearned: bool = True, **numbers: Any) -> Report:
    """A finished run with 4 memorized prompts of 10, all mitigated, and 20 controls, none of them changed."""
    values = dict.fromkeys(Summary.model_fields, 0) | {"mitigation_rate_interval": (0.4, 1.0), "prompts": 10}
    values |= {"memorized_before": 4, "mitigated": 4, "controls": 20, "attacks": 3, **numbers}
    return Report(
        run=run_of("demo", unlearned), summary=Summary(**values), prompts=[], controls=[], training=None,
        timings={}, environment=None,
    )  # fmt: skip


def run_of(model: str, unlearned: bool, unlearn: UnlearnStage | None = None) -> ReportedRun:
    """A run with nothing but a detection on a model, and the unlearning that is given."""
    inputs = DetectInputs(
        prompts="0", model_sha256="0", model_config_sha256="0", references=None, index=None, measure="0"
    )
    detect = DetectStage(settings=DetectSettings(model=model), inputs=inputs, loaded_by="SomePipeline")
    return ReportedRun(
        name="r", created="2026-01-01T00:00:00+00:00", status="finished",
        stages=Stages(detect=detect, unlearn=unlearn), unlearned=unlearned, rechecked=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("numbers", "tone", "words"),
    [
        ({}, "good", "All 4 memorized prompts are mitigated."),
        ({"controls_changed": 3}, "warn", "4 of 4 memorized prompts are mitigated, but there are problems."),
        ({"controls_changed": 11}, "bad", "Most prompts that must not change now draw other pictures"),
        (
            {"mitigated": 3, "persistent": 1, "controls_changed": 11},
            "bad",
            "1 of 4 memorized prompts still reproduces a",
        ),
        ({"mitigated": 2, "persistent": 2}, "bad", "2 of 4 memorized prompts still reproduce a training image."),
        ({"memorized_before": 1, "mitigated": 1}, "good", "The one memorized prompt is mitigated."),
        ({"mitigated": 3, "undecided": 1}, "warn", "3 of 4 memorized prompts are mitigated, but there are problems."),
        ({"mitigated": 3, "damaged": 1}, "bad", "The model is damaged"),
        ({"newly_memorized": 1}, "bad", "1 prompt that gave no copies before now reproduces a training image."),
        ({"harmed": 2}, "bad", "2 prompts that must not change are damaged."),
        ({"mitigated": 3, "hidden": 1, "damaged": 1}, "bad", "1 of 4 memorized prompts is only hidden"),
        ({"mitigated": 2, "hidden": 1, "persistent": 1}, "bad", "1 of 4 memorized prompts still reproduces"),
    ],
)
def test_what_is_said_first(numbers: dict[str, Any], tone: str, words: str) -> None:
    found, text, basis = headline(report(**numbers))
    assert (found, text[: len(words)]) == (tone, words)
    assert f"{20 - numbers.get('controls_changed', 0)} of 20 controls are unchanged" in basis


def test_without_controls_nothing_is_all_good() -> None:
    tone, text, basis = headline(report(controls=0))
    assert (tone, text) == ("warn", "All 4 memorized prompts are mitigated.")
    assert "nothing shows that the rest is unharmed" in basis


def test_without_attacks_nothing_is_all_good() -> None:
    tone, _, basis = headline(report(attacks=0))
    assert tone == "warn" and "No attack was made" in basis


def test_an_attack_that_was_trained_against_proves_little() -> None:
    tone, _, basis = headline(report(attacks=1, known_attacks=1))
    assert tone == "warn" and "trained against" in basis
    tone, _, basis = headline(report(attacks=2, known_attacks=1))
    assert tone == "good" and "trained against" not in basis


def test_a_rewording_is_told_beside_the_finding() -> None:
    tone, _, basis = headline(report(reworded=3))
    assert tone == "good" and "3 of 4 mitigated prompts now read like a shorter wording." in basis


@pytest.mark.parametrize(
    ("numbers", "tone", "words"),
    [
        (DETECTED, "warn", "298 clean, 2 undecided. Draw more samples: give a higher --num-samples"),
        (SCREENED, "warn", "80 clean, 218 not sampled (clean by estimate of a screen). Nothing"),
        (SCREENED | {"memorized_before": 2}, "bad", "80 clean, 218 not sampled (clean by estimate of a screen). Noth"),
    ],
)
def test_what_was_not_sampled_is_counted_apart(numbers: dict[str, Any], tone: str, words: str) -> None:
    found, _, basis = headline(report(unlearned=False, **numbers))
    assert (found, basis[: len(words)]) == (tone, words)


@pytest.mark.parametrize(
    ("unlearned", "numbers", "words"),
    [
        (False, DETECTED | {"undecided_before": 0}, "This says little. Drawn in 1 step. Nothing was unlearned."),
        (False, SCREENED, "This says little. Drawn in 1 step. 80 clean, 218 not sampled"),
        (True, {"controls_changed": 0}, "Drawn in 1 step."),
    ],
)
def test_no_good_word_for_samples_that_no_user_draws(unlearned: bool, numbers: dict[str, Any], words: str) -> None:
    doubted = report(unlearned=unlearned, **numbers)
    assert doubted.run.stages.detect
    doubted.run.stages.detect.sampling_doubt = "Drawn in 1 step."
    tone, _, basis = headline(doubted)
    assert tone == "warn" and words in basis


def test_what_is_known_to_copy_besides_the_list_is_a_problem() -> None:
    """All that was asked for may be mitigated while the tool itself has seen other prompts copy."""
    found = report(controls_changed=0)
    settings, seen = UnlearnSettings(), {"owl by b": "owl.png"}
    found.run.stages.unlearn = UnlearnStage(settings=settings, inputs=UnlearnInputs(), copied_besides=seen)
    tone, text, basis = headline(found)
    assert (tone, text) == ("warn", "4 of 4 memorized prompts are mitigated, but there are problems.")
    assert basis.startswith("1 prompt outside the list gave copies before and is not unlearned. ")


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        (DETECTED, "This says little. Drawn in 1 step. 298 clean, 2 undecided."),
        (DETECTED | {"disputed": 1}, "This says little. Drawn in 1 step. 298 clean, 2 undecided. 1 sample is disputed"),
        (DETECTED | {"memorized_before": 2}, "298 clean, 2 undecided. Clean says little here. Drawn in 1 step."),
    ],
)
def test_a_doubt_is_told_beside_every_finding_of_a_detection(numbers: dict[str, Any], words: str) -> None:
    doubted = report(unlearned=False, **numbers)
    assert doubted.run.stages.detect
    doubted.run.stages.detect.sampling_doubt = "Drawn in 1 step."
    assert headline(doubted)[2].startswith(words)


def test_card_says_what_else_is_known(tmp_path: Path) -> None:
    """Samples that no user draws prove little, and prompts outside the list may copy still."""
    text = card_of(tmp_path, "folder/model", "lora", mitigated=4)
    assert "say little" not in text and "outside the list" not in text
    seen = {"owl by\nb": "owl.png", "cat": "cat.png"}
    text = card_of(tmp_path, "folder/model", "lora", doubt="Drawn in 1 step.", besides=seen, mitigated=4)
    assert "\n**Clean and mitigated say little here.** Drawn in 1 step.\n" in text
    assert "\n**2 prompts outside the list gave copies before and are not unlearned:**\n" in text
    assert "\n- “owl by b”\n- “cat”\n" in text
    text = card_of(tmp_path, "folder/model", "lora", besides=seen)  # not re-checked
    assert "outside the list" in text


def test_what_was_not_sampled_is_named_after_unlearning_too() -> None:
    basis = headline(report(**SCREENED | {"memorized_before": 2, "mitigated": 2, "controls_changed": 0}))[2]
    assert "218 of 300 prompts were sampled neither before nor after: clean by estimate of a screen." in basis


@pytest.mark.parametrize(
    ("prompts", "memorized", "words"),
    [
        (1, 1, "1 of 1 prompt reproduces a training image."),
        (9, 1, "1 of 9 prompts reproduces a training image."),
        (9, 2, "2 of 9 prompts reproduce a training image."),
    ],
)
def test_one_prompt_is_no_prompts(prompts: int, memorized: int, words: str) -> None:
    found = report(unlearned=False, prompts=prompts, memorized_before=memorized, mitigated=None)
    assert headline(found)[1] == words


def test_hidden_characters_are_shown_on_the_page() -> None:
    template = template_environment().from_string("<b title='{{ x }}'>{{ x }}</b>")
    assert template.render(x="a<\u202eb\x1b") == "<b title='a&lt;\\u202eb\ufffd'>a&lt;\\u202eb\ufffd</b>"


@pytest.mark.parametrize("weights", ["lora", "full"])
def test_card_says_what_loads_the_weights(tmp_path: Path, weights: Literal["lora", "full"]) -> None:
    text = card_of(tmp_path, "folder/model", weights)
    assert "from diffusers import SomePipeline\n" in text
    folder = "folder/model" if weights == "lora" else "path/to/this/folder"
    assert f'pipe = SomePipeline.from_pretrained("{folder}")\n' in text
    assert ("load_lora_weights" in text) == (weights == "lora")


@pytest.mark.parametrize(
    ("model", "line"),
    [("demo", "pipe = SomePipeline.from_pretrained(MODEL)"),
     ("a/model.safetensors", 'pipe = SomePipeline.from_single_file("a/model.safetensors")')],
)  # fmt: skip
def test_card_loads_the_bundled_model_and_single_files(tmp_path: Path, model: str, line: str) -> None:
    text = card_of(tmp_path, model, "lora")
    code = text.split("```python\n")[1].split("```")[0]
    assert f"\n{line}\n" in code and ("\nfrom memfix.demo import MODEL\n" in code) == (model == "demo")
    compile(code, "card", "exec")


def test_hidden_characters_are_shown_on_the_card(tmp_path: Path) -> None:
    text = card_of(tmp_path, "a\u202eb`", "full")
    assert "from `a\\u202eb'`" in text and "\u202e" not in text and "\n1 prompt from" in text


def card_of(
    folder: Path, model: str, weights: Literal["lora", "full"], doubt: str = "",
    besides: dict[str, str] | None = None, mitigated: int | None = None,
) -> str:  # fmt: skip
    """The model card of a run, which was not re-checked where nothing is said of mitigated prompts."""
    settings = UnlearnSettings(weights=weights, method="siss")
    run = run_of(model, True, UnlearnStage(settings=settings, inputs=UnlearnInputs(), copied_besides=besides or {}))
    assert run.stages.detect
    run.stages.detect.sampling_doubt = doubt
    if mitigated is not None:
        run.stages.recheck = RecheckStage(settings=RecheckSettings(), inputs=RecheckInputs(weights_sha256="0"))
    training = ReportedTraining(
        settings=settings, steps=1, seconds=1, targets=1, pairs={}, kinds=[], rewordings=[], ending=None, endings=[],
        validations=[], loss_keep=[1], loss_forget=[1],
    )  # fmt: skip
    found = report(mitigated=mitigated).model_copy(update={"run": run, "training": training})
    return card.write_card(folder, found, rechecked=True).read_text(encoding="utf-8")
