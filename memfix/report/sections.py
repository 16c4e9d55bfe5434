"""Further sections of the page, by name: what a run has to tell in each.

Adding one is a function and a row here, and `templates/sections/<name>.html.j2`, which prints what the function found.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from memfix.run.folder import Run


def left_out(run: Run) -> dict[str, Any] | None:
    """How much of what was given could not be read: no verdict is about it."""
    stage = run.header.stages.detect
    if stage is None or not stage.wrong_rows + stage.left_out_pictures:
        return None
    return {"rows": stage.wrong_rows, "pictures": stage.left_out_pictures}


SECTIONS: dict[str, Callable[[Run], dict[str, Any] | None]] = {"left_out": left_out}


def told(run: Run) -> dict[str, dict[str, Any]]:
    """What the sections have to tell, in their order; those with nothing are left out."""
    return {name: found for name, section in SECTIONS.items() if (found := section(run)) is not None}
