"""`memfix detect`: which prompts of a list make the model reproduce a training image?"""

from typing import Annotated

import typer

from memfix.cli import show
from memfix.cli.fail_on import FailGate, FailOn
from memfix.cli.options import Call, Out, command, runs_root
from memfix.config.checks import DetectSettings

PromptList = Annotated[
    str,
    typer.Argument(
        help="A prompt list (.txt, .csv, .tsv, .json, .jsonl or .parquet), pictures with captions (a folder, a tar or "
        "a parquet table), one prompt in quotes, '-' for standard input, or 'demo'.",
        show_default=False,
    ),
]


@command("detect")
def detect(call: Call, prompts: PromptList, out: Out = None, fail: FailOn = None) -> None:
    """Sample every prompt, compare the samples with the training images, and give a verdict on each prompt."""
    gate = FailGate.of(fail)
    settings = call.settings(DetectSettings)
    call.tell_model(settings)
    if call.dry_run:
        show.detection_plan(call, prompts, settings)
        return
    from memfix import flow

    run = flow.detect(prompts, settings, out, runs_root(), call.argv, call.talk)
    show.verdicts(call, run)
    gate.judge(run, call.talk)
