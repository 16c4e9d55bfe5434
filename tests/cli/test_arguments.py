"""Empty words of a command line, and flags of other scripts: told before anything is read."""

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from memfix.cli import app
from memfix.cli.arguments import OTHER_FLAGS
from memfix.errors import ExitCode

COMMANDS = typer.main.get_command(app).commands


def failed(*words: str, env: dict[str, str] | None = None) -> str:
    done = CliRunner().invoke(app, list(words), env={"COLUMNS": "200", **(env or {})})
    assert done.exit_code == ExitCode.USAGE, done.output
    assert not isinstance(done.exception, Exception) or isinstance(done.exception, SystemExit)
    return done.output


@pytest.mark.parametrize("empty", ["", "  ", "\t"])
@pytest.mark.parametrize(
    "words",
    [
        ("detect", ""), ("run", ""), ("screen", ""), ("index", ""), ("fetch", ""), ("unlearn", ""), ("recheck", ""),
        ("report", ""), ("doctor", ""), ("export", ""), ("attack", ""), ("review", ""), ("merge", ""), ("list", ""),
        ("prompts", "get", ""), ("detect", "demo", "-o", ""), ("detect", "demo", "--references", ""),
        ("unlearn", "--config", ""), ("detect", "demo", "--adapter", ""), ("merge", "a", ""),
    ],
)  # fmt: skip
def test_an_empty_word_is_a_usage_error(
    words: tuple[str, ...], empty: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = failed(*words[:-1], empty)
    assert "is empty" in told and "variable of the shell" in told
    assert not list(tmp_path.iterdir())


def test_an_empty_value_is_told_by_its_flag() -> None:
    assert "The value of --out is empty" in failed("detect", "demo", "--out=")
    assert "The value of --references is empty" in failed("detect", "demo", "--references", " ")


def test_an_empty_folder_of_runs_is_an_error() -> None:
    assert "MEMFIX_RUNS is empty" in failed("report", env={"MEMFIX_RUNS": ""})


def test_an_empty_text_among_others_in_a_settings_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('[detect]\nadapter = ["a", ""]\n')
    assert "'adapter' is empty" in failed("detect", "demo", "--dry-run", "--config", str(tmp_path / "c.toml"))


@pytest.mark.parametrize("flag", OTHER_FLAGS)
def test_flags_of_training_scripts_are_explained(flag: str) -> None:
    known = {name for p in COMMANDS["unlearn"].params for name in (*p.opts, *p.secondary_opts)}
    assert f"--{flag}" not in known
    told = failed("unlearn", f"--{flag}", "1")
    assert f"There is no --{flag} here" in told and "ossible" not in told


def test_what_hints_name_is_there() -> None:
    flags = {name for c in COMMANDS.values() for p in c.params for name in (*p.opts, *p.secondary_opts)}
    named = {word.strip(".,:;'") for told in OTHER_FLAGS.values() for word in told.split() if word.startswith("--")}
    assert named <= flags
