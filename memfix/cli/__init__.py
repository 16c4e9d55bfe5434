"""The command line. `memfix --help` must not import torch: commands import the flow when they run."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import typer

from memfix import __version__
from memfix.cli import (
    attack,
    demo,
    detect,
    doctor,
    export,
    fetch,
    index,
    listing,
    merge,
    prompts,
    recheck,
    report,
    review,
    run,
    schema,
    screen,
    unlearn,
)
from memfix.cli.short_help import Commands, ShortHelp
from memfix.console import Talk
from memfix.failures import machine_error

app = typer.Typer(
    name="memfix", cls=Commands, no_args_is_help=True, add_completion=True, rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Find prompts that make a Stable Diffusion model reproduce training images, unlearn them, and prove it.",
)  # fmt: skip


@app.callback(invoke_without_command=True)
def _version(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


def _add(name: str, function: Callable[..., None]) -> None:
    """Make a command of a function, with a short help."""
    app.command(name, cls=ShortHelp)(function)


_add("detect", detect.detect)
_add("unlearn", unlearn.unlearn)
_add("recheck", recheck.recheck)
_add("attack", attack.attack)
_add("merge", merge.merge)
_add("export", export.export)
_add("report", report.report)
_add("review", review.review)
_add("run", run.run)
_add("demo", demo.demo)
_add("index", index.index)
_add("fetch", fetch.fetch)
_add("doctor", doctor.doctor)
_add("list", listing.list_)
_add("schema", schema.schema)
_add("screen", screen.screen)
app.add_typer(prompts.app, name="prompts")


def main() -> None:
    """Entry point. Options may also be written with underscores, as in training scripts. SIGTERM ends like Ctrl-C, also
    where this is the first process of a container, which else does not hear it."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.argv[1:] = [_dashed(a) for a in sys.argv[1:]]
    try:
        app()
    except OSError as error:  # of help and version, whose output is refused before a command begins
        told = machine_error(error)
        if told is None:
            raise
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115  # Python empties what is left into it at the end
        Talk().error(told.message, told.hint)
        sys.exit(told.exit_code)


def _dashed(argument: str) -> str:
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument.partition("=")
    return name.replace("_", "-") + equals + value


__all__ = ["app", "main"]
