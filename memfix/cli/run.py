"""`memfix run`: detect, unlearn, recheck and report, one after the other."""

from pathlib import Path

from memfix.cli import show
from memfix.cli.detect import PromptList
from memfix.cli.options import Call, FailOn, Out, command, fail_on, runs_root
from memfix.cli.unlearn import Full, Lora, weights
from memfix.config.checks import DetectSettings, RecheckSettings
from memfix.config.unlearn import UnlearnSettings


@command("detect", "unlearn", "recheck")
def run(
    call: Call, prompts: PromptList, out: Out = None, lora: Lora = False, full: Full = False,
    fail: FailOn = None,
) -> None:  # fmt: skip
    """Detect, unlearn, re-check and report in one go. Run the same command again to resume."""
    call.given["unlearn"] |= weights(lora, full)
    fail_on(fail, chain(call, prompts, out))


def chain(call: Call, prompts: str, out: Path | None) -> int:
    """The four stages; returns how many prompts are memorized at the end."""
    detecting = call.settings(DetectSettings)
    unlearning = call.settings(UnlearnSettings, detecting.model)
    rechecking = call.settings(RecheckSettings, detecting.model)
    from memfix.flow import dry_run

    given = call.named(UnlearnSettings, unlearning.weights)
    dry_run.check(unlearning, given)
    if call.dry_run:
        show.detection_plan(call, prompts, detecting, {"unlearn": unlearning, "recheck": rechecking})
        return 0
    from memfix import flow

    opened = flow.detect(prompts, detecting, out, runs_root(), call.argv, call.talk)
    memorized = show.verdicts(call, opened, last=False)
    if flow.unlearn(opened, unlearning, call.argv, call.talk, given):
        memorized = sum(c.after.value == "memorized" for c in flow.recheck(opened, rechecking, call.argv, call.talk))
        show.changes(call, opened, last=False)
    show.reported(call, opened, flow.report(opened))
    return memorized
