"""The command line. `memfix --help` must not import torch: commands import the flow when they run."""

from __future__ import annotations

import signal
import sys

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

app = typer.Typer(
    name="memfix", no_args_is_help=True, add_completion=False, rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Find prompts that make a Stable Diffusion model reproduce training images, unlearn them, and prove it.",
)  # fmt: skip


@app.callback(invoke_without_command=True)
def _version(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


app.command("detect")(detect.detect)
app.command("unlearn")(unlearn.unlearn)
app.command("recheck")(recheck.recheck)
app.command("attack")(attack.attack)
app.command("merge")(merge.merge)
app.command("export")(export.export)
app.command("report")(report.report)
app.command("review")(review.review)
app.command("run")(run.run)
app.command("demo")(demo.demo)
app.command("index")(index.index)
app.command("fetch")(fetch.fetch)
app.command("doctor")(doctor.doctor)
app.command("list")(listing.list_)
app.command("schema")(schema.schema)
app.command("screen")(screen.screen)
app.add_typer(prompts.app, name="prompts")


def main() -> None:
    """Entry point. Options may also be written with underscores, as in training scripts. SIGTERM ends like Ctrl-C, also
    where this is the first process of a container, which else does not hear it."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.argv[1:] = [_dashed(a) for a in sys.argv[1:]]
    app()


def _dashed(argument: str) -> str:
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument.partition("=")
    return name.replace("_", "-") + equals + value


__all__ = ["app", "main"]
