"""Randomness that follows from a seed, a number and a name alone: no draw depends on those before it."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import torch


class Draw(NamedTuple):
    """One draw among many, such as a pass of a training: the `number`-th of those with a seed and a purpose."""

    seed: int = 0
    number: int = 0
    purpose: str = "training"

    def stream(self, name: str) -> torch.Generator:
        """Randomness for one thing, apart from that for any other. Nearby seeds make no nearby streams."""
        return _stream(self.seed, self.purpose, self.number, name)

    def turns(self, name: str, n: int, among: int) -> list[int]:
        """This draw's n places in an endless row of rounds, in each of which each of 0 … among-1 comes up once.

        Draw k takes places k·n to (k+1)·n - 1, so that over all draws so far no two counts differ by more than one.
        Each round has an order of its own.
        """
        if not n:
            return []
        first, rounds = self.number * n, list[int]()
        for i in range(first // among, (first + n - 1) // among + 1):
            shuffled = _stream(self.seed, self.purpose, i, f"{name}, a round")
            rounds += torch.randperm(among, generator=shuffled).tolist()
        return rounds[first % among : first % among + n]


def _stream(*words: int | str) -> torch.Generator:
    """A generator seeded by a hash of words. Of a seed, torch's generator on the CPU looks at 32 bits alone."""
    seed = hashlib.blake2b("/".join(map(str, words)).encode(), digest_size=4).digest()
    return torch.Generator().manual_seed(int.from_bytes(seed, "big"))
