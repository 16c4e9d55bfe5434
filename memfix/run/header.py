"""The header of a run, `run.json`: which stages ran, with what settings and inputs, and what they found out.

`memfix schema --run` prints it as JSON schema.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from memfix.config.base import Settings
from memfix.config.checks import DetectSettings, RecheckSettings
from memfix.config.unlearn import UnlearnSettings
from memfix.findings import (
    BackgroundRecord,
    DesignRecord,
    KnownCopies,
    RuleRecord,
    ScreeningRecord,
    SearchRecord,
    SourceRecord,
    WeightsRecord,
    WitnessRecord,
)
from memfix.records import Ending, Round
from memfix.run.environment import Environment
from memfix.run.inputs import DetectInputs, Inputs, RecheckInputs, UnlearnInputs

SCHEMA_VERSION: Literal[2] = 2

Status = Literal["started", "finished", "failed", "cancelled"]


class HeaderPart(BaseModel):
    """Base of what a header is made of. Unlike records, it changes while a stage runs."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)


class Stage(HeaderPart):
    """What is recorded of any stage."""

    settings: Settings = Field(description="settings in force, whoever gave them")
    inputs: Inputs = Field(description="what the stage read, by content")
    status: Status = Field("started", description="whether it runs or how it ended, when it was begun last")
    argv: list[str] = Field(default_factory=list, description="the command line, without the word memfix")
    started: str = Field("", description="when it was begun last, UTC, as in ISO 8601")
    ended: str | None = Field(None, description="when it ended, UTC; none while it runs")
    timings: dict[str, float] = Field(default_factory=dict, description="seconds of wall time, by part of the work")
    seal: dict[str, str] = Field(
        default_factory=dict,
        description="once it has ended: what it left behind → digest of that; run.json: of what is said here",
    )
    counts: dict[str, int] = Field(
        default_factory=dict,
        description="of what it left behind: files of a folder, lines of a .jsonl; empty in runs of an earlier time",
    )


class Session(HeaderPart):
    """One time that a stage worked: each command that made a part of it has its own."""

    stage: str = Field(description="which stage, by name")
    argv: list[str] = Field(description="the command line, without the word memfix")
    started: str = Field(description="when it began, UTC, as in ISO 8601")
    ended: str | None = Field(None, description="when it ended, UTC; none while it runs, and where it was killed")
    status: Status = Field("started", description="how it ended; started where it was killed")
    environment: Environment = Field(description="versions and machine")
    discarded: bool = Field(False, description="whether what the stage had then was discarded later, by --overwrite")


class DetectStage(Stage):
    """The first check."""

    settings: DetectSettings = Field(description="settings of the first check")
    inputs: DetectInputs = Field(description="prompts, model, references and measures, by content")
    rule: RuleRecord | None = Field(None, description="when a sample is a copy; none before it is settled")
    medoids: bool = Field(False, description="no training image was given: samples of a prompt stand in for one")
    background: BackgroundRecord | None = Field(None, description="how near unrelated references are to each other")
    known_copies: list[KnownCopies] = Field(
        default_factory=list, description="what the rule sees of references that were altered, by kind of alteration"
    )
    witnesses: list[WitnessRecord] = Field(
        default_factory=list, description="measures that do not decide, and may dispute that a sample is no copy"
    )
    reference_detail: tuple[float, float] | None = Field(
        None, description="range of detail of training images, which samples may have too; none if they are too few"
    )
    weights: dict[str, WeightsRecord] = Field(default_factory=dict, description="by name of the measure they are of")
    drawn: bool = Field(
        False, description="whether witnesses and structure saw references as the model's autoencoder draws them"
    )
    wrong_rows: int = Field(0, description="rows of prompt lists and tables that were left out")
    left_out_pictures: int = Field(0, description="references that could not be read and were left out")
    sources: dict[str, SourceRecord] = Field(
        default_factory=dict,
        description="prompts, controls and references: what was seen in each, used, and passed over",
    )
    loaded_by: str | None = Field(
        None, description="class of diffusers that loads the model, as the model card tells; none before it is loaded"
    )
    sampling_doubt: str = Field(
        "",
        description="why samples are not what users of the model see, so that copies may be missed; empty if they are",
    )
    design: DesignRecord | None = Field(
        None,
        description="after how many samples a prompt was judged, and by how many copies; none before it is settled",
    )
    search: SearchRecord | None = Field(
        None, description="how the nearest reference of a sample was found; none without references"
    )
    screening: ScreeningRecord | None = Field(None, description="none without a screen")
    described_sha256: str | None = Field(
        None, description="of what the references were described as, references.safetensors; none of an index"
    )
    references_sha256: str | None = Field(
        None, description="of the contents of the references in references.jsonl, of an index those that came up"
    )


class UnlearnStage(Stage):
    """The fine-tuning."""

    settings: UnlearnSettings = Field(description="settings of the fine-tuning")
    inputs: UnlearnInputs = Field(description="pictures of the user's own, by content")
    variant_kinds: list[str] | None = Field(
        None, description="variants of prompts that keep images could be sampled from"
    )
    copied_besides: dict[str, str] = Field(
        default_factory=dict,
        description="prompts that the list does not have and that gave copies, or disputed samples, before training, "
        "and the training image of each",
    )
    ending: Ending | None = Field(None, description="how training ended")
    endings: dict[str, Ending] = Field(default_factory=dict, description="of adapters trained apart, by prompt id")
    rounds: list[Round] = Field(
        default_factory=list, description="earlier re-checks that the training went on from, the first one first"
    )
    weights_sha256: str | None = Field(
        None,
        description="of the new weights: of the adapter's file, as sha256sum prints it, or of a model's weight files; "
        "none in old runs",
    )
    config_sha256: str | None = Field(
        None, description="of the other files of a model with new weights; none of an adapter, and in old runs"
    )
    peak_memory_bytes: int | None = Field(
        None, description="most memory that was in use at once, of the accelerator or of the process; none if not known"
    )


class RecheckStage(Stage):
    """The second check."""

    settings: RecheckSettings = Field(description="settings of the second check")
    inputs: RecheckInputs = Field(description="the weights that were checked, by content")
    checked: str = Field("", description="which weights: the run's own, or the paths that were given")
    own: bool = Field(False, description="whether these were the weights that the run's unlearning had made")
    attacks: list[str] = Field(default_factory=list, description="attacks that were made, by name")
    attacks_trained_against: list[str] = Field(
        default_factory=list,
        description="those of them that the unlearning had adversarial steps against, or that ended its training",
    )
    attacks_left_out: list[str] = Field(default_factory=list, description="those that memfix knows and did not make")
    control_pictures: int = Field(0, description="clean training images that were attacked as well")
    weights_doubt: str = Field(
        "",
        description="why samples of these weights are not what their users see, so that copies may be missed; empty if "
        "they are",
    )


class Stages(HeaderPart):
    """The stages that were begun."""

    detect: DetectStage | None = Field(None, description="the first check; none if it was not begun")
    unlearn: UnlearnStage | None = Field(None, description="the fine-tuning; none if it was not begun")
    recheck: RecheckStage | None = Field(None, description="the second check; none if it was not begun")

    def begun(self) -> dict[str, Stage]:
        """Name → record of each stage that was begun, in order."""
        found = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: stage for name, stage in found.items() if stage is not None}

    @property
    def doubt(self) -> str:
        """Why no copies say little in this run: its samples are not what users of the model see. Empty if they are."""
        told = [self.detect.sampling_doubt if self.detect else "", self.recheck.weights_doubt if self.recheck else ""]
        return " ".join(dict.fromkeys(filter(None, told)))

    @property
    def copied_besides(self) -> Mapping[str, str]:
        """Prompts that nobody asked for and that are known to copy, and the training image of each."""
        return self.unlearn.copied_besides if self.unlearn else {}


S = TypeVar("S", bound=Stage)
STAGE_NAMES: dict[type[Stage], str] = {DetectStage: "detect", UnlearnStage: "unlearn", RecheckStage: "recheck"}


class Header(HeaderPart):
    """All of `run.json`."""

    schema_version: Literal[2] = Field(SCHEMA_VERSION, description="version of this header's fields")
    status: Status = Field("started", description="whether the stage that was begun last runs, or how it ended")
    created: str = Field(description="when the run was made, UTC, as in ISO 8601")
    environment: Environment | None = Field(None, description="versions and machine of the stage that ran last")
    stages: Stages = Field(default_factory=Stages, description="the stages that were begun")
    history: list[Session] = Field(
        default_factory=list, description="every time that a stage worked, oldest first; empty in old runs"
    )
    amended: list[str] = Field(
        default_factory=list,
        description="files that a review or a re-check made anew, and that are yet to take their place",
    )
    sha256: str | None = Field(None, description="of all else that is said here; none in runs of an earlier time")

    def dump(self) -> dict[str, Any]:
        """As it is written."""
        return self.model_dump(mode="json")

    @property
    def must_be_sealed(self) -> bool:
        """Whether a header that says this has a digest of itself."""
        return bool(self.sha256 or self.history or any(s.counts for s in self.stages.begun().values()))


def checksum(told: Mapping[str, Any]) -> str:
    """The digest of what a header says, as it was written or read."""
    rest = {name: value for name, value in told.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
