"""`memfix report`: report.json, report.html and the model card."""

from pathlib import Path
from typing import Annotated

import typer

from memfix.cli import show
from memfix.cli.fail_on import FailGate, FailOn
from memfix.cli.options import Call, RunArgument, command
from memfix.cli.unlearn import open_run

Out = Annotated[
    Path | None,
    typer.Option("-o", "--out", help="Folder for report and model card, where the run cannot or shall not be written."),
]
Open = Annotated[bool, typer.Option("--open", help="Open the report in a browser.")]


@command()
def report(call: Call, run: RunArgument = None, out: Out = None, open_: Open = False, fail: FailOn = None) -> None:
    """Write the report of a run. It can be written again at any time."""
    gate, opened = FailGate.of(fail), open_run(run)
    from memfix import flow

    page = flow.report(opened, out)
    show.reported(call, opened, page)
    if open_:
        typer.launch(str(page))
    gate.judge(opened, call.talk)
