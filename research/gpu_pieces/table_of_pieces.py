"""Every piece by name, the most important first, with the seconds that it may take at the most."""

from __future__ import annotations

from functools import partial

from gpu_pieces import cards, speed, works
from gpu_pieces.models import FULL
from gpu_pieces.piece import Machine, Piece

CHAIN_GIB = 10.0  # of one chain on the bundled model, with room to spare
NOT_YET = "memfix does not load such models yet"


def _of(model: str) -> list[Piece]:
    """Speed and memory of a model of true size."""

    def why_not(machine: Machine) -> str:
        return "" if FULL[model].loads else NOT_YET

    return [
        Piece(f"{model}-full", 120, partial(speed.training, model=model, weights="full"), skip=why_not),
        Piece(f"{model}-lora", 100, partial(speed.training, model=model, weights="lora"), skip=why_not),
        Piece(f"{model}-sampling", 120, partial(speed.sampling, model=model), skip=why_not),
    ]


PIECES: list[Piece] = [
    Piece("demo", 240, works.demo),
    Piece("tests", 150, works.tests),
    *_of("sd1"),
    *(
        Piece(
            f"chain-{precision}-{weights}", 180, partial(works.chain, precision=precision, weights=weights), CHAIN_GIB
        )
        for precision in works.PRECISIONS
        for weights in ("lora", "full")
    ),
    Piece("adapter", 60, works.adapter),
    *cards.pieces(),
    *_of("sd2"),
    *_of("sdxl"),
]
