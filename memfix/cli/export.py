"""`memfix export`: the new weights of a run for other tools."""

from pathlib import Path
from typing import Annotated

import typer

from memfix.cli.options import Call, RunArgument, command
from memfix.cli.unlearn import open_run
from memfix.console import emit

Form = Annotated[
    str,
    typer.Option(
        "--format",
        help="diffusers: a whole pipeline in a folder, a LoRA built into its weights. kohya: the LoRA for ComfyUI, "
        "A1111 and Forge. checkpoint: one file of half precision in the layout of your own model, a LoRA built in.",
    ),
]
To = Annotated[Path, typer.Option("-o", "--out", help="File or folder to write, where nothing is yet.")]


@command()
def export(call: Call, out: To, run: RunArgument = None, form: Form = "diffusers") -> None:
    """Write the unlearned weights of a run as other tools load them."""
    opened = open_run(run)
    if call.dry_run:
        call.talk.tell(f"{opened.path} → {out} ({form})")
        return
    from memfix import flow

    written = flow.export(opened, form, out, call.talk)
    if call.json:
        emit({"run": str(opened.path), "format": form, "out": str(written)})
    call.talk.tell(f"The unlearned weights were written to {written}")
