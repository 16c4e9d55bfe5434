"""`memfix report`: the findings of a run, for people."""

from __future__ import annotations

from pathlib import Path

from memfix.flow.new_weights import NewWeights
from memfix.report import build, card, html
from memfix.run.folder import MODEL, Run


def report(run: Run) -> Path:
    """Write report.json, report.html and the model card; the path of the page."""
    result = build.build(run)
    if run.finished("unlearn") and (run.path / MODEL).is_dir():
        rechecked = run.header.stages.recheck
        own = rechecked is not None and rechecked.inputs == NewWeights.of(run).inputs
        card.write_card(run.path / MODEL, result, own)
    return html.write_page(run.path, result)
