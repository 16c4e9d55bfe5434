"""`memfix schema`: the contracts of report.json and run.json."""

from typing import Annotated

import typer

from memfix.cli.options import Call, command

OfRun = Annotated[bool, typer.Option("--run", help="Print that of run.json, the header of a run, instead.")]


@command()
def schema(call: Call, run: OfRun = False) -> None:
    """Print the JSON schema of report.json."""
    from memfix.console import emit
    from memfix.report.schema import Report
    from memfix.run.header import Header

    emit((Header if run else Report).model_json_schema(by_alias=True))
