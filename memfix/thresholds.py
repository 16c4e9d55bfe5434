"""Thresholds by name: whose they are, and for which measure. A number without its source convinces nobody."""

from __future__ import annotations

import math
from typing import NamedTuple

from memfix.demo import DEMO
from memfix.errors import ExitCode, MemfixError, did_you_mean


class Threshold(NamedTuple):
    """A value of a measure past which a sample is a copy. `bundled`: set for the bundled weights, not the authors'."""

    name: str
    measure: str
    value: float
    source: str
    bundled: bool = False


THRESHOLDS: dict[str, Threshold] = {
    row.name: row
    for row in (
        Threshold("bundled-ssim", "ssim", 0.72, "set on the bundled model, see docs/methods.md; the default"),
        Threshold("bundled-tiled-l2", "tiled_l2", 0.15, "set on the bundled model, see docs/methods.md; the default"),
        Threshold(
            "bundled-structure", "structure", 0.7,
            "set on the bundled references and model, see research/witnesses.md; the default",
        ),
        Threshold(
            "carlini-tiled-l2", "tiled_l2", 0.15,
            "Carlini et al., USENIX Security 2023: their l2 (rms, 0 to 1) over 16 tiles, which they take at 512x512",
        ),
        Threshold(
            "sscd-precision-90", "sscd", 0.75,
            "Pizzi et al., CVPR 2022, README of their code, 'Using SSCD descriptors': 90 % precision on pairs of DISC, "
            "with sscd_disc_mixup; the default",
        ),
        Threshold(
            "nemo-sscd", "sscd", 0.7,
            "Hintersdorf et al., NeurIPS 2024 (NeMo): their list calls a prompt verbatim memorized past it",
        ),
        Threshold(
            "somepalli-sscd", "sscd", 0.5,
            "Somepalli et al., CVPR 2023: content replication; it is loose, so look at the samples that pass",
        ),
        Threshold(
            "bundled-sscd", "sscd", 0.65, "set on the bundled model; the default with the bundled weights", bundled=True
        ),
    )
}  # fmt: skip


def find_threshold(wanted: float | str, measure: str, sscd: str) -> Threshold:
    """A number as it is given, or a threshold by name, where it is one of this measure under weights `sscd`.

    Raises MemfixError, a usage error, for any other name, and for what is no finite number.
    """
    if not isinstance(wanted, str):
        if not math.isfinite(wanted):
            raise MemfixError(f"A threshold of {wanted} cannot decide anything.", "Give a number.", ExitCode.USAGE)
        return Threshold("", measure, wanted, "given")
    if wanted not in THRESHOLDS:
        raise MemfixError(f"Unknown threshold '{wanted}'.", did_you_mean(wanted, list(THRESHOLDS)), ExitCode.USAGE)
    found = THRESHOLDS[wanted]
    fitting = [t.name for t in THRESHOLDS.values() if t.measure == measure and _fits(t, sscd)]
    if found.measure != measure:
        raise MemfixError(
            f"Threshold '{wanted}' is for the measure {found.measure}, but the measure is {measure}.",
            f"Give --measure {found.measure}, or a threshold of {measure}. {did_you_mean(wanted, fitting)}",
            ExitCode.USAGE,
        )
    if not _fits(found, sscd):
        own, other = ("bundled", "others") if found.bundled else ("authors'", "the bundled ones")
        raise MemfixError(
            f"Threshold '{wanted}' is for the {own} weights of sscd, but these are {other}.",
            f"Give a number, or one of: {', '.join(fitting)}.",
            ExitCode.USAGE,
        )
    return found


def _fits(threshold: Threshold, sscd: str) -> bool:
    return threshold.measure != "sscd" or threshold.bundled == (sscd == DEMO)
