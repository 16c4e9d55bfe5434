"""The nouns that travel between the stages. Each is one line of a JSONL file in the run folder."""

from memfix.records.base import Record, Word
from memfix.records.check import (
    FRESH,
    SAME,
    ClipScore,
    Condition,
    Kind,
    Label,
    Part,
    Prompt,
    Reference,
    Role,
    Sample,
    Score,
    Verdict,
)
from memfix.records.recheck import Arm, AttackPoint, AttackResult, Change, ControlPicture, Damage, Outcome, Version
from memfix.records.unlearn import Ending, Pair, Rewording, Side, Step, Validation, Yield

__all__ = [
    "FRESH",
    "SAME",
    "Arm",
    "AttackPoint",
    "AttackResult",
    "Change",
    "ClipScore",
    "Condition",
    "ControlPicture",
    "Damage",
    "Ending",
    "Kind",
    "Label",
    "Outcome",
    "Pair",
    "Part",
    "Prompt",
    "Record",
    "Reference",
    "Rewording",
    "Role",
    "Sample",
    "Score",
    "Side",
    "Step",
    "Validation",
    "Verdict",
    "Version",
    "Word",
    "Yield",
]
