"""The two levels of help, and the examples in it."""

import shlex

import pytest
import typer
from typer.testing import CliRunner

from memfix.cli import app
from memfix.cli.usual import EXAMPLES, SHORT_LIST

COMMANDS = {name: c for name, c in typer.main.get_command(app).commands.items() if name != "prompts"}


def told(*words: str, columns: int = 80) -> str:
    done = CliRunner().invoke(app, list(words), env={"COLUMNS": str(columns)})
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("columns", [50, 80])
def test_the_short_help_is_short_and_breaks_no_flag(name: str, columns: int) -> None:
    short, command = told(name, "--help", columns=columns), COMMANDS[name]
    wanted = [p for p in command.params if p.name in SHORT_LIST.get(name, ())]
    assert len(wanted) == len(SHORT_LIST.get(name, ())) <= 12
    assert all(flag in short for p in wanted for flag in p.opts)
    assert "--help-all" in short
    assert "Examples:" in short and EXAMPLES[name][0] in short


@pytest.mark.parametrize("name", COMMANDS)
def test_the_long_help_has_every_flag(name: str) -> None:
    long = told(name, "--help-all", columns=200)
    options = [p for p in COMMANDS[name].params if p.param_type_name == "option"]
    assert [p.name for p in options if max(p.opts, key=len)[:30] not in long] == []


def test_every_example_names_flags_that_there_are() -> None:
    assert EXAMPLES.keys() == COMMANDS.keys()
    for name, lines in EXAMPLES.items():
        flags = {flag for p in COMMANDS[name].params for flag in (*p.opts, *p.secondary_opts)}
        for line in lines:
            words = shlex.split(line)
            assert words[:2] == ["memfix", name]
            assert {word for word in words if word.startswith("-")} <= flags, line


def test_names_of_training_scripts_are_taken() -> None:
    assert {"train_seed"} == {p.name for p in COMMANDS["unlearn"].params if "--seed" in p.opts}
    for command in COMMANDS.values():  # of two settings, the flag is one's only
        flags = [flag for p in command.params for flag in (*p.opts, *p.secondary_opts)]
        assert len(flags) == len(set(flags))
