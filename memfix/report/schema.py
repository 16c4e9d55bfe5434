"""The stable contract of report.json. `memfix schema` prints it as JSON schema."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from memfix.records import AttackResult, Damage, Kind, Label, Outcome, Part, Record, Role


class Picture(Record):
    """An image in or beside the run folder. `path` is relative to the run folder, or absolute for references."""

    path: str
    seed: int | None = None
    condition: str | None = None
    copy_: bool | None = Field(None, alias="copy")
    part: Part | None = Field(None, description="the part that is copied, if the picture as a whole is no copy")
    members: int = Field(
        1, description="how many near-copies among the references this picture represents, itself included"
    )
    measures: dict[str, float] = Field(default_factory=dict)


class PromptEntry(Record):
    """One prompt, before and after.

    `scores_*` hold share, interval, copies, samples, the closest value of the measure, its threshold, and where that
    comes from.
    """

    id: str
    text: str
    role: Role
    source: str
    cut_tokens: int
    verdict_before: Label
    verdict_after: Label | None
    outcome: Outcome | None
    reason: str
    kind: Kind | None = Field(description="what the copies before have in common with the references")
    sampled: bool = Field(description="False if the prompt was not sampled because a screen estimates that it is clean")
    scores_before: dict[str, Any]
    scores_after: dict[str, Any]
    background: dict[str, Any] | None = Field(description="how similar unrelated training images are to each other")
    damage: Damage | None = Field(None, description="what became of the samples; none before a re-check")
    wording: str | None = Field(None, description="the shorter text that the unlearned model reads the prompt as")
    copies_reworded: int | None = Field(
        None, description="copies under that wording; the other counts are of the weights without it"
    )
    samples_reworded: int | None = None
    attacks: list[AttackResult] = Field(default_factory=list, description="attacks on the unlearned weights")
    clip_score_before: float | None = Field(
        None,
        description="clip_score: mean cosine of samples and prompt by CLIP, with --clip-score; not used to decide on "
        "copies",
    )
    clip_score_after: float | None = None
    references: list[Picture]
    samples_before: list[Picture]
    samples_after: list[Picture]


class Summary(Record):
    """The numbers on the first page. Intervals are exact binomial (Clopper-Pearson, 95 %)."""

    prompts: int
    memorized_before: int
    clean_before: int
    clean_sampled: int = Field(description="prompts of clean_before that were sampled and found clean")
    not_sampled: int = Field(
        description="the other prompts of clean_before: not sampled, clean by estimate of a screen"
    )
    undecided_before: int
    memorized_after: int | None
    mitigated: int | None
    persistent: int | None
    hidden: int | None
    damaged: int | None
    undecided: int | None
    mitigation_rate: float | None
    mitigation_rate_interval: tuple[float, float] | None
    copies_before: float = Field(description="share of copies in all samples of memorized prompts")
    copies_after: float | None = Field(
        description="share of copies in samples of the same prompts from fresh seeds, after unlearning"
    )
    controls: int
    controls_memorized: int = Field(description="controls that were memorized before unlearning")
    controls_undecided: int = Field(description="controls that were undecided before unlearning")
    controls_changed: int | None
    harmed: int | None = Field(description="controls and other prompts that must not change, and are damaged")
    newly_memorized: int | None = Field(description="prompts and controls that were not memorized before, and are now")
    attacks: int | None = Field(description="attacks that were made on the unlearned weights")
    known_attacks: int | None = Field(description="those among them that the unlearning had adversarial steps against")
    reworded: int | None = Field(description="mitigated prompts that the model reads as a shorter wording")
    control_drift: float | None
    quality_before: float = Field(description="share of samples whose detail is in the range of the original model")
    quality_after: float | None
    control_clip_score_before: float | None = Field(
        None, description="mean clip_score of the controls (cosine of samples and prompt by CLIP), with --clip-score"
    )
    control_clip_score_after: float | None = None


class Report(Record):
    """Everything the HTML shows."""

    schema_version: int = 1
    run: dict[str, Any]
    summary: Summary
    prompts: list[PromptEntry]
    controls: list[PromptEntry]
    training: dict[str, Any]
    sections: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="by name, what further sections of the page tell; those with nothing to tell are left out",
    )
    timings: dict[str, float]
    environment: dict[str, Any]
