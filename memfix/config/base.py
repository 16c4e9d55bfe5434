"""What all settings are, and how several values of one are written. Knows nothing of torch."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict


def _several(value: Any) -> Any:
    """A list as it is; text, as in the environment, is split at its commas, one value is a list of one, and
    none an empty one."""
    if value is None:
        return []
    if isinstance(value, str):
        return [word for part in value.split(",") if (word := part.strip())]
    return value if isinstance(value, (list, tuple)) else [value]


SEVERAL = BeforeValidator(_several)


def _number_or_name(value: Any) -> Any:
    """A number where it reads as one, as in the environment; else the name that it is."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


NUMBER_OR_NAME = BeforeValidator(_number_or_name)


class Settings(BaseModel):
    """Base of all settings: immutable, unknown keys are errors.

    A stage that is resumed may be given other values for the settings in `free`, since these do not change its results.
    """

    free: ClassVar[frozenset[str]] = frozenset()

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())
