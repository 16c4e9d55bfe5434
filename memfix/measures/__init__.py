"""Measures of likeness between a sample and a reference, by name."""

from memfix.errors import ExitCode, MemfixError, did_you_mean
from memfix.measures.base import Measure
from memfix.measures.pixels import Ssim, TiledL2

MEASURES: dict[str, Measure] = {m.name: m for m in (TiledL2(), Ssim())}


def get_measure(name: str) -> Measure:
    """Look a measure up. Raises MemfixError for an unknown name."""
    if name not in MEASURES:
        raise MemfixError(f"Unknown measure '{name}'.", did_you_mean(name, list(MEASURES)), ExitCode.USAGE)
    return MEASURES[name]
