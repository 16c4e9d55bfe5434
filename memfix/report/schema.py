"""The stable contract of report.json. `memfix schema` prints it as JSON schema."""

from __future__ import annotations

from typing import Any

from pydantic import Field, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from memfix.config.unlearn import UnlearnSettings
from memfix.findings import BackgroundRecord
from memfix.records import (
    AttackResult,
    Damage,
    EndingNumbers,
    Kind,
    Label,
    Outcome,
    Part,
    Record,
    Rewording,
    Role,
    Round,
    ValidationNumbers,
    Yield,
)
from memfix.report import sections
from memfix.report.next_steps import NextStep
from memfix.run.environment import Environment
from memfix.run.header import Session, Stages, Status


class Picture(Record):
    """An image in or beside the run folder. `path` is relative to the run folder, or absolute for references."""

    path: str = Field(description="relative to the run folder, or absolute for references")
    seed: int | None = Field(None, description="seed of the noise that a sample began with; none of a reference")
    condition: str | None = Field(
        None, description="what a sample was sampled under, for instance `same` or `fresh` noise; none of a reference"
    )
    copy_: bool | None = Field(
        None, alias="copy", description="whether a sample is a copy of a reference; none of a reference"
    )
    part: Part | None = Field(None, description="the part that is copied, if the picture as a whole is no copy")
    members: int = Field(
        1, description="how many near-copies among the references this picture represents, itself included"
    )
    measures: dict[str, float] = Field(
        default_factory=dict, description="name of a measure → its value for the sample and its nearest reference"
    )


class Disputed(Record):
    """A sample that is no copy by the rule, and is one by another measure; of a prompt that other samples do not make
    memorized. For a person to judge."""

    prompt_id: str = Field(description="of the prompt that it was sampled under")
    text: str = Field(description="of that prompt")
    sample: Picture = Field(description="the sample, with the measures on the reference that is nearest by the search")
    reference: Picture = Field(description="the reference that the witness finds nearest")
    witness: str = Field(description="the measure that calls it a copy, by name")
    value: float = Field(description="value of that measure for the two")
    threshold: float = Field(description="value past which that measure calls a sample a copy")
    judged: bool | None = Field(None, description="whether a person said that it is a copy; none if nobody has")
    by: str | None = Field(None, description="who said so")


class VerdictNumbers(Record):
    """What a verdict on a prompt rests on."""

    copies: int = Field(description="samples that are copies of a reference")
    samples: int = Field(description="samples that were judged")
    share: float = Field(description="share of copies among these samples, 0 to 1")
    interval: tuple[float, float] = Field(description="interval of the true share of copies, at the run's confidence")
    measure: str = Field(description="the measure that decides, by name")
    threshold: float = Field(description="value of the measure past which a sample is a copy")
    threshold_source: str | None = Field(description="where that threshold comes from")
    closest: float | None = Field(description="value of the measure for the closest sample; none without samples")
    common_area: float | None = Field(
        description="share of the picture in which the copies agree, 0 to 1; none without copies"
    )
    disputed: int = Field(0, description="samples that are no copies by the rule, and are by another measure")


class PromptEntry(Record):
    """One prompt, before and after."""

    id: str = Field(description="of the prompt in its run")
    text: str = Field(description="what the model is given")
    role: Role = Field(description="a prompt of the list, or a control that must not change")
    source: str = Field(description="file and line that it was read from")
    cut_tokens: int = Field(description="tokens past the limit of the text encoder, which the model never sees")
    verdict_before: Label = Field(description="verdict of the first check")
    verdict_after: Label | None = Field(description="verdict of the re-check; none before a re-check")
    outcome: Outcome | None = Field(description="what became of the prompt; none before a re-check")
    reason: str = Field(description="why the outcome is what it is, or the verdict before a re-check")
    next_step: NextStep | None = Field(
        None, description="what to try where the prompt is not mitigated; none where nothing is to be mended"
    )
    kind: Kind | None = Field(description="what the copies before have in common with the references")
    sampled: bool = Field(description="False if the prompt was not sampled because a screen estimates that it is clean")
    scores_before: VerdictNumbers = Field(description="counts and numbers behind the verdict of the first check")
    scores_after: VerdictNumbers | None = Field(description="those of the re-check; none before a re-check")
    background: BackgroundRecord | None = Field(description="how similar unrelated training images are to each other")
    damage: Damage | None = Field(None, description="what became of the samples; none before a re-check")
    wording: str | None = Field(None, description="the shorter text that the unlearned model reads the prompt as")
    copies_reworded: int | None = Field(
        None, description="copies under that wording; the other counts are of the weights without it"
    )
    samples_reworded: int | None = Field(None, description="samples under that wording")
    attacks: list[AttackResult] = Field(default_factory=list, description="attacks on the unlearned weights")
    clip_score_before: float | None = Field(
        None,
        description="clip_score: mean cosine of samples and prompt by CLIP, with --clip-score; not used to decide on "
        "copies",
    )
    clip_score_after: float | None = Field(None, description="the same after unlearning")
    references: list[Picture] = Field(
        description="what the samples show: the reference of the verdict first, then those that copies show"
    )
    samples_before: list[Picture] = Field(description="samples of the first check")
    samples_after: list[Picture] = Field(description="samples of the re-check; empty before a re-check")


class Summary(Record):
    """The numbers on the first page; those of the re-check are none before one.

    Intervals are exact binomial (Clopper-Pearson, 95 %).
    """

    prompts: int = Field(description="prompts of the list, without controls")
    memorized_before: int = Field(description="prompts that the first check found memorized")
    clean_before: int = Field(description="prompts that the first check calls clean")
    clean_sampled: int = Field(description="prompts of clean_before that were sampled and found clean")
    not_sampled: int = Field(
        description="the other prompts of clean_before: not sampled, clean by estimate of a screen"
    )
    undecided_before: int = Field(description="prompts that the first check could not decide")
    disputed: int = Field(
        0, description="samples of both checks that are copies by another measure only, and that nobody has judged"
    )
    memorized_after: int | None = Field(description="prompts that the re-check found memorized")
    mitigated: int | None = Field(description="memorized prompts that no longer reproduce a training image")
    persistent: int | None = Field(description="memorized prompts that still reproduce a training image")
    hidden: int | None = Field(
        description="memorized prompts that an attack, or taking a rewording off, brings a training image back from"
    )
    damaged: int | None = Field(description="memorized prompts whose samples are damaged, so that nothing is proven")
    undecided: int | None = Field(description="prompts that the re-check could not decide")
    mitigation_rate: float | None = Field(
        description="share of the memorized prompts that are mitigated, 0 to 1; none without memorized prompts"
    )
    mitigation_rate_interval: tuple[float, float] | None = Field(description="exact 95 % interval of that share")
    copies_before: float = Field(description="share of copies in all samples of memorized prompts")
    copies_after: float | None = Field(
        description="share of copies in samples of the same prompts from fresh seeds, after unlearning"
    )
    copies_left: int | None = Field(
        None, description="copies in all of their samples after unlearning, from any noise, also as they are reworded"
    )
    samples_left: int | None = Field(None, description="how many samples these are")
    controls: int = Field(description="prompts that must not change")
    controls_memorized: int = Field(description="controls that were memorized before unlearning")
    controls_undecided: int = Field(description="controls that were undecided before unlearning")
    controls_changed: int | None = Field(description="controls whose outcome is another than unchanged")
    harmed: int | None = Field(description="controls and other prompts that must not change, and are damaged")
    newly_memorized: int | None = Field(description="prompts and controls that were not memorized before, and are now")
    attacks: int | None = Field(description="attacks that were made on the unlearned weights")
    known_attacks: int | None = Field(
        description="those among them that the unlearning had adversarial steps against, or that ended its training"
    )
    reworded: int | None = Field(description="mitigated prompts that the model reads as a shorter wording")
    control_drift: float | None = Field(
        description="mean rms difference of the controls' samples before and after, from the same noise, 0 to 1"
    )
    quality_before: float = Field(description="share of samples whose detail is in the range of the original model")
    quality_after: float | None = Field(description="the same after unlearning")
    control_clip_score_before: float | None = Field(
        None, description="mean clip_score of the controls (cosine of samples and prompt by CLIP), with --clip-score"
    )
    control_clip_score_after: float | None = Field(None, description="the same after unlearning")


class ReportedRun(Record):
    """The run: its name, and what its header records of each stage."""

    name: str = Field(description="name of the run folder")
    created: str = Field(description="when the run was made, UTC, as in ISO 8601")
    status: Status = Field(description="whether the stage that was begun last runs, or how it ended")
    stages: Stages = Field(description="the stages that were begun, as in run.json")
    history: list[Session] = Field(
        default_factory=list, description="every time that a stage worked, oldest first; empty in old runs"
    )
    unlearned: bool = Field(description="whether an unlearning ran to its end")
    rechecked: bool = Field(description="whether a re-check ran to its end")


class KindYield(Record):
    """What one kind of variant gave over all memorized prompts that it was tried for."""

    kind: str = Field(description="kind of variant, by name")
    prompts: int = Field(description="memorized prompts that it was tried for")
    served: int = Field(description="those of them that it gave a keep image")
    samples: int = Field(description="samples of its variants")
    kept: int = Field(description="samples that became keep images")
    near_copies: int = Field(description="samples that were too close to a reference to be kept")
    copies: int = Field(description="samples that were copies of a reference")
    by_prompt: list[Yield] = Field(description="the same for each prompt")


class ReportedEnding(EndingNumbers):
    """How training ended, in words too."""

    good: bool | None = Field(description="whether validations found nothing wrong; none without validations")
    sentence: str = Field(description="how it ended, in a sentence")


class AdapterEnding(ReportedEnding):
    """How the training of an adapter for one prompt ended."""

    prompt_id: str = Field(description="of the memorized prompt")


class ReportedValidation(ValidationNumbers):
    """A validation, with its sums."""

    total: int = Field(description="copies in all samples of all targets")
    drawn: int = Field(description="samples of all targets")


class ReportedTraining(Record):
    """How the weights were unlearned."""

    settings: UnlearnSettings = Field(description="settings of the fine-tuning")
    steps: int = Field(description="optimizer steps that were made")
    seconds: float = Field(description="wall time of these steps, without validations")
    adversarial_steps: int = Field(0, description="further steps that were made against an attack on embeddings")
    adversarial_seconds: float = Field(0.0, description="wall time of these")
    targets: int = Field(description="prompts that were unlearned")
    pairs: dict[str, int] = Field(description="side and origin of pictures → how many were trained on")
    kinds: list[KindYield] = Field(description="kinds of variants that keep images were sampled from, in that order")
    rewordings: list[Rewording] = Field(description="prompts without own pictures to keep, and what they are read as")
    rounds: list[Round] = Field(
        default_factory=list, description="earlier re-checks that the training went on from, the first one first"
    )
    ending: ReportedEnding | None = Field(description="how training ended; none where there is nothing to tell")
    endings: list[AdapterEnding] = Field(description="the same of adapters that were trained apart")
    validations: list[ReportedValidation] = Field(description="what samples showed during training, in order of steps")
    adversarial_validations: list[ReportedValidation] = Field(
        default_factory=list, description="the same of adversarial steps, half of the samples under an attack"
    )
    loss_keep: list[float] = Field(description="keep loss of each step, summed over a latent")
    loss_forget: list[float] = Field(description="forget loss of each step that forgot anything, summed over a latent")


class Report(Record):
    """Everything the HTML shows."""

    schema_version: int = Field(1, description="version of this report's fields")
    run: ReportedRun = Field(description="the run: its name, and what its header records of each stage")
    summary: Summary = Field(description="the numbers on the first page")
    prompts: list[PromptEntry] = Field(description="prompts of the list, in its order")
    controls: list[PromptEntry] = Field(description="prompts that must not change, in the order of their list")
    disputed: list[Disputed] = Field(
        default_factory=list, description="samples that are no copies by the rule, and are by another measure"
    )
    training: ReportedTraining | None = Field(description="how the weights were unlearned; none before that")
    # Open-ended, so that a section is a row of SECTIONS and a template, and this file does not change with it. What a
    # section tells is a record there, whose fields are in the JSON schema all the same.
    sections: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="by name, what further sections of the page tell; those with nothing to tell are left out",
    )
    timings: dict[str, float] = Field(description="seconds of wall time, by stage and part of its work")
    environment: Environment | None = Field(description="versions and machine of the stage that ran last")

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The JSON schema, in which each section that there is has its own fields."""
        schema = handler(core_schema)
        handler.resolve_ref_schema(schema)["properties"]["sections"]["properties"] = {
            name: handler(section.told.__pydantic_core_schema__) for name, section in sections.SECTIONS.items()
        }
        return schema
