"""Which process this is, and what is its shard of a list."""

import pytest

from memfix.errors import ExitCode, MemfixError
from memfix.world import World


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_shards_hold_each_thing_once(size: int) -> None:
    shards = [list(world.shard(iter(range(11)))) for world in World(0, size).ranks()]
    assert sorted(thing for shard in shards for thing in shard) == list(range(11))
    assert max(map(len, shards)) - min(map(len, shards)) <= 1 or size > 11
    assert shards[0][0] == 0


def test_files_of_ranks_do_not_collide() -> None:
    assert World().file_name("screens.jsonl") == "screens.jsonl"
    names = [world.file_name("screens.jsonl") for world in World(0, 3).ranks()]
    assert names == ["screens-0-of-3.jsonl", "screens-1-of-3.jsonl", "screens-2-of-3.jsonl"]


def test_the_first_and_the_only_one() -> None:
    assert World().first and World().alone
    assert World(0, 2).first and not World(0, 2).alone
    assert not World(1, 2).first


def test_rank_comes_from_the_environment() -> None:
    assert World.from_environment({}) == World(0, 1)
    assert World.from_environment({"RANK": "1", "WORLD_SIZE": "4"}) == World(1, 4)


@pytest.mark.parametrize(("rank", "size"), [("2", "2"), ("-1", "2"), ("x", "2"), ("0", "0"), ("1", "")])
def test_ranks_that_cannot_be_are_refused(rank: str, size: str) -> None:
    with pytest.raises(MemfixError, match=f"RANK {rank} of WORLD_SIZE {size} is not a valid rank") as caught:
        World.from_environment({"RANK": rank, "WORLD_SIZE": size})
    assert caught.value.exit_code is ExitCode.USAGE
