"""The nouns that travel between the stages. Each is one line of a JSONL file in the run folder."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Record(BaseModel):
    """Base of all records: immutable, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Word(str, Enum):
    """A choice that prints and serialises as its word (StrEnum, which Python 3.10 lacks)."""

    __str__ = str.__str__


class Role(Word):
    """Why a prompt is in a run."""

    PROMPT = "prompt"
    CONTROL = "control"


class Label(Word):
    """Three-valued finding about a prompt."""

    MEMORIZED = "memorized"
    CLEAN = "clean"
    UNDECIDED = "undecided"


class Outcome(Word):
    """What became of a prompt between the two checks."""

    MITIGATED = "mitigated"
    PERSISTENT = "persistent"
    HIDDEN = "hidden"
    DAMAGED = "damaged"
    UNDECIDED = "undecided"
    UNCHANGED = "unchanged"
    CHANGED = "changed"


class Prompt(Record):
    """A text given to the model, with the reference images its own row names (absolute paths)."""

    id: str
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

    file_name: str
    text: str
    prompt_id: str
    condition: Condition = SAME
    seed: int
    steps: int
    guidance: float


class Kind(Word):
    """What the copies of a prompt have in common with the references (the words of Webster 2023)."""

    VERBATIM = "verbatim"
    TEMPLATE = "template"
    PARTIAL = "partial"


class Part(Record):
    """The region of a sample that its prompt's other samples share, where it copies a reference."""

    reference: str
    area: float = Field(description="share of the picture")
    likeness: float = Field(description="share of the region's contrast that the reference explains, at most 1")


class Score(Record):
    """A sample held against the references: the nearest one, and every measure on that pair."""

    file_name: str
    prompt_id: str
    condition: Condition = SAME
    seed: int
    reference: str
    measures: dict[str, float]
    copy_: bool = Field(alias="copy", description="the deciding measure passes its threshold, or a part is copied")
    part: Part | None = Field(None, description="what is copied, where the picture as a whole is no copy")
    known_part: float | None = Field(
        None, description="likeness to a reference where the prompt is known to copy a part of one; none if it is not"
    )
    detail: float = Field(
        description="mean absolute difference of neighbouring pixels, 0 to 1; extremes are broken images"
    )

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    @property
    def shows(self) -> str:
        """The reference that a copy shows, whole or in part; else the nearest one."""
        return self.part.reference if self.part else self.reference


class Verdict(Record):
    """What the samples of one prompt say. `interval` holds the true share of copies at `confidence`."""

    prompt_id: str
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


class ClipScore(Record):
    """How well a prompt's samples fit it, by CLIP: no criterion for copies."""

    prompt_id: str
    mean: float = Field(description="cosine of picture and text, mean over samples, -1 to 1")
    samples: int


class Side(Word):
    """The two sides of unlearning: A, and what must survive."""

    FORGET = "forget"
    KEEP = "keep"


class Pair(Record):
    """An image and the text it is unlearned from, or kept for."""

    side: Side
    path: str
    text: str
    prompt_id: str
    origin: Literal["reference", "sample", "variant", "control", "given"]
    wording: str | None = Field(None, description="the text that a variant was sampled from, where it was another")
    kind: str | None = Field(None, description="how a variant was made of the prompt")
    reference: str | None = Field(None, description="the reference that an image to forget is, or shows")
    surrogate: str | None = Field(None, description="the picture that an image to forget is denoised to instead")


class Yield(Record):
    """What one way of making keep images gave for one memorized prompt."""

    prompt_id: str
    text: str
    kind: str
    samples: int
    kept: int = 0
    near_copies: int = 0
    copies: int = 0


class Rewording(Record):
    """A memorized prompt that had nothing of its own to keep, and the wording it was made to read like."""

    prompt_id: str
    text: str
    wording: str | None
    copies: int = Field(description="copies in samples of the trained weights, before the rewording")
    samples: int
    applied: bool
    reason: str


class Step(Record):
    """One optimizer step of unlearning; norms are of the whole gradient, losses are summed over a latent."""

    step: int
    loss_keep: float
    loss_forget: float
    norm_keep: float
    norm_forget: float
    scale: float
    learning_rate: float
    seconds: float


class Validation(Record):
    """What a few samples say of the weights after a step of training, and what the losses do.

    Losses are per dimension of a latent, over one fixed set of noisy points. Skew: the mean over those points of
    (now - before) / (now + before + 0.001), -1 to 1; what is forgotten rises, what is kept stays at 0.
    """

    step: int
    copies: dict[str, int] = Field(description="prompt id → copies among its samples, for each target")
    samples: int = Field(description="of each target")
    drift: float | None = Field(description="mean rms difference of control samples from before, 0 to 1; same noise")
    broken: float | None = Field(description="share of control samples whose detail left the range seen before")
    broken_targets: float = Field(description="the same for the targets")
    loss_keep: float | None = Field(description="none where there is nothing to keep, or the loss is no number")
    loss_forget: float | None
    skew_keep: float | None
    skew_forget: float | None
    seconds: float

    @property
    def total(self) -> int:
        """Copies in all samples of all targets."""
        return sum(self.copies.values())

    @property
    def drawn(self) -> int:
        """Samples of all targets."""
        return self.samples * len(self.copies)


class Ending(Record):
    """How training ended. `step` is that of the weights that are kept, `taken` the last step that was made."""

    reason: Literal["clean", "forgotten", "all steps", "rolled back"]
    step: int
    taken: int
    copies: int | None = Field(None, description="in the look at the weights that are kept; none without looks")
    samples: int | None = Field(None, description="of that look")

    @property
    def good(self) -> bool | None:
        """Whether the looks found nothing wrong; None without looks."""
        return None if self.copies is None else self.copies == 0 and self.reason != "rolled back"

    @property
    def sentence(self) -> str:
        """What a user should know of it; empty if it is nothing but that all steps were taken and nobody looked."""
        ended = f"Training ended after step {self.taken}"
        if self.reason == "forgotten":
            ended += ", when the forget error had reached its bound"
        if self.copies is None:
            return f"{ended}." if self.reason == "forgotten" else ""
        seen = f"{self.copies or 'none'} of {self.samples} samples"
        if self.reason == "rolled back":
            kept = f"those of step {self.step}" if self.step else "the original ones: NOTHING IS UNLEARNED"
            return (
                f"Training damaged pictures and was stopped after step {self.taken}. The saved weights are {kept}; "
                f"with these, {seen} reproduced a reference."
            )
        if self.copies:
            return f"{ended}, and the weights are NOT CLEAN: {seen} still reproduce a reference."
        return f"{ended}: {seen} in the last validation reproduces a reference."


class Damage(Record):
    """What became of the samples of a prompt, from the noise of the first check. Differences are rms, 0 to 1."""

    drift: float = Field(description="difference of samples from the same noise, before and after")
    broken: float = Field(description="share of all samples whose detail left the range seen before: blank, or noise")
    diversity_before: float | None = Field(description="difference of samples of different seeds; none of one sample")
    diversity_after: float | None
    distance_before: float | None = Field(description="difference from the samples of other prompts")
    distance_after: float | None


class Version(Word):
    """Which weights an attack was made on."""

    BEFORE = "before"
    AFTER = "after"


class Arm(Word):
    """What an attack tries to get: an erased training image, or one that was never memorized."""

    TARGET = "target"
    CONTROL = "control"


class ControlPicture(Record):
    """A training image that no sample of the first check copied, asked for under its own caption."""

    reference: str
    text: str
    copies: int = Field(description="in samples of the original model; with any, it is memorized and no control")
    samples: int


class AttackPoint(Record):
    """How many samples of an attack were copies after so much work."""

    work: int
    copies: int
    samples: int


class AttackResult(Record):
    """One attack on one training image. It ends with the first copy."""

    attack: str
    version: Version
    arm: Arm
    prompt_id: str
    text: str
    reference: str = Field(description="the training image that is attacked")
    unit: str = Field(description="what work is counted in")
    curve: tuple[AttackPoint, ...]
    shown: tuple[str, ...] = Field((), description="pictures of it, copies first; in the run folder")

    @property
    def last(self) -> AttackPoint | None:
        """Where it ended; None if it could not be tried."""
        return self.curve[-1] if self.curve else None

    @property
    def succeeded(self) -> bool:
        """Whether a copy came."""
        return self.last is not None and self.last.copies > 0


class Change(Record):
    """Before and after, for one prompt or control.

    Copies are those of the weights: of a reworded prompt with its rewording taken off, and what it shows with its
    rewording stands beside, in `copies_reworded`.
    """

    prompt_id: str
    role: Role
    before: Label
    after: Label
    outcome: Outcome
    copies_same: int
    samples_same: int
    copies_fresh: int
    samples_fresh: int
    wording: str | None = Field(None, description="the text that the prompt was made to read like; none if it was not")
    copies_reworded: int | None = Field(None, description="copies under the rewording, from the same and fresh noise")
    samples_reworded: int | None = None
    damage: Damage
    reason: str
