"""`memfix demo`: the whole chain on the bundled model."""

from memfix.cli.options import Call, Out, command, fail_if_damaged
from memfix.cli.run import ROUNDS, chain
from memfix.cli.unlearn import Full, Lora, weights

EQUIVALENT = "memfix run demo -m demo --references demo --controls controls"


@command("detect", "unlearn", "recheck")
def demo(call: Call, out: Out = None, lora: Lora = False, full: Full = False) -> None:
    """Detect, unlearn, re-check and report on the bundled model, to see how it works: `memfix run demo -m demo …`."""
    call.given["unlearn"] |= weights(lora, full)
    flags = {"model": "demo", "references": "demo", "controls": "controls"}
    call.given["detect"] = {**flags, **{k: v for k, v in call.given["detect"].items() if v is not None}}
    call.talk.say(f"This does the same as `{EQUIVALENT}`.", "quiet")
    finished = chain(call, "demo", out, ROUNDS)
    call.talk.say("\nThe same, step by step, for your own model:", "title")
    for line in (
        "memfix detect prompts.txt -m MODEL --references DIR --controls controls.txt",
        f"memfix unlearn {'--full' if full else '--lora'}",
        "memfix recheck",
        "memfix report --open",
    ):
        call.talk.say(f"  {line}", "hint")
    fail_if_damaged(finished.changes if finished else ())
