"""Which layer of settings wins on the command line."""

from pathlib import Path

import pytest

from memfix.cli.options import Call
from memfix.config import STAGE_SETTINGS
from memfix.config.checks import DetectSettings
from memfix.config.layers import for_weights, presets, read_preset, resolve
from memfix.config.unlearn import UnlearnSettings
from memfix.console import Talk
from memfix.errors import MemfixError


def test_a_preset_loses_to_files_and_flags_and_wins_over_what_suits_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own.toml").write_text("[unlearn]\nmixture = 0.4\nforget_norm = 700\n")
    monkeypatch.setenv("MEMFIX_FORGET_NORM", "600")
    call = Call(Talk(), config=tmp_path / "own.toml", preset="paper-sd", given={"unlearn": {"timestep_min": 998}})
    settings = call.settings(UnlearnSettings, "demo")
    assert (settings.timestep_min, settings.forget_norm, settings.mixture) == (998, 600, 0.4)
    assert (settings.weights, settings.settled(1).max_train_steps) == ("full", 35)
    assert settings.learning_rate == 1e-5
    sampling = call.settings(DetectSettings, "demo")
    assert (sampling.num_inference_steps, sampling.batch_size) == (50, 32)  # of the preset, and of the bundled model


@pytest.mark.parametrize("name", presets())
def test_every_preset_is_valid(name: str) -> None:
    tables = read_preset(name)
    for stage, table in tables.items():
        for weights in ("lora", "full") if stage == "unlearn" else ("",):
            resolve(STAGE_SETTINGS[stage], for_weights(table, weights))
    assert tables


def test_the_paper_is_followed() -> None:
    """35 steps of 16 items, all weights, last timestep only: SISS, appendix and released scripts."""
    call = Call(Talk(), preset="paper-sd", given={})
    s, d = call.settings(UnlearnSettings), call.settings(DetectSettings)
    assert s.train_batch_size * s.gradient_accumulation_steps == 16
    assert (s.settled(1).max_train_steps, s.weights, s.timestep_min, s.timestep_max) == (35, "full", 999, 1000)
    assert (s.forget_norm, s.mixture, s.learning_rate, d.num_samples) == (750, 0.5, 1e-5, 128)


def test_unknown_presets_are_refused() -> None:
    with pytest.raises(MemfixError, match="Unknown preset 'paper_sd'") as caught:
        Call(Talk(), preset="paper_sd").settings(UnlearnSettings)
    assert "paper-sd" in caught.value.hint


def test_the_model_that_nobody_named_is_told_with_how_to_name_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MEMFIX_MODEL", raising=False)
    settings = DetectSettings()
    Call(Talk()).tell_model(settings)
    said = " ".join(capsys.readouterr().err.split())
    assert settings.model in said and all(way in said for way in ("-m MODEL", "MEMFIX_MODEL", "--config"))
    (tmp_path / "own.toml").write_text(f'[detect]\nmodel = "{settings.model}"\n')
    Call(Talk(), config=tmp_path / "own.toml").tell_model(settings)
    Call(Talk(), given={"detect": {"model": settings.model}}).tell_model(settings)
    monkeypatch.setenv("MEMFIX_MODEL", settings.model)
    Call(Talk()).tell_model(settings)
    assert capsys.readouterr().err == ""


def test_what_comes_from_the_environment_is_told_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MEMFIX_TOLERANCE", "0.5")
    call = Call(Talk())
    assert call.settings(DetectSettings).tolerance == call.settings(DetectSettings).tolerance == 0.5
    assert capsys.readouterr().err.count("From the environment: MEMFIX_TOLERANCE=0.5.") == 1
