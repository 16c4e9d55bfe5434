"""Bases of all records. Each record is one line of a JSONL file in a run folder."""

from __future__ import annotations

from enum import Enum

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """Base of all records: immutable, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Word(str, Enum):
    """A choice that prints and serialises as its word (StrEnum, which Python 3.10 lacks)."""

    __str__ = str.__str__
