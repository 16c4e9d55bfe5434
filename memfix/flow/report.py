"""`memfix report`: the findings of a run, for people."""

from __future__ import annotations

from pathlib import Path

from memfix.flow.new_weights import NewWeights
from memfix.report import build, card, html
from memfix.run.folder import Run
from memfix.run.outputs import MODEL


def report(run: Run, out: Path | None = None) -> Path:
    """Write report.json, report.html and the model card, to the run or to the folder `out`; the path of the page.

    Raises MemfixError where anything that it tells of is not what it was when its stage ended.
    """
    run.require_intact("detect", "unlearn", "recheck")
    rechecked, has_own = run.header.stages.recheck, run.finished("unlearn") and (run.path / MODEL).is_dir()
    own = rechecked is not None and has_own and rechecked.inputs.of_same_weights(NewWeights.of(run).inputs)
    result = build.build(run)
    build.write_report(out or run.path, result)
    if has_own:
        card.write_card(out or run.path / MODEL, result, own)
    return html.write_page(out or run.path, result, run.path)
