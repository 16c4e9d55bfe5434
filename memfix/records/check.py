"""What a check reads and finds: prompts, references, samples, scores, verdicts."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field

from memfix.records.base import Id, Inside, Record, Word


class Role(Word):
    """Why a prompt is in a run."""

    PROMPT = "prompt"
    CONTROL = "control"


class Label(Word):
    """Three-valued finding about a prompt."""

    MEMORIZED = "memorized"
    CLEAN = "clean"
    UNDECIDED = "undecided"


class Prompt(Record):
    """A text given to the model, with the reference images its own row names (absolute paths)."""

    id: Id
    text: str
    role: Role = Role.PROMPT
    source: str = Field("", description="file:line")
    references: tuple[str, ...] = ()
    urls: tuple[str, ...] = Field(
        (), description="reference images that its list names by URL; nothing is fetched here"
    )
    ground_truth: str = Field("", description="what its list says about it: MV, TV, RV, N (Webster), VM, TM (NeMo)")
    cut_tokens: int = Field(0, description="tokens past the text encoder's limit; the model never sees them")


class Reference(Record):
    """A training image. `file_name` is relative to the folder it was read from, and names it everywhere."""

    file_name: str
    path: str
    text: str = ""
    group: str = Field("", description="the first of its near-copies among the references; empty if there is none")


SAME, FRESH = "same", "fresh"
"""Conditions of a check: the noise of the first check, and noise that the model was never checked on."""


Condition = Annotated[
    str,
    Field(
        pattern=r"^[a-z0-9][a-z0-9-]*$",
        description="what a prompt was sampled under: `same` or `fresh` noise, or the name of a variant of it",
    ),
]


class Sample(Record):
    """One generated image: a prompt, a condition and a seed. Together the lines are a valid imagefolder
    `metadata.jsonl`. `text` is what the model was given, which a variant makes another one than the prompt's."""

    file_name: Inside
    text: str
    prompt_id: Id
    condition: Condition = SAME
    seed: int
    steps: int
    guidance: float


class DrawnPicture(Record):
    """A picture of a stage that has not ended, as it was drawn."""

    file_name: Inside
    sha256: str


class Kind(Word):
    """What the copies of a prompt have in common with the references (the words of Webster 2023)."""

    VERBATIM = "verbatim"
    TEMPLATE = "template"
    PARTIAL = "partial"


class Part(Record):
    """The region of a sample that its prompt's other samples share, where it copies a reference."""

    reference: str = Field(description="the reference that holds the region, by file name")
    area: float = Field(description="share of the picture")
    likeness: float = Field(description="share of the region's contrast that the reference explains, at most 1")


class WitnessScore(Record):
    """What a measure that does not decide says of a sample."""

    value: float = Field(description="the measure, for the sample and the reference that it finds nearest itself")
    reference: str = Field(description="that reference, by file name")
    copy_: bool = Field(alias="copy", description="whether it is past the threshold of this witness")

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Score(Record):
    """A sample held against the references: the nearest one, and every measure on that pair."""

    file_name: Inside = Field(description="of the sample, in the folder of its check")
    prompt_id: Id = Field(description="of the prompt that it was sampled under")
    condition: Condition = Field(SAME, description="which noise it began with, and under which wording")
    seed: int = Field(description="of its noise")
    reference: str = Field(description="the nearest training image, by file name")
    measures: dict[str, float] = Field(description="measure → its value for the sample and that training image")
    copy_: bool = Field(alias="copy", description="the deciding measure passes its threshold, or a part is copied")
    part: Part | None = Field(None, description="what is copied, where the picture as a whole is no copy")
    known_part: float | None = Field(
        None, description="likeness to a reference where the prompt is known to copy a part of one; none if it is not"
    )
    detail: float = Field(
        description="mean absolute difference of neighbouring pixels, 0 to 1; extremes are broken images"
    )

    witnesses: dict[str, WitnessScore] = Field(
        default_factory=dict, description="measure → what it says of the sample, of measures that do not decide"
    )

    judged: bool | None = Field(
        None, description="whether a person said that this disputed sample is a copy; none if nobody has"
    )

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    @property
    def accused(self) -> dict[str, WitnessScore]:
        """The witnesses that call a sample a copy which is none by the rule nor a person; with any, it is disputed."""
        settled = self.copy_ or self.judged is not None
        return {} if settled else {name: told for name, told in self.witnesses.items() if told.copy_}

    @property
    def suspected(self) -> str:
        """The reference that the first witness calls a sample a copy of; the nearest one if none does."""
        return next((told.reference for told in self.witnesses.values() if told.copy_), self.reference)

    def dump(self) -> dict[str, Any]:
        """As it is written."""
        return self.model_dump(mode="json", by_alias=True)

    @property
    def shows(self) -> str:
        """The reference that a copy shows, whole or in part; else the nearest one."""
        if self.judged:
            return self.suspected
        return self.part.reference if self.part else self.reference


class Review(Record):
    """What a person says of a disputed sample."""

    picture: Inside = Field(description="the sample, by its path in the run")
    sha256: str = Field(description="of that file: the word holds for this very picture")
    reference: str = Field(description="the training image that it was compared with")
    copy_: bool = Field(alias="copy", description="whether it is a copy")
    by: str = Field(description="who says so")
    time: str = Field(description="when, UTC, as in ISO 8601")

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Verdict(Record):
    """What the samples of one prompt say. `interval` holds the true share of copies at `confidence`."""

    prompt_id: Id
    verdict: Label
    copies: int
    samples: int
    share: float
    interval: tuple[float, float]
    confidence: float
    measure: str
    threshold: float
    score: float | None = Field(description="the closest sample's value of the measure; none without samples")
    reference: str = Field(description="the reference that most copies show, else the nearest one")
    reason: str
    kind: Kind | None = Field(None, description="of the copies; none where there are none")
    common_area: float | None = Field(None, description="share of the picture in which the copies agree")
    disputed: int = Field(0, description="samples that are no copies by the rule, and are by a witness")


class ClipScore(Record):
    """How well a prompt's samples fit it, by CLIP: no criterion for copies."""

    prompt_id: Id
    mean: float = Field(description="cosine of picture and text, mean over samples, -1 to 1")
    others: float | None = Field(
        None, description="the same with the texts of all other prompts; none where there is no other"
    )
    samples: int

    @property
    def lead(self) -> float | None:
        """How much better the samples fit their own text than those of other prompts."""
        return None if self.others is None else self.mean - self.others
