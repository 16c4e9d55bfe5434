"""`memfix doctor RUN`: whether all that a run's stages left behind is as it was when they ended."""

from __future__ import annotations

from typing import NamedTuple

from memfix.console import counted
from memfix.files import require_no_links
from memfix.run.folder import Run
from memfix.run.header import Stages
from memfix.run.outputs import SEALED, UNREAD, list_of


class StageHealth(NamedTuple):
    """What was found of a stage; `changed` are its files that are not what they were, are gone, or are new."""

    stage: str
    status: str
    """Empty where it was not begun."""
    files: int
    """0 where it did not end, and in runs of an earlier time, which do not say."""
    changed: list[str]

    @property
    def sentence(self) -> str:
        """The same in words."""
        if self.changed:
            return f"changed since it ended: {', '.join(self.changed)}"
        if self.status != "finished":
            return f"{self.status}: the same command goes on with it" if self.status else "not begun"
        return f"as it was when it ended: {counted(self.files, 'file')}" if self.files else "as it was when it ended"


def health(run: Run) -> list[StageHealth]:
    """Read every file that stages left behind, also those that decide nothing any more."""
    require_no_links(run.path)
    begun, found = run.header.stages.begun(), list[StageHealth]()
    for stage in Stages.model_fields:
        entry = begun.get(stage)
        names = (*SEALED[stage], *UNREAD[stage], list_of(stage))
        files = entry.counts.get(list_of(stage), 0) if entry else 0
        found.append(StageHealth(stage, entry.status if entry else "", files, run.changed(stage, names)))
    return found
