"""What the report says of an unlearning."""

from memfix.records import Yield
from memfix.report.training import kind_yields


def test_yields_are_summed_over_the_prompts_that_a_kind_was_tried_for() -> None:
    yields = [
        Yield(prompt_id="a", text="owl", kind="shorten", samples=8, kept=5, near_copies=1, copies=2),
        Yield(prompt_id="b", text="cat", kind="shorten", samples=8, copies=8),
        Yield(prompt_id="b", text="cat", kind="noise", samples=16, kept=16),
    ]
    first, second = kind_yields(yields)
    assert first.model_dump(exclude={"by_prompt"}) == {
        "kind": "shorten", "prompts": 2, "served": 1, "samples": 16, "kept": 5, "near_copies": 1, "copies": 10,
    }  # fmt: skip
    assert [p.text for p in first.by_prompt] == ["owl", "cat"]
    assert (second.prompts, second.kept) == (1, 16)
