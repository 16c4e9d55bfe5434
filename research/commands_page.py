"""Write docs/commands.md from the command line itself: python research/commands_page.py"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from memfix.cli import app
from memfix.cli.options import COMMON

PAGE = Path(__file__).parent.parent / "docs" / "commands.md"
PANEL = "Settings of "
INTRO = """# Commands

Every command, what it does, and its flags. `--help-all` after a command shows the same with the defaults and limits of
each setting; [settings](settings.md) lists these by table. Names of flags may be written with underscores or dashes.

The exit code is 0 when the command has done what it was asked for, whatever it found; 1 after an error; 2 when the
command line or a setting is wrong; 3 when `--fail-on` applies; 4 when a re-check found pictures damaged; and
130 when the command was interrupted.

This page is written by `python research/commands_page.py`.
"""


def commands(command: Any = None, name: str = "memfix") -> Iterator[tuple[str, Any]]:
    """Every command that does something by itself, with its full name."""
    command = command or typer.main.get_command(app)
    if not hasattr(command, "commands"):
        yield name, command
        return
    for child, nested in command.commands.items():
        yield from commands(nested, f"{name} {child}")


def flags(parameter: Any) -> list[str]:
    """All names of an option."""
    return [*parameter.opts, *parameter.secondary_opts]


def _common(option: Any) -> bool:
    return option.name in COMMON


def _setting(option: Any) -> bool:
    return str(getattr(option, "rich_help_panel", None) or "").startswith(PANEL)


def _plain(text: str | None) -> str:
    """A help text as a cell of a table."""
    return (text or "").replace("|", "/").replace("<", "&lt;")


def _table(options: list[Any]) -> str:
    rows = [f"| {' '.join(f'`{flag}`' for flag in flags(o))} | {_plain(o.help)} |" for o in options]
    return "\n".join(["| flag | meaning |", "|---|---|", *rows]) + "\n"


def _section(name: str, command: Any) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and not _common(p)]
    own, settings = ([o for o in options if _setting(o) is wanted] for wanted in (False, True))
    words = [str(a.metavar or a.name.upper()) for a in arguments]
    required = [w if a.required or w.startswith("[") else f"[{w}]" for a, w in zip(arguments, words, strict=True)]
    usage = " ".join([name, *required])
    parts = [f"\n## {name}\n\n```\n{usage}\n```\n\n{' '.join((command.help or '').split())}\n"]
    if told := [
        f"- `{word}`: {_plain(a.help)}\n" for a, word in zip(arguments, words, strict=True) if getattr(a, "help", None)
    ]:
        parts.append("\n" + "".join(told))
    if own:
        parts.append("\n" + _table(own))
    tables = dict.fromkeys(str(getattr(o, "rich_help_panel", "")).removeprefix(PANEL) for o in settings)
    for stage in tables:
        listed = ", ".join(f"`{'/'.join(flags(o))}`" for o in settings if o.rich_help_panel == f"{PANEL}{stage}")
        parts.append(f"\nSettings of [`[{stage}]`](settings.md#{stage}): {listed}.\n")
    return "".join(parts)


def page() -> str:
    """The whole of commands.md."""
    found = list(commands())
    common = [p for p in found[0][1].params if _common(p)]
    version = (
        "`memfix --version` prints the version. `-h` or `--help` shows the flags that people need, and\n"
        "`--help-all` all of them. `memfix --install-completion` lets the shell complete commands\n"
        "and flags; `memfix --show-completion` prints what it would write.\n"
    )
    every = f"\n## Flags of every command\n\n{_table(common)}\n{version}"
    return INTRO + every + "".join(_section(name, command) for name, command in found)


if __name__ == "__main__":
    PAGE.write_text(page())
