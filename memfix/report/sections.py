"""Further sections of the page, by name: what a run has to tell in each.

Adding one is a record, a function and a row here, and `templates/sections/<name>.html.j2`, which prints what the
function found.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from pydantic import Field

from memfix.findings import SourceRecord
from memfix.records import Arm, AttackResult, Record, Version
from memfix.run.folder import Run
from memfix.run.outputs import ATTACK_RESULTS


class LeftOut(Record):
    """How much of what was given could not be read."""

    rows: int = Field(description="rows of prompt lists and tables")
    pictures: int = Field(description="reference images")


class SourcesTold(Record):
    """What was seen in each source of prompts and training images, and what became of it."""

    sources: dict[str, SourceRecord] = Field(description="prompts, controls and references, as in run.json")


class BroughtBack(Record):
    """Of how many training images an attack got a copy from one model."""

    came: int = Field(description="training images that a copy came of")
    tried: int = Field(description="training images that were attacked")
    earliest: int | None = Field(description="least work after which a copy came; none if none came")
    unit: str = Field(description="what work is counted in; empty if none was attacked")


class AttackRow(Record):
    """What one attack got, of memorized and of clean training images, from both models."""

    attack: str = Field(description="by name")
    before_target: BroughtBack = Field(description="memorized training images, from the original model")
    before_control: BroughtBack = Field(description="clean training images, from the original model")
    after_target: BroughtBack = Field(description="memorized training images, from the unlearned model")
    after_control: BroughtBack = Field(description="clean training images, from the unlearned model")


class AttacksTold(Record):
    """Which attacks brought pictures back, and which were not made."""

    rows: list[AttackRow] = Field(description="attacks that were made, in their order")
    left_out: list[str] = Field(description="attacks that memfix knows and that were not made")
    controls: int = Field(description="clean training images that were attacked as well")


def left_out(run: Run) -> LeftOut | None:
    """How much of what was given could not be read: no verdict is about it."""
    stage = run.header.stages.detect
    if stage is None or not stage.wrong_rows + stage.left_out_pictures:
        return None
    return LeftOut(rows=stage.wrong_rows, pictures=stage.left_out_pictures)


def sources(run: Run) -> SourcesTold | None:
    """What was seen in each source; nothing of runs from a time when that was not counted."""
    stage = run.header.stages.detect
    return SourcesTold(sources=stage.sources) if stage and stage.sources else None


def attacks(run: Run) -> AttacksTold | None:
    """Which attacks brought pictures back, beside what they force from clean ones, and which were not made."""
    stage = run.header.stages.recheck
    if stage is None or not run.finished("recheck"):
        return None
    results = run.read(ATTACK_RESULTS, AttackResult)
    return AttacksTold(
        rows=attack_rows(results), left_out=stage.attacks_left_out, controls=stage.control_pictures
    )  # fmt: skip


def attack_rows(results: Sequence[AttackResult]) -> list[AttackRow]:
    """One row per attack: on each model and each arm, of how many pictures it got a copy."""
    rows: list[AttackRow] = []
    for name in dict.fromkeys(r.attack for r in results):
        own = [r for r in results if r.attack == name and r.curve]
        arms = {
            f"{version}_{arm}": _brought_back([r for r in own if r.version is version and r.arm is arm])
            for version in Version
            for arm in Arm
        }
        rows.append(AttackRow(attack=name, **arms))
    return rows


def _brought_back(results: Sequence[AttackResult]) -> BroughtBack:
    """Of how many pictures an attack got a copy, and after how much work the earliest came."""
    came = [r.last.work for r in results if r.succeeded and r.last]
    return BroughtBack(
        came=len(came), tried=len(results), earliest=min(came, default=None), unit=results[0].unit if results else ""
    )


class Section(NamedTuple):
    """A row of the table."""

    told: type[Record]
    """What the section tells; its fields are in the JSON schema of the report."""
    tell: Callable[[Run], Record | None]


SECTIONS = {
    "attacks": Section(AttacksTold, attacks),
    "left_out": Section(LeftOut, left_out),
    "sources": Section(SourcesTold, sources),
}


def told(run: Run) -> dict[str, dict[str, Any]]:
    """What the sections have to tell, in their order; those with nothing are left out."""
    found = {name: section.tell(run) for name, section in SECTIONS.items()}
    return {name: record.model_dump(mode="json") for name, record in found.items() if record is not None}
