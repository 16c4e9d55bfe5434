"""How settings are put together: flags > environment > file > presets > defaults."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from memfix.config import STAGE_SETTINGS
from memfix.config.base import Settings
from memfix.errors import ExitCode, MemfixError, did_you_mean

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ENV_PREFIX = "MEMFIX_"
PRESETS = Path(__file__).parent.parent / "presets"
KINDS_OF_WEIGHTS = ("lora", "full")

S = TypeVar("S", bound=Settings)


def read_config(path: Path) -> dict[str, dict[str, Any]]:
    """Read a TOML file with one table per settings class."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MemfixError(f"There is no settings file {path}.", "Give the path of a TOML file to --config.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MemfixError(f"{path} is not valid TOML: {error}", "See docs/settings.md for an example.") from None
    for stage, table in data.items():
        if stage not in STAGE_SETTINGS:
            raise MemfixError(f"{path}: the table [{stage}] is unknown.", did_you_mean(stage, list(STAGE_SETTINGS)))
        if not isinstance(table, dict):
            raise MemfixError(f"{path}: '{stage}' must be a table.", f"Write [{stage}] above its settings.")
    return data


def presets() -> dict[str, Path]:
    """Name → settings file of every preset; its first line says what it is for."""
    return {path.stem: path for path in sorted(PRESETS.glob("*.toml"))}


def read_preset(name: str) -> dict[str, dict[str, Any]]:
    """The tables of a preset. Raises MemfixError for an unknown name."""
    known = presets()
    if name not in known:
        raise MemfixError(f"Unknown preset '{name}'.", did_you_mean(name, list(known)), ExitCode.USAGE)
    return read_config(known[name])


def for_weights(table: Mapping[str, Any], weights: str) -> dict[str, Any]:
    """A table of a settings file, with what its sub-table of these weights ([unlearn.lora], [unlearn.full]) says."""
    overrides = {k: v for k, v in table.items() if k in KINDS_OF_WEIGHTS and isinstance(v, dict)}
    return {k: v for k, v in table.items() if k not in overrides} | overrides.get(weights, {})


def read_environment(stage: type[Settings], environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Settings given as `MEMFIX_<NAME>`."""
    return {k: environ[v] for k in stage.model_fields if (v := ENV_PREFIX + k.upper()) in environ}


def resolve(stage: type[S], *layers: Mapping[str, Any]) -> S:
    """Settings of a stage from layers, the strongest first; None in a layer means 'not given there'."""
    merged: dict[str, Any] = {}
    for layer in reversed(layers):
        merged |= {k: v for k, v in layer.items() if v is not None}
    if empty := next((k for k, v in merged.items() if _is_empty(v)), None):
        hint = "Give a value or leave it out. A variable of the shell may be unset."
        raise MemfixError(f"Setting '{empty}' is empty.", hint, ExitCode.USAGE)
    try:
        return stage.model_validate(merged)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            there = ", ".join(f"[{n}]" for n, other in STAGE_SETTINGS.items() if name in other.model_fields)
            hint = f"It is a setting of {there}." if there else did_you_mean(name, list(stage.model_fields))
            raise MemfixError(f"Unknown setting '{name}'.", hint, ExitCode.USAGE) from None
        raise MemfixError(
            f"Setting '{name}' is {first['input']!r}: {first['msg']}.",
            _describe(stage, str(first["loc"][0])),
            ExitCode.USAGE,
        ) from None


def _is_empty(value: Any) -> bool:
    """Whether a value is a text that says nothing, or has such a one among others."""
    if isinstance(value, list | tuple):
        return any(map(_is_empty, value))
    return isinstance(value, str) and not value.strip()


def _describe(stage: type[Settings], name: str) -> str:
    field = stage.model_fields.get(name)
    return f"--{name.replace('_', '-')}: {field.description}" if field else ""
