"""The story: detect, unlearn, recheck, report. The stages meet here, through typed inputs, records and the run.

A stage is loaded when it is asked for, so that a report needs neither torch nor diffusers.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memfix.flow.attack import attack
    from memfix.flow.detect import detect
    from memfix.flow.export import copy_weights, export
    from memfix.flow.recheck import recheck
    from memfix.flow.report import report
    from memfix.flow.run import run
    from memfix.flow.unlearn import unlearn

__all__ = ["attack", "copy_weights", "detect", "export", "recheck", "report", "run", "unlearn"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"{__name__}.{'export' if name == 'copy_weights' else name}")
    return getattr(module, name)


class _Flow(ModuleType):
    """A stage is called as its module is, which Python binds to that name once it is loaded; this binds the stage."""

    def __setattr__(self, name: str, value: Any) -> None:
        is_stage = isinstance(value, ModuleType) and name in __all__
        super().__setattr__(name, getattr(value, name) if is_stage else value)


sys.modules[__name__].__class__ = _Flow
