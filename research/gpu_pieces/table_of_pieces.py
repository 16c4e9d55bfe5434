"""Every piece by name, the most important first, with the seconds that it may take at the most."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from gpu_pieces import cards, speed, works
from gpu_pieces.piece import Machine, Piece

CHAIN_GIB = 10.0  # of one chain on the bundled model, with room to spare
SLOW = "half precision takes a CPU minutes"


def _slow(precision: str) -> Callable[[Machine], str]:
    """Why a chain is not run, if it is not."""
    return lambda machine: SLOW if machine.device == "cpu" and precision != "fp32" else ""


def _without_gpu(machine: Machine) -> str:
    return "" if machine.device == "cuda" else "there is no GPU"


def _of(model: str, longer: float = 1) -> list[Piece]:
    """Speed and memory of a model of true size; `longer`: times as long as others it may take."""
    return [
        Piece(f"{model}-full", 120 * longer, partial(speed.training, model=model, weights="full")),
        Piece(f"{model}-lora", 100 * longer, partial(speed.training, model=model, weights="lora")),
        Piece(f"{model}-sampling", 120 * longer, partial(speed.sampling, model=model)),
    ]


PIECES: list[Piece] = [
    Piece("demo", 300, works.demo, goes_on=True),
    Piece("tests", 120, partial(works.tests, chosen="not compiled")),
    *(
        Piece(
            f"chain-{p}-{weights}", 240, partial(works.chain, precision=p, weights=weights), CHAIN_GIB, _slow(p), True
        )
        for p in works.PRECISIONS
        for weights in ("lora", "full")
    ),
    Piece("adapter", 90, works.adapter),
    *_of("sd1"),
    Piece("compile", 150, partial(works.tests, chosen="compiled"), skip=_without_gpu),
    *cards.pieces(),
    *_of("sd2"),
    *_of("sdxl", longer=2),
]
