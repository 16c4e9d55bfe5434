"""One meaning a name: stages share the name of a setting only where it means the same in each of them."""

from collections import Counter

import pytest

from memfix.config import STAGES

SHARED = {
    "batch_size": ("How many pictures a network takes at once.", "at once"),
    "clip_model": ("The CLIP model, written in one way.", "NAME/TAG as in open_clip, or NAME/PATH"),
    "limit": ("Read only so many rows from the beginning of a list.", "Read only the first N"),
    "mixed_precision": ("The precision that the model computes in during the stage.", "Precision of the"),
    "screen": ("Screens of prompts, by their names.", "'memfix list screens'"),
    "skip_invalid": ("Leave out what is wrong in a list instead of ending there.", "Leave out invalid rows"),
    "sscd_weights": ("The weights of SSCD.", "TorchScript file"),
    "trust_weights": ("Run weights that nobody vouches for.", "Run a TorchScript file even if its hash is unknown."),
}
"""Setting → what it means in every stage that has it, and words that the help of each of them holds."""


def shared() -> set[str]:
    """Settings of several stages, by name: one environment variable sets all of them."""
    counted = Counter(name for stage in STAGES.values() for name in stage.model_fields)
    return {name for name, stages in counted.items() if stages > 1}


def test_only_listed_names_are_shared_by_stages() -> None:
    """A new name here is either another name for another thing, or one more line above."""
    assert shared() == set(SHARED)


@pytest.mark.parametrize("name", sorted(SHARED))
def test_the_help_of_every_stage_says_the_same(name: str) -> None:
    meaning, words = SHARED[name]
    assert meaning.endswith(".")
    for stage, settings in STAGES.items():
        if field := settings.model_fields.get(name):
            assert words in (field.description or ""), stage


def test_a_setting_is_not_named_like_a_stage_unless_it_is_shared() -> None:
    """`[screen] screen` is the one there is: a table, and the screens in it."""
    assert {name for stage in STAGES.values() for name in stage.model_fields} & STAGES.keys() <= {"screen"}
