"""What the report says of an unlearning."""

from memfix.cli.listing import _ways
from memfix.records import Yield


def test_yields_are_summed_over_the_prompts_that_a_way_was_tried_for() -> None:
    yields = [
        Yield(prompt_id="a", text="owl", way="shorten", samples=8, kept=5, near_copies=1, copies=2),
        Yield(prompt_id="b", text="cat", way="shorten", samples=8, copies=8),
        Yield(prompt_id="b", text="cat", way="noise", samples=16, kept=16),
    ]
    first, second = _ways(yields)
    assert {k: v for k, v in first.items() if k != "by_prompt"} == {
        "way": "shorten", "prompts": 2, "served": 1, "samples": 16, "kept": 5, "near_copies": 1, "copies": 10,
    }  # fmt: skip
    assert [p["text"] for p in first["by_prompt"]] == ["owl", "cat"]
    assert (second["prompts"], second["kept"]) == (1, 16)
