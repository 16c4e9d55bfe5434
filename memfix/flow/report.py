"""`memfix report`: the findings of a run, for people."""

from __future__ import annotations

from pathlib import Path

from memfix.errors import ExitCode, MemfixError
from memfix.report import build, card, html
from memfix.run.folder import Run
from memfix.run.inputs import RecheckInputs
from memfix.run.outputs import HEADER, MODEL


def report(run: Run, out: Path | None = None) -> Path:
    """Write report.json, report.html and the model card, to the run or to the folder `out`; the path of the page.

    Raises MemfixError where anything that it tells of is not what it was when its stage ended, and for an `out` inside
    of a run, whose files are known by their digests.
    """
    if out is not None:
        _require_outside_of_runs(out)
    run.require_intact("detect", "unlearn", "recheck")
    rechecked, has_own = run.header.stages.recheck, run.finished("unlearn") and (run.path / MODEL).is_dir()
    own = rechecked is not None and has_own and rechecked.inputs.of_same_weights(_own_weights(run))
    result = build.build(run)
    build.write_report(out or run.path, result)
    if has_own:
        card.write_card(out or run.path / MODEL, result, own)
    return html.write_page(out or run.path, result, run.path)


def _require_outside_of_runs(out: Path) -> None:
    for folder in out.resolve().parents:
        if (folder / HEADER).is_file():
            raise MemfixError(
                f"{out} is a folder of the run {folder}, whose files must stay what they are.",
                "Give a folder elsewhere to -o, or leave it out.",
                ExitCode.USAGE,
            )


def _own_weights(run: Run) -> RecheckInputs:
    """What identifies the weights that the run's unlearning made, which are what they were when it ended."""
    made = run.header.stages.unlearn
    if made and made.weights_sha256:
        return RecheckInputs(weights_sha256=made.weights_sha256, config_sha256=made.config_sha256)
    from memfix.flow.new_weights import NewWeights  # of a run of an earlier time, whose header does not tell

    return NewWeights.of(run).inputs
