"""`memfix detect`: which prompts of a list make the model reproduce a training image?"""

from typing import Annotated

import typer

from memfix.cli import show
from memfix.cli.options import Call, FailOn, Out, check_fail_on, command, fail_on, runs_root
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
    check_fail_on(fail)
    settings = call.settings(DetectSettings)
    if call.dry_run:
        show.detection_plan(call, prompts, settings)
        return
    from memfix import flow

    run = flow.detect(prompts, settings, out, runs_root(), call.argv, call.talk)
    memorized = show.verdicts(call, run)
    fail_on(fail, memorized)
