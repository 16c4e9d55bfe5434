"""Another module of diffusers of the same configuration."""

from __future__ import annotations

from typing import TypeVar

from diffusers import ModelMixin

M = TypeVar("M", bound=ModelMixin)


def twin_of(module: M) -> M:
    """A module that is built as this one is now, with weights of its own.

    A configuration remembers which values nobody gave when it was made, and `from_config` takes the defaults for these,
    whatever was written there since, as the size of pictures is.
    """
    given = {name: value for name, value in module.config.items() if not name.startswith("_")}
    made: M = type(module).from_config(given)
    return made
