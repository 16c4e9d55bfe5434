"""`memfix unlearn`: make the model forget what was found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memfix.cli import show
from memfix.cli.options import Call, RunArgument, command, runs_root
from memfix.config.unlearn import UnlearnSettings
from memfix.errors import ExitCode, MemfixError

if TYPE_CHECKING:
    from memfix.run.folder import Run

Lora = Annotated[bool, typer.Option("--lora", help="Train a LoRA adapter; this is the default.")]
Full = Annotated[bool, typer.Option("--full", help="Train all weights of the UNet.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Discard the results of this stage and of later ones, and start again.")
]
OutputDir = Annotated[
    Path | None,
    typer.Option("-o", "--out", "--output-dir", help="Folder for a copy of the new weights, beside model/ in the run."),
]


def weights(lora: bool, full: bool) -> dict[str, Any]:
    """The `weights` setting from the two flags."""
    if lora and full:
        raise MemfixError("--lora and --full cannot be given together.", "Give one of them.", ExitCode.USAGE)
    return {"weights": "full" if full else "lora" if lora else None}


def open_run(path: Path | None) -> Run:
    """The run given, by its folder or by its name in the folder of runs, else the newest."""
    from memfix.run.folder import Run

    if path is None:
        return Run.newest(runs_root())
    by_name = runs_root() / path
    return Run.open(by_name if len(path.parts) == 1 and not path.exists() and by_name.is_dir() else path)


@command("unlearn")
def unlearn(
    call: Call, run: RunArgument = None, lora: Lora = False, full: Full = False, overwrite: Overwrite = False,
    output_dir: OutputDir = None,
) -> None:  # fmt: skip
    """Fine-tune the model so that it forgets the image-prompt pairs that the detection found, and keeps the rest."""
    call.given["unlearn"] |= weights(lora, full)
    if output_dir and output_dir.exists():
        raise MemfixError(f"{output_dir} exists already.", "Give a new folder to --output-dir.", ExitCode.USAGE)
    opened = open_run(run)
    detected = opened.header.stages.detect
    settings = call.settings(UnlearnSettings, detected.settings.model if detected else None)
    given = call.named(UnlearnSettings, settings.weights)
    if call.dry_run:
        from memfix.flow import dry_run

        show.unlearning_plan(call, settings, dry_run.outline(opened, settings, given, overwrite))
        return
    from memfix import flow

    if flow.unlearn(opened, settings, call.argv, call.talk, given, overwrite):
        show.trained(call, opened)
        if output_dir:
            flow.copy_weights(opened, output_dir)
            call.talk.tell(f"The new weights are in {output_dir} as well.")
