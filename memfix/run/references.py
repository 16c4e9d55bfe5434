"""The references of a run, as its detection wrote them down."""

from __future__ import annotations

from memfix.records import Reference
from memfix.run.folder import Run
from memfix.run.outputs import BEFORE

FILE = "references.jsonl"


def recorded_references(run: Run) -> list[Reference]:
    """All of them, or of an index those that came up. Medoids are samples of the run, wherever that lies by now."""
    found, detected = run.read(FILE, Reference), run.header.stages.detect
    if detected is None or not detected.medoids:
        return found
    own = run.path.resolve() / BEFORE
    return [r.model_copy(update={"path": str(own / r.file_name)}) for r in found]
