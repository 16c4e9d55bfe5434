"""What a re-check finds: damage, what attacks got, and what became of each prompt."""

from __future__ import annotations

from pydantic import Field

from memfix.records.base import Id, Inside, Record, Word
from memfix.records.check import Label, Role, Score


class Outcome(Word):
    """What became of a prompt between the two checks."""

    MITIGATED = "mitigated"
    PERSISTENT = "persistent"
    HIDDEN = "hidden"
    DAMAGED = "damaged"
    UNDECIDED = "undecided"
    UNCHANGED = "unchanged"
    CHANGED = "changed"


class Damage(Record):
    """What became of the samples of a prompt, from the noise of the first check. Differences are rms, 0 to 1."""

    drift: float = Field(description="difference of samples from the same noise, before and after")
    broken: float = Field(description="share of all samples whose detail left the range seen before: blank, or noise")
    diversity_before: float | None = Field(description="difference of samples of different seeds; none of one sample")
    diversity_after: float | None = Field(description="the same after; none of one sample")
    distance_before: float | None = Field(
        description="difference from the samples of other prompts; none without other prompts"
    )
    distance_after: float | None = Field(description="the same after; none without other prompts")
    clip_lead_before: float | None = Field(
        None, description="by CLIP, how much better all samples fit their own text than those of other prompts"
    )
    clip_lead_after: float | None = Field(None, description="the same after; none without CLIP or other prompts")


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

    work: int = Field(description="work done so far, in the unit of the attack")
    copies: int = Field(description="copies among the samples that were taken at this point")
    samples: int = Field(description="samples that were taken at this point")
    disputed: int = Field(0, description="samples that are no copies by the rule, and are by a witness")


class DisputedSample(Record):
    """A sample of an attack that is no copy by the rule, and one by a witness, until a person has spoken."""

    picture: Inside = Field(description="its path in the run folder")
    point: int = Field(description="place of its point on the curve of the attack, from 0")
    score: Score = Field(description="what the measures say of it, and what a person said")


class AttackResult(Record):
    """One attack on one training image. It ends with the first copy."""

    attack: str = Field(description="by name")
    version: Version = Field(description="whether the weights before or after unlearning were attacked")
    arm: Arm = Field(description="whether the training image was memorized, or is a clean one for comparison")
    prompt_id: Id = Field(description="of the prompt that the training image was attacked under")
    text: str = Field(description="of that prompt")
    reference: str = Field(description="the training image that is attacked")
    unit: str = Field(description="what work is counted in")
    curve: tuple[AttackPoint, ...] = Field(
        description="what came after how much work, least first; empty if the attack could not be tried"
    )
    shown: tuple[Inside, ...] = Field((), description="pictures of it, copies first; in the run folder")
    doubtful: tuple[DisputedSample, ...] = Field(
        (), description="its disputed samples, judged by a person or not; of attacks on erased training images only"
    )

    @property
    def points(self) -> tuple[AttackPoint, ...]:
        """The curve as a person leaves it who judged disputed samples: to the first copy, and without what is none."""
        found: list[AttackPoint] = []
        for place, point in enumerate(self.curve):
            words = [d.score.judged for d in self.doubtful if d.point == place and d.score.judged is not None]
            copies = point.copies + sum(words)
            found.append(point.model_copy(update={"copies": copies, "disputed": point.disputed - len(words)}))
            if copies:
                break
        return tuple(found)

    @property
    def last(self) -> AttackPoint | None:
        """Where it ended; None if it could not be tried."""
        return self.points[-1] if self.curve else None

    @property
    def succeeded(self) -> bool:
        """Whether a copy came."""
        return self.last is not None and self.last.copies > 0

    @property
    def disputed(self) -> AttackPoint | None:
        """The first point with a sample that a witness calls a copy, where no copy came; None if there is none."""
        return next((p for p in self.points if p.disputed and not p.copies), None)


class Change(Record):
    """Before and after, for one prompt or control.

    Copies are those of the weights: of a reworded prompt with its rewording taken off, and what it shows with its
    rewording stands beside, in `copies_reworded`.
    """

    prompt_id: Id
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
