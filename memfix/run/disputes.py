"""Samples of attacks that keep a prompt undecided, since a measure that does not decide calls them copies."""

from __future__ import annotations

from memfix.records import AttackResult, Change, DisputedSample, Outcome
from memfix.run.folder import Run
from memfix.run.outputs import ATTACK_RESULTS, CHANGES


def disputed_by_attacks(run: Run) -> list[DisputedSample]:
    """Those of the re-check that are open or judged; none before there is one.

    Where clean training images give as many, they decide nothing, and are left out until a person has spoken.
    """
    if not run.finished("recheck"):
        return []
    undecided = {c.prompt_id for c in run.read(CHANGES, Change) if c.outcome is Outcome.UNDECIDED}
    return [
        sample
        for result in run.read(ATTACK_RESULTS, AttackResult)
        for sample in result.doubtful
        if sample.score.judged is not None or result.prompt_id in undecided
    ]
