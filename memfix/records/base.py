"""Bases of all records. Each record is one line of a JSONL file in a run folder."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class Record(BaseModel):
    """Base of all records: immutable, no unknown keys. What is no number is written as such, and read again."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class Word(str, Enum):
    """A choice that prints and serialises as its word (StrEnum, which Python 3.10 lacks)."""

    __str__ = str.__str__


def _inside(path: str) -> str:
    if not path or path.startswith("/") or ".." in path.split("/") or "\0" in path:
        raise ValueError(f"{path!r} leads out of the run")
    return path


Inside = Annotated[str, AfterValidator(_inside)]
"""A path below a folder of the run: what is read or written there lies nowhere else."""


def _picture(path: str) -> str:
    return path if path.startswith("/") else _inside(path)


PicturePath = Annotated[str, AfterValidator(_picture)]
"""Of a picture that is read: an absolute path, or one below the folder of the run."""
Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
"""Names a prompt within a run, and the files that are made of it."""
