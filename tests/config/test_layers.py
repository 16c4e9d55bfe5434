"""Settings put together: precedence, presets, errors that name the setting."""

from pathlib import Path

import pytest

from memfix.config.checks import DetectSettings
from memfix.config.layers import for_weights, read_config, read_environment, resolve
from memfix.config.unlearn import UnlearnSettings
from memfix.errors import MemfixError


def test_the_strongest_layer_wins_and_none_means_not_given() -> None:
    settings = resolve(DetectSettings, {"seed": None, "limit": 3}, {"seed": "7"}, {"seed": 1, "num_samples": 2})
    assert (settings.seed, settings.limit, settings.num_samples) == (7, 3, 2)


def test_environment() -> None:
    assert read_environment(UnlearnSettings, {"MEMFIX_RANK": "4", "RANK": "9"}) == {"rank": "4"}


@pytest.mark.parametrize(
    ("values", "message", "hint"),
    [
        ({"num_sample": 3}, "Unknown setting 'num_sample'", "num_samples"),
        ({"num_samples": 0}, "Setting 'num_samples' is 0", "--num-samples"),
        ({"seed": "many"}, "Setting 'seed' is 'many'", "--seed"),
        ({"mixed_precision": "int4"}, "Setting 'mixed_precision'", "bf16"),
    ],
)
def test_bad_settings(values: dict, message: str, hint: str) -> None:
    with pytest.raises(MemfixError, match=message) as caught:
        resolve(DetectSettings, values)
    assert hint in caught.value.hint


def test_config_file(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("[detect]\nseed = 5\n")
    assert read_config(path) == {"detect": {"seed": 5}}
    path.write_text("[detct]\nseed = 5\n")
    with pytest.raises(MemfixError, match="is unknown") as caught:
        read_config(path)
    assert "detect" in caught.value.hint
    path.write_text("[detect\n")
    with pytest.raises(MemfixError, match="not valid TOML"):
        read_config(path)
    with pytest.raises(MemfixError, match="no settings file"):
        read_config(tmp_path / "none.toml")


def test_learning_rate_depends_on_the_weights() -> None:
    assert UnlearnSettings().resolved_learning_rate() == 1e-4
    assert UnlearnSettings(weights="full").resolved_learning_rate() == 1e-5
    assert UnlearnSettings(weights="full", learning_rate=3e-4).resolved_learning_rate() == 3e-4


def test_tables_of_the_weights_override() -> None:
    table = {"rank": 4, "learning_rate": 1.0, "lora": {"learning_rate": 2.0}, "full": {"learning_rate": 3.0}}
    assert for_weights(table, "lora") == {"rank": 4, "learning_rate": 2.0}
    assert for_weights(table, "full") == {"rank": 4, "learning_rate": 3.0}
    assert for_weights({"rank": 4}, "full") == {"rank": 4}
    with pytest.raises(MemfixError, match="Unknown setting 'lora'"):
        resolve(UnlearnSettings, for_weights({"lora": 1}, "lora"))


@pytest.mark.parametrize("layer", [{"references": ""}, {"references": " "}, {"model": ""}])
def test_an_empty_setting_is_none_and_means_nothing(layer: dict[str, str]) -> None:
    """An unset variable of a shell is not the folder that one is in."""
    with pytest.raises(MemfixError, match="is empty"):
        resolve(DetectSettings, layer)
