"""How many optimizer steps a number of memorized prompts gets."""

import pytest

from memfix.config.layers import for_weights, read_config, read_preset
from memfix.config.unlearn import FEW_DRAWS, LEAST_STEPS, MOST_ROUNDS, UnlearnSettings
from memfix.demo import SETTINGS


@pytest.mark.parametrize(
    ("values", "prompts", "processes", "steps"),
    [
        ({}, 1, 1, 35),  # 35 steps of 16, as in the paper
        ({}, 50, 1, 1750),
        ({}, 50, 4, 438),  # 28,000 draws in steps of 64
        ({"train_batch_size": 2, "gradient_accumulation_steps": 8}, 3, 1, 105),
        ({"draws_per_prompt": 10}, 3, 1, LEAST_STEPS),
        ({"adapter_per_prompt": True}, 50, 1, 35),  # each by itself
        ({"max_train_steps": 7}, 50, 1, 7),
    ],
)
def test_steps_follow_from_draws(values: dict, prompts: int, processes: int, steps: int) -> None:
    settings = UnlearnSettings(**{"loop": "open"} | values).settled(prompts, processes)
    assert settings.max_train_steps == steps
    assert settings.settled(prompts + 1, processes) == settings


def test_a_closed_loop_has_more_steps_that_it_need_not_take() -> None:
    settings = UnlearnSettings()
    assert settings.closed and settings.settled(1).closed
    assert settings.settled(1).max_train_steps == MOST_ROUNDS * 35
    assert settings.settled(1).settled(2) == settings.settled(1)
    assert not UnlearnSettings(max_train_steps=40).closed
    assert UnlearnSettings(max_train_steps=40, loop="closed").settled(9).max_train_steps == 40


def test_draws_by_hand() -> None:
    assert UnlearnSettings(max_train_steps=100).draws(50) == 32 < FEW_DRAWS
    assert UnlearnSettings(max_train_steps=100, adapter_per_prompt=True).draws(50) == 1600
    assert UnlearnSettings(max_train_steps=10, train_batch_size=4, gradient_accumulation_steps=3).draws(6, 2) == 40


def test_presets_give_enough_draws() -> None:
    paper = UnlearnSettings(**for_weights(read_preset("paper-sd")["unlearn"], "full"))
    assert paper.settled(1).max_train_steps == 35 and paper.settled(10).draws(10) == 560
    assert "unlearn" not in read_config(SETTINGS)  # the bundled model is unlearned as any other
    assert UnlearnSettings().settled(25).draws(25) > 2 * FEW_DRAWS
