"""`memfix schema`: the contract of report.json."""

from memfix.cli.options import Call, command


@command()
def schema(call: Call) -> None:
    """Print the JSON schema of report.json."""
    from memfix.console import emit
    from memfix.report.schema import Report

    emit(Report.model_json_schema(by_alias=True))
