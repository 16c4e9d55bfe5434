"""What a detection finds out beside its verdicts: typed parts of a run's header. Knows nothing of how it is found."""

from __future__ import annotations

from pydantic import Field

from memfix.records import Record


class SourceRecord(Record):
    """What became of everything in a source of prompts or training images."""

    source: str = Field(description="as it was named; empty for training images that only the prompts name")
    seen: int = Field(description="rows, texts or pictures that it holds: those used and those passed over")
    used: int = Field(description="how many of them the detection rests on")
    passed_over: dict[str, int] = Field(description="why others are not used → how many")
    altered: dict[str, int] = Field(
        default_factory=dict, description="how some were used otherwise than they are written → how many"
    )


class RuleRecord(Record):
    """The rule of a copy that a run goes by."""

    measure: str = Field(description="the measure that decides, by name")
    threshold: float = Field(description="value of the measure past which a sample is a copy")
    source: str = Field(description="where the threshold comes from")
    name: str | None = Field(None, description="of a published threshold")
    false_alarm_rate: float | None = Field(
        None, description="share of references that pass it against unrelated ones, where it was calibrated on them"
    )


class WeightsRecord(Record):
    """A file of weights that describe pictures or texts."""

    name: str = Field(description="what they were asked for as")
    file: str = Field(description="absolute path that they were read from")
    bytes: int = Field(description="size of that file")
    sha256: str = Field(description="of that file")


class BackgroundRecord(Record):
    """How near unrelated references are to each other by the deciding measure."""

    references: int = Field(description="that were held against the others")
    duplicates: int = Field(description="left out, because another one is the same picture")
    p50: float = Field(description="half of them are no closer to an unrelated one")
    p99: float = Field(description="99 % of them are no closer")
    closest: float = Field(description="value of the measure for the nearest two that are unrelated")
    false_alarms: float | None = Field(
        None,
        description="share of them that passes the rule, 0 to 1; none in old runs",
    )


class KnownCopies(Record):
    """What the rule sees of references that were altered in one way."""

    altered: str = Field(description="how, for instance tinted")
    pictures: int = Field(description="references that were altered")
    seen: float = Field(description="share that the rule calls copies, 0 to 1: the recall")
    disputed: float = Field(description="share of them that it calls none, and a witness does, 0 to 1")


class WitnessRecord(Record):
    """A measure that does not decide, and may dispute what the deciding one calls no copy."""

    measure: str = Field(description="by name")
    threshold: float = Field(description="value of the measure past which it calls a sample a copy")
    default: float = Field(description="threshold that the measure has where references do not ask for a stricter one")
    identity: str = Field(description="weights and preprocessing")
    background: BackgroundRecord | None = Field(description="how near unrelated references are to each other by it")


class DesignRecord(Record):
    """When sampling of a prompt stopped, and what its copies said then."""

    looks: list[int] = Field(description="numbers of samples after which a prompt was judged")
    memorized_from: list[int | None] = Field(description="least number of copies that counts, at each of them")
    clean_from: int | None = Field(description="first number of samples after which a prompt without copies is clean")
    chance: float = Field(
        description="share of samples that may pass the threshold though nothing is memorized, 0 to 1"
    )
    chance_memorized: float = Field(description="probability that chance alone makes a prompt memorized")


class SearchRecord(Record):
    """How the nearest reference of a sample was found."""

    by: str = Field(description="the measure that every reference is compared by")
    candidates: int = Field(description="how many references `by` brings")
    then: str = Field(description="the measure that chooses among these")


class ScreeningRecord(Record):
    """What a screen left out of a check, and how far that can be trusted."""

    screen: str = Field(description="by name")
    threshold: float = Field(description="score of the screen below which a prompt was left out")
    skipped: int = Field(description="prompts that score below it; the audited ones are among them")
    expected_memorized: float = Field(description="memorized prompts in the whole list, as estimated from the scores")
    expected_missed: float = Field(description="memorized prompts among the skipped ones, as estimated from the scores")
    audited: int = Field(description="skipped prompts that were drawn at random and sampled all the same")
    audited_memorized: int = Field(description="those of them that are memorized; with any, all prompts were sampled")
    share_bound: float | None = Field(description="at most this share of what was left out is memorized")
    odd_controls: list[str] = Field(description="texts of controls that score like memorized prompts")
    similar: int = Field(description="skipped prompts that were tried because they are worded like memorized ones")
    similar_memorized: int = Field(description="those of them that gave a copy and are memorized")
