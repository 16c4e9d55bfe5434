"""`memfix report`: the findings of a run, for people."""

from __future__ import annotations

from pathlib import Path

from memfix.errors import MemfixError
from memfix.flow.new_weights import NewWeights
from memfix.report import build, card, html
from memfix.run.folder import MODEL, Run


def report(run: Run) -> Path:
    """Write report.json, report.html and the model card; the path of the page.

    Raises MemfixError where the run's own weights were re-checked, and are others now.
    """
    rechecked, has_own = run.header.stages.recheck, run.finished("unlearn") and (run.path / MODEL).is_dir()
    own = rechecked is not None and has_own and rechecked.inputs.of_same_weights(NewWeights.of(run).inputs)
    if rechecked and rechecked.own and has_own and not own:
        raise MemfixError(
            f"The weights in {run.path / MODEL} are not those that were re-checked.",
            f"Put them back, or check what is there now: memfix recheck {run.path} --overwrite",
        )
    result = build.build(run)
    if has_own:
        card.write_card(run.path / MODEL, result, own)
    return html.write_page(run.path, result)
