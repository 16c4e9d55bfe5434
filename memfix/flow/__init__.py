"""The story: detect, unlearn, recheck, report. The stages meet here, through typed inputs, records and the run."""

from memfix.flow.attack import attack
from memfix.flow.detect import detect
from memfix.flow.export import copy_weights, export
from memfix.flow.recheck import recheck
from memfix.flow.report import report
from memfix.flow.run import run
from memfix.flow.unlearn import unlearn

__all__ = ["attack", "copy_weights", "detect", "export", "recheck", "report", "run", "unlearn"]
