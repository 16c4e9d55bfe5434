"""The sentence at the top of a report: no good word for a model that is no good."""

from typing import Any

import pytest

from memfix.report.html import headline
from memfix.report.schema import Report, Summary

DETECTED = {
    "mitigated": None, "controls_changed": None, "memorized_before": 0, "prompts": 300, "clean_before": 298,
    "clean_sampled": 298, "undecided_before": 2,
}  # fmt: skip
SCREENED = DETECTED | {"clean_sampled": 80, "not_sampled": 218, "undecided_before": 0, "clean_before": 298}


def report(unlearned: bool = True, **numbers: Any) -> Report:
    """A finished run with 4 memorized prompts of 10, all mitigated, and 20 controls, none of them changed."""
    values = dict.fromkeys(Summary.model_fields, 0) | {"mitigation_rate_interval": (0.4, 1.0), "prompts": 10}
    values |= {"memorized_before": 4, "mitigated": 4, "controls": 20, **numbers}
    stages: dict[str, Any] = {"detect": {}}
    return Report(
        run={"stages": stages, "unlearned": unlearned}, summary=Summary(**values), prompts=[], controls=[], training={},
        timings={}, environment={},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("numbers", "tone", "words"),
    [
        ({}, "good", "All 4 memorized prompts are mitigated."),
        ({"controls_changed": 3}, "warn", "4 of 4 memorized prompts are mitigated; not all is well."),
        ({"controls_changed": 11}, "bad", "The model is not what it was"),
        ({"mitigated": 3, "persistent": 1, "controls_changed": 11}, "bad", "1 of 4 memorized prompts still reproduce"),
        ({"mitigated": 3, "damaged": 1}, "warn", "3 of 4 memorized prompts are mitigated; not all is well."),
    ],
)
def test_what_is_said_first(numbers: dict[str, Any], tone: str, words: str) -> None:
    found, text, basis = headline(report(**numbers))
    assert (found, text[: len(words)]) == (tone, words)
    assert f"{20 - numbers.get('controls_changed', 0)} of 20 controls are unchanged" in basis


@pytest.mark.parametrize(
    ("numbers", "tone", "words"),
    [
        (DETECTED, "warn", "298 clean, 2 undecided. Give --num-samples"),
        (SCREENED, "warn", "80 clean, 218 not sampled (clean by estimate of a screen). Nothing"),
        (SCREENED | {"memorized_before": 2}, "bad", "80 clean, 218 not sampled (clean by estimate of a screen). Noth"),
    ],
)
def test_what_was_not_sampled_is_counted_apart(numbers: dict[str, Any], tone: str, words: str) -> None:
    found, _, basis = headline(report(unlearned=False, **numbers))
    assert (found, basis[: len(words)]) == (tone, words)


def test_what_was_not_sampled_is_named_after_unlearning_too() -> None:
    basis = headline(report(**SCREENED | {"memorized_before": 2, "mitigated": 2, "controls_changed": 0}))[2]
    assert "218 of 300 prompts were sampled neither before nor after: clean by estimate of a screen." in basis
