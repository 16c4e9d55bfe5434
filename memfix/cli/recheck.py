"""`memfix recheck`: the same check on the unlearned weights."""

from pathlib import Path
from typing import Annotated

import typer

from memfix.cli import show
from memfix.cli.fail_on import FailGate, FailOn
from memfix.cli.options import Call, RunArgument, command, fail_if_damaged
from memfix.cli.unlearn import Overwrite, open_run
from memfix.config.checks import RecheckSettings

Adapters = Annotated[
    list[Path] | None,
    typer.Option(
        "--lora",
        help="Take this adapter instead of the run's own; may be repeated, and the adapters then add up. An "
        "adapter that the detection had stays below them, unless one of them holds it.",
    ),
]
Model = Annotated[
    Path | None,
    typer.Option("-m", "--model", help="Take the model in this diffusers folder instead of the run's own."),
]


@command("recheck")
def recheck(
    call: Call, run: RunArgument = None, lora: Adapters = None, model: Model = None, overwrite: Overwrite = False,
    fail: FailOn = None,
) -> None:  # fmt: skip
    """Sample the same prompts from the unlearned model, from the same and from fresh noise, judge them again, and try
    to bring the erased training images back.

    The exit code is 4 if pictures are damaged.
    """
    gate, opened = FailGate.of(fail), open_run(run)
    settings = call.settings(RecheckSettings)
    if call.dry_run:
        from memfix.flow.outlook import recheck_outlook

        show.recheck_plan(call, settings, recheck_outlook(opened, settings))
        return
    from memfix import flow
    from memfix.flow.new_weights import NewWeights

    weights = NewWeights.of(opened, lora or (), model)
    changes = flow.recheck(opened, settings, call.argv, call.talk, weights, overwrite)
    show.changes(call, opened)
    gate.judge(opened, call.talk)
    fail_if_damaged(changes)
