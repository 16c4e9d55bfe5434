"""What to do next about a prompt that is not mitigated. Pure: what the run did and found in, a sentence and a command
out."""

from __future__ import annotations

import shlex

from pydantic import Field

from memfix.records import Change, Label, Outcome, Record, Role, Verdict
from memfix.run.header import Stages


class NextStep(Record):
    """Something to try."""

    why: str = Field(description="what it does, in a sentence")
    command: str = Field(description="what to type")


def next_step(
    change: Change, before: Verdict, after: Verdict, stages: Stages, run: str, disputed: int = 0
) -> NextStep | None:
    """The next step for a prompt of a run that was re-checked; None where nothing is to be mended, or nothing known.

    disputed: samples of attacks on it that a person is still to judge.
    """
    told = shlex.quote(run)
    if change.outcome is Outcome.UNDECIDED:
        return _for_undecided(change, before, after, stages, told, disputed)
    if change.outcome not in (Outcome.PERSISTENT, Outcome.HIDDEN, Outcome.DAMAGED):
        return None
    if not (stages.recheck and stages.recheck.own and stages.unlearn and stages.detect):
        why = "These weights were not made by this run. Detect on them, and unlearn what is found."
        return NextStep(why=why, command="memfix detect PROMPTS -m MODEL --adapter LORA")
    if change.outcome is Outcome.DAMAGED:
        rate = stages.unlearn.settings.resolved_learning_rate() / 2
        why = "Unlearn again, more gently."
        return NextStep(why=why, command=f"memfix unlearn {told} --overwrite --learning-rate {rate:g}")
    if change.outcome is Outcome.PERSISTENT:
        return longer_looks(stages, told)
    if change.wording is not None and change.after is Label.MEMORIZED:
        why = "Only a rewording hides this picture: unlearn without one, until the weights themselves give no copy."
        return NextStep(why=why, command=f"memfix unlearn {told} --overwrite --no-reword")
    return against_attacks(stages, told)


def longer_looks(stages: Stages, run: str) -> NextStep | None:
    """What makes the training of a run go on for longer, where prompts still copy."""
    if not (stages.recheck and stages.recheck.own and stages.unlearn):
        return None
    settings = stages.unlearn.settings
    flags = (
        f"--clean-validations {2 * settings.clean_validations}" if settings.closed
        else "--loop closed --max-train-steps 0"
    )  # fmt: skip
    why = "Let training look longer before it ends."
    return NextStep(why=why, command=f"memfix unlearn {run} --overwrite {flags}")


def against_attacks(stages: Stages, run: str) -> NextStep | None:
    """What makes a run train against an attack, or for longer if it did, where an attack brings pictures back."""
    if not (stages.recheck and stages.recheck.own and stages.unlearn):
        return None
    settings = stages.unlearn.settings
    if settings.closed and settings.adversarial_steps:  # which is a limit there, and looks say when it ends
        return longer_looks(stages, run)
    steps = 2 * (settings.adversarial_steps or 0) or settings.max_train_steps
    why = "Train against the attack for longer." if settings.adversarial_steps else "Training against it holds better."
    return NextStep(why=why, command=f"memfix unlearn {run} --overwrite --adversarial-steps {steps}")


def _for_undecided(
    change: Change, before: Verdict, after: Verdict, stages: Stages, run: str, disputed: int
) -> NextStep | None:
    if before.disputed or after.disputed or disputed:
        why = "Say whether the disputed samples are copies."
        return NextStep(why=why, command=f"memfix review {run}")
    if change.before is Label.UNDECIDED and change.role is Role.PROMPT and stages.detect:
        most = 2 * stages.detect.settings.num_samples
        why = "The first check had too few samples for a verdict: draw more, in a new run."
        return NextStep(why=why, command=f"memfix detect PROMPTS --num-samples {most}")
    if change.after is Label.UNDECIDED and stages.recheck:
        most = 2 * stages.recheck.settings.num_fresh
        why = "The re-check had too few samples for a verdict: draw more."
        return NextStep(why=why, command=f"memfix recheck {run} --overwrite --num-fresh {most}")
    return None
