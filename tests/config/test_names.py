"""One meaning a name: stages and commands share the name of a setting or flag only where it means the same in each."""

import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from memfix.config import STAGE_SETTINGS

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "research"))
import commands_page

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
    counted = Counter(name for stage in STAGE_SETTINGS.values() for name in stage.model_fields)
    return {name for name, stages in counted.items() if stages > 1}


def test_only_listed_names_are_shared_by_stages() -> None:
    """A new name here is either another name for another thing, or one more line above."""
    assert shared() == set(SHARED)


@pytest.mark.parametrize("name", sorted(SHARED))
def test_the_help_of_every_stage_says_the_same(name: str) -> None:
    meaning, words = SHARED[name]
    assert meaning.endswith(".")
    for stage, settings in STAGE_SETTINGS.items():
        if field := settings.model_fields.get(name):
            assert words in (field.description or ""), stage


def test_a_setting_is_not_named_like_a_stage_unless_it_is_shared() -> None:
    """`[screen] screen` is the one there is: a table, and the screens in it."""
    assert {name for stage in STAGE_SETTINGS.values() for name in stage.model_fields} & STAGE_SETTINGS.keys() <= {
        "screen"
    }


FLAGS = {
    "--out": ("Where the result goes.", r"^(Run folder|Folder|File or folder)\b"),
    "--model": ("The model that the command is about.", r"\b[Tt]he model\b"),
    "--seed": (
        "Where the seeds begin that samples are drawn from.",
        r"\b([Ff]irst seed|Seed of the first).* of each prompt",
    ),
    "--batch-size": ("How many pictures a network takes at once.", r"at once|per pass"),
    "--limit": ("Read only so many rows from the beginning of a list.", "^Read only the first N "),
    "--skip-invalid": ("Leave out what is wrong in a list instead of ending there.", "^Leave out invalid rows"),
    "--sscd-weights": ("The weights of SSCD.", "TorchScript file"),
    "--clip-model": ("The CLIP model, written in one way.", "NAME/TAG as in open_clip, or NAME/PATH"),
    "--trust-weights": ("Run weights that nobody vouches for.", "^Run a TorchScript file even if its hash is unknown"),
    "--screen": ("Screens of prompts, by their names.", "'memfix list screens'"),
    "--mixed-precision": ("The precision that the model computes in during the stage.", "^Precision of the"),
}
"""Flag that is told of in several ways → what it means in every command that has it, and what each help matches."""
TWO_MEANINGS = {"--lora"}
"""Trains an adapter in `unlearn`, and names one in `recheck` and `attack`: what users of LoRA expect of either."""


def told() -> dict[str, set[str]]:
    """Flag, by its first long name → all that commands say of it in their help."""
    found: dict[str, set[str]] = {}
    for _, command in commands_page.commands():
        for option in (p for p in command.params if p.param_type_name == "option"):
            found.setdefault(long_name(option), set()).add(option.help or "")
    return found


def long_name(option: Any) -> str:
    return next(flag for flag in commands_page.flags(option) if flag.startswith("--"))


def test_only_listed_flags_are_told_of_in_several_ways() -> None:
    assert {flag for flag, texts in told().items() if len(texts) > 1} == FLAGS.keys() | TWO_MEANINGS


@pytest.mark.parametrize("flag", sorted(FLAGS))
def test_a_flag_means_the_same_in_every_command(flag: str) -> None:
    meaning, words = FLAGS[flag]
    assert meaning.endswith(".")
    assert not [text for text in told()[flag] if not re.search(words, text)]


def test_further_names_of_a_flag_are_those_of_no_other() -> None:
    """So that none of them escapes the tests above. What training scripts call a seed is one in `unlearn`."""
    owners: dict[str, set[str]] = {}
    for _, command in commands_page.commands():
        for option in (p for p in command.params if p.param_type_name == "option"):
            for flag in commands_page.flags(option):
                owners.setdefault(flag, set()).add(long_name(option))
    assert {flag: names for flag, names in owners.items() if len(names) > 1} == {"--seed": {"--seed", "--train-seed"}}
