"""The processes that share a work list, and which one this is, by the names that torch gives to both.

Knows nothing of torch: a list of prompts is shared out before any model is loaded.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import PurePath
from typing import NamedTuple, TypeVar

from memfix.errors import ExitCode, MemfixError

T = TypeVar("T")


class World(NamedTuple):
    """This process, `rank` from 0, among `world_size`; each takes its shard of what there is to do."""

    rank: int = 0
    world_size: int = 1

    @classmethod
    def of(cls, rank: int, world_size: int) -> World:
        """Raises MemfixError, a usage error, for a rank that such a world does not have."""
        if not 0 <= rank < world_size:
            raise _no_rank(rank, world_size)
        return cls(rank, world_size)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> World:
        """RANK of WORLD_SIZE, as torchrun and accelerate set them; without them, a process that is alone."""
        rank, world_size = environ.get("RANK", "0"), environ.get("WORLD_SIZE", "1")
        try:
            return cls.of(int(rank), int(world_size))
        except ValueError:
            raise _no_rank(rank, world_size) from None

    @property
    def first(self) -> bool:
        """Whether this is the process that speaks for all."""
        return self.rank == 0

    @property
    def alone(self) -> bool:
        """Whether there is no other process."""
        return self.world_size == 1

    @property
    def label(self) -> str:
        """What tells the files of this rank from those of others: `2-of-8`."""
        return f"{self.rank}-of-{self.world_size}"

    def file_name(self, whole: str) -> str:
        """Where this rank's shard of a file goes: `list-2-of-8.jsonl`; a process that is alone writes the whole."""
        path = PurePath(whole)
        return whole if self.alone else f"{path.stem}-{self.label}{path.suffix}"

    def shard(self, things: Iterable[T]) -> Iterator[T]:
        """Every `world_size`-th thing, from `rank` on."""
        return islice(things, self.rank, None, self.world_size)

    def ranks(self) -> list[World]:
        """All processes of this world, in order."""
        return [World(rank, self.world_size) for rank in range(self.world_size)]


ALONE = World()


def _no_rank(rank: object, world_size: object) -> MemfixError:
    return MemfixError(
        f"RANK {rank} of WORLD_SIZE {world_size} is not a valid rank.",
        "Set both, RANK from 0 to WORLD_SIZE - 1, or neither.",
        ExitCode.USAGE,
    )
