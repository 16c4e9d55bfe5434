"""`memfix run`: detect, unlearn, recheck and report, one after the other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memfix.cli import show
from memfix.cli.detect import PromptList
from memfix.cli.fail_on import FailGate, FailOn
from memfix.cli.options import Call, Out, command, fail_if_damaged, runs_root
from memfix.cli.unlearn import Full, Lora, weights
from memfix.config.checks import DetectSettings, RecheckSettings
from memfix.config.unlearn import UnlearnSettings

if TYPE_CHECKING:
    from memfix.flow.run import Finished
    from memfix.run.folder import Run


ROUNDS = 3
Rounds = Annotated[
    int,
    typer.Option(
        min=1,
        help="How often the weights are re-checked at most. A closed loop goes on from copies that a re-check sees.",
    ),
]


@command("detect", "unlearn", "recheck")
def run(
    call: Call, prompts: PromptList, out: Out = None, lora: Lora = False, full: Full = False,
    rounds: Rounds = ROUNDS, fail: FailOn = None,
) -> None:  # fmt: skip
    """Detect, unlearn, re-check and report in one go. Run the same command again to resume."""
    gate = FailGate.of(fail)
    call.given["unlearn"] |= weights(lora, full)
    if (finished := chain(call, prompts, out, rounds)) is not None:
        gate.judge(finished.run, call.talk)
        fail_if_damaged(finished.changes)


def chain(call: Call, prompts: str, out: Path | None, rounds: int = 1) -> Finished | None:
    """The four stages, told as they end; None where they are only planned."""
    detecting = call.settings(DetectSettings)
    call.tell_model(detecting)
    unlearning = call.settings(UnlearnSettings, detecting.model)
    rechecking = call.settings(RecheckSettings, detecting.model)
    from memfix import flow
    from memfix.flow.run import Chain

    planned = Chain(detecting, unlearning, rechecking, call.named(UnlearnSettings, unlearning.weights), rounds)
    planned.check()
    if call.dry_run:
        show.detection_plan(call, prompts, detecting, {"unlearn": unlearning, "recheck": rechecking})
        return None

    def ended(stage: str, run: Run) -> None:
        {"detect": show.verdicts, "recheck": show.changes}[stage](call, run, last=False)

    finished = flow.run(prompts, planned, (out, runs_root()), call.argv, call.talk, ended)
    show.reported(call, finished.run, finished.page)
    return finished
