"""Further sections of the page, by name: what a run has to tell in each.

Adding one is a function and a row here, and `templates/sections/<name>.html.j2`, which prints what the function found.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from memfix.records import Arm, AttackResult, Version
from memfix.run.folder import Run


def left_out(run: Run) -> dict[str, Any] | None:
    """How much of what was given could not be read: no verdict is about it."""
    stage = run.header.stages.detect
    if stage is None or not stage.wrong_rows + stage.left_out_pictures:
        return None
    return {"rows": stage.wrong_rows, "pictures": stage.left_out_pictures}


def attacks(run: Run) -> dict[str, Any] | None:
    """Which attacks brought pictures back, beside what they force from clean ones, and which were not made."""
    stage = run.header.stages.recheck
    if stage is None or not run.finished("recheck"):
        return None
    results = run.read("after/attacks.jsonl", AttackResult)
    return {"rows": attack_rows(results), "left_out": stage.attacks_left_out, "controls": stage.control_pictures}


def attack_rows(results: Sequence[AttackResult]) -> list[dict[str, Any]]:
    """One row an attack: on each model and each arm, of how many pictures it got a copy."""
    rows: list[dict[str, Any]] = []
    for name in dict.fromkeys(r.attack for r in results):
        own = [r for r in results if r.attack == name and r.curve]
        arms = {
            f"{version}_{arm}": _brought_back([r for r in own if r.version is version and r.arm is arm])
            for version in Version
            for arm in Arm
        }
        rows.append({"attack": name, **arms})
    return rows


def _brought_back(results: Sequence[AttackResult]) -> dict[str, Any]:
    """Of how many pictures an attack got a copy, and after how much work the earliest came."""
    came = [r.last.work for r in results if r.succeeded and r.last]
    return {
        "came": len(came), "tried": len(results), "earliest": min(came) if came else None,
        "unit": results[0].unit if results else "",
    }  # fmt: skip


SECTIONS: dict[str, Callable[[Run], dict[str, Any] | None]] = {"attacks": attacks, "left_out": left_out}


def told(run: Run) -> dict[str, dict[str, Any]]:
    """What the sections have to tell, in their order; those with nothing are left out."""
    return {name: found for name, section in SECTIONS.items() if (found := section(run)) is not None}
