"""The header of a run, `run.json`: which stages ran, with what settings and inputs, and what they found out.

`memfix schema --run` prints it as JSON schema.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from memfix.config.base import Settings
from memfix.config.checks import DetectSettings, RecheckSettings
from memfix.config.unlearn import UnlearnSettings
from memfix.findings import BackgroundRecord, DesignRecord, RuleRecord, ScreeningRecord, SearchRecord, WeightsRecord
from memfix.records import Ending
from memfix.run.environment import Environment
from memfix.run.inputs import DetectInputs, Inputs, RecheckInputs, UnlearnInputs

SCHEMA_VERSION: Literal[2] = 2

Status = Literal["started", "finished", "failed", "cancelled"]


class HeaderPart(BaseModel):
    """Base of what a header is made of. Unlike records, it changes while a stage runs."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)


class Stage(HeaderPart):
    """What is recorded of any stage."""

    settings: Settings
    inputs: Inputs
    status: Status = "started"
    argv: list[str] = Field(default_factory=list, description="the command line")
    started: str = Field("", description="UTC")
    ended: str | None = None
    timings: dict[str, float] = Field(default_factory=dict, description="seconds")


class DetectStage(Stage):
    """The first check."""

    settings: DetectSettings
    inputs: DetectInputs
    rule: RuleRecord | None = Field(None, description="when a sample is a copy; none before it is settled")
    medoids: bool = Field(False, description="no training image was given: samples of a prompt stand in for one")
    background: BackgroundRecord | None = Field(None, description="how near unrelated references are to each other")
    weights: dict[str, WeightsRecord] = Field(default_factory=dict, description="by name of the measure they are of")
    wrong_rows: int = Field(0, description="rows of prompt lists and tables that were left out")
    left_out_pictures: int = Field(0, description="references that could not be read and were left out")
    design: DesignRecord | None = None
    search: SearchRecord | None = None
    screening: ScreeningRecord | None = Field(None, description="none without a screen")
    described_sha256: str | None = Field(
        None, description="of what the references were described as, references.safetensors; none of an index"
    )
    references_sha256: str | None = Field(
        None, description="of the contents of the references in references.jsonl, once they are written down"
    )
    found: str | None = Field(None, description="digest of its samples, scores and verdicts, once they are all there")


class UnlearnStage(Stage):
    """The fine-tuning."""

    settings: UnlearnSettings
    inputs: UnlearnInputs
    variant_kinds: list[str] | None = Field(
        None, description="variants of prompts that keep images could be sampled from"
    )
    ending: Ending | None = Field(None, description="how training ended")
    endings: dict[str, Ending] = Field(default_factory=dict, description="of adapters trained apart, by prompt id")
    peak_memory_bytes: int | None = None


class RecheckStage(Stage):
    """The second check."""

    settings: RecheckSettings
    inputs: RecheckInputs
    checked: str = Field("", description="which weights: the run's own, or the paths that were given")
    own: bool = Field(False, description="whether these were the weights that the run's unlearning had made")
    attacks: list[str] = Field(default_factory=list, description="attacks that were made, by name")
    attacks_trained_against: list[str] = Field(
        default_factory=list, description="those of them that the unlearning had adversarial steps against"
    )
    attacks_left_out: list[str] = Field(default_factory=list, description="those that memfix knows and did not make")
    control_pictures: int = Field(0, description="clean training images that were attacked as well")


class Stages(HeaderPart):
    """The stages that were begun."""

    detect: DetectStage | None = None
    unlearn: UnlearnStage | None = None
    recheck: RecheckStage | None = None

    def begun(self) -> dict[str, Stage]:
        """Name → record of each stage that was begun, in order."""
        found = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: stage for name, stage in found.items() if stage is not None}


S = TypeVar("S", bound=Stage)
STAGES: dict[type[Stage], str] = {DetectStage: "detect", UnlearnStage: "unlearn", RecheckStage: "recheck"}


class Header(HeaderPart):
    """All of `run.json`."""

    schema_version: Literal[2] = SCHEMA_VERSION
    status: Status = "started"
    created: str
    environment: Environment | None = Field(None, description="of the stage that ran last")
    stages: Stages = Field(default_factory=Stages)

    def dump(self) -> dict[str, Any]:
        """As it is written."""
        return self.model_dump(mode="json")
