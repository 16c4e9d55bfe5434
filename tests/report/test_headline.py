"""The sentence at the top of a report: no good word for a model that is no good."""

from typing import Any

import pytest

from memfix.report.html import headline
from memfix.report.schema import Report, Summary


def report(**numbers: Any) -> Report:
    """A finished run with 4 memorized prompts of 10, all mitigated, and 20 controls, none of them changed."""
    values = dict.fromkeys(Summary.model_fields, 0) | {"mitigation_rate_interval": (0.4, 1.0), "prompts": 10}
    values |= {"memorized_before": 4, "mitigated": 4, "controls": 20, **numbers}
    stages: dict[str, Any] = {"detect": {}}
    return Report(
        run={"stages": stages, "unlearned": True}, summary=Summary(**values), prompts=[], controls=[], training={},
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
