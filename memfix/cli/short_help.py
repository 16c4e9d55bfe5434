"""The two levels of help: `--help` shows the flags that people need, `--help-all` every one."""

from __future__ import annotations

import shutil
import textwrap
from typing import Any

import typer
from typer.core import TyperGroup

from memfix.cli.arguments import Command
from memfix.cli.usual import EXAMPLES, is_usual

WHOLE_HELP = "memfix.help_all"
WIDEST = 100  # columns of a line that one still likes to read


class ShortHelp(Command):
    """A command whose help leaves out what few need, and breaks no flag on a narrow terminal."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help; that of `--help-all` if it was asked for."""
        if ctx.meta.get(WHOLE_HELP):
            super().format_help(ctx, formatter)
            return
        name, told = str(self.name), [p for p in self.get_params(ctx) if p.name != "help"]
        words = [p for p in told if p.param_type_name == "argument"]
        usage = " ".join(["memfix", name, *(_word(p) for p in words), "[FLAGS]"])
        blocks = [_wrapped(f"Usage: {usage}"), _wrapped(" ".join(str(self.help).split()))]
        blocks += [_told(_word(p), p) for p in words]
        blocks += [_told(_names(p), p) for p in told if p not in words and is_usual(name, str(p.name))]
        blocks.append("\n".join(["Examples:", *(f"  {line}" for line in EXAMPLES[name])]))
        formatter.write("\n\n".join(blocks) + "\n")


class Commands(TyperGroup):
    """Commands whose help breaks no name on a narrow terminal."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the flags, and each command with the first sentence of what it does."""
        commands = [self.commands[name] for name in self.list_commands(ctx)]
        told = [
            (f"{c.name}", f"{' '.join(str(c.help or '').split()).partition('. ')[0].rstrip('.')}.") for c in commands
        ]
        blocks = [_wrapped(f"Usage: {ctx.command_path} COMMAND"), _wrapped(" ".join(str(self.help).split()))]
        blocks += [_told(_names(p), p) for p in self.get_params(ctx)]
        blocks.append("\n".join(["Commands:", *(f"  {name}\n{_wrapped(text, 6)}" for name, text in told)]))
        formatter.write("\n\n".join(blocks) + "\n")


def help_all(ctx: typer.Context, value: bool) -> None:
    """Print the whole help and end."""
    if value:
        ctx.meta[WHOLE_HELP] = True
        if told := ctx.get_help():
            typer.echo(told)
        raise typer.Exit


def _word(argument: Any) -> str:
    """How an argument stands in the usage."""
    word = str(argument.metavar or argument.name.upper())
    return word if argument.required or word.startswith("[") else f"[{word}]"


def _names(option: Any) -> str:
    """All names of an option, short ones first, and what it takes."""
    names = ", ".join(sorted(option.opts, key=len))
    return names if option.is_flag else f"{names} {option.metavar or 'VALUE'}"


def _told(names: str, parameter: Any) -> str:
    """A parameter, and the first sentence of what it does."""
    text = " ".join((parameter.help or "").replace("\\[", "[").split())
    first, _, rest = text.partition(". ")
    default = rest[rest.rindex("[") :] if rest.endswith("]") else ""
    return f"{_wrapped(names, 2)}\n{_wrapped(f'{first}. {default}'.strip() if rest else first, 6)}"


def _wrapped(text: str, indent: int = 0) -> str:
    """A text between the margins of the terminal; no word is broken."""
    width, margin = min(shutil.get_terminal_size().columns, WIDEST), " " * indent
    return textwrap.fill(
        text, width, initial_indent=margin, subsequent_indent=margin, break_long_words=False, break_on_hyphens=False
    )
