"""A list that ranks share, resumed and merged, with a screen that needs no model."""

import random
from pathlib import Path

import pytest
import torch

from memfix.errors import MemfixError
from memfix.screens.base import Screen
from memfix.screens.folder import RESULT, fill, highest, merge_ranks, open_folder
from memfix.screens.runner import Listed, Runner, count_lines, read_scores
from memfix.screens.sampling import Sampling
from memfix.world import ALONE, World


def value(text: str) -> float:
    return random.Random(text).random()


SCREEN = Screen("s", "a number of the text", lambda _: 1, lambda _, texts, __: torch.tensor([value(t) for t in texts]))
RUNNER = Runner((SCREEN,), Sampling(seeds=(0, 1)), "no", batch_size=6)  # three prompts at once


def listed(count: int) -> list[Listed]:
    return [Listed(i, f"list:{i}", f"prompt {i}") for i in range(1, count + 1)]


def work(folder: Path, count: int, world: World, stop: int | None = None) -> list[int]:
    done = []
    with open_folder(folder, world, {"ranks": world.world_size}):
        for lines in fill(folder, world, lambda file: RUNNER.run(world.shard(listed(count)), file, lambda: object())):
            done.append(lines)
            if stop is not None and lines >= stop:
                break
    return done


@pytest.mark.parametrize("count", [1, 6, 7, 20])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_any_number_of_ranks_gives_the_same_file(tmp_path: Path, count: int, world: int) -> None:
    work(tmp_path / "one", count, ALONE)
    for rank in reversed(range(world)):
        assert not (tmp_path / "many" / RESULT).exists()
        work(tmp_path / "many", count, World(rank, world))
        assert merge_ranks(tmp_path / "many") is (rank == 0)
    assert (tmp_path / "many" / RESULT).read_bytes() == (tmp_path / "one" / RESULT).read_bytes()
    assert count_lines(tmp_path / "one" / RESULT) == count


@pytest.mark.parametrize("lost", [1, 50, 200])
def test_a_cut_file_is_completed_byte_by_byte(tmp_path: Path, lost: int) -> None:
    work(tmp_path / "whole", 20, ALONE)
    work(tmp_path / "cut", 20, ALONE, stop=9)
    file = tmp_path / "cut" / RESULT
    file.write_bytes(file.read_bytes()[:-lost])  # killed in the middle of a line
    counts = work(tmp_path / "cut", 20, ALONE)
    assert counts[0] < 9
    assert file.read_bytes() == (tmp_path / "whole" / RESULT).read_bytes()


def test_a_finished_shard_scores_nothing_again(tmp_path: Path) -> None:
    work(tmp_path, 7, ALONE)
    assert work(tmp_path, 7, ALONE) == [7]


@pytest.mark.parametrize("world", [1, 2])
def test_what_is_not_finished_is_not_merged(tmp_path: Path, world: int) -> None:
    for rank in range(1, world):
        work(tmp_path, 20, World(rank, world))
    work(tmp_path, 20, World(0, world), stop=6)
    assert not merge_ranks(tmp_path)
    work(tmp_path, 20, World(0, world))
    assert merge_ranks(tmp_path)
    assert count_lines(tmp_path / RESULT) == 20


def test_a_result_that_was_deleted_is_not_finished(tmp_path: Path) -> None:
    work(tmp_path, 20, ALONE)
    (tmp_path / RESULT).unlink()
    work(tmp_path, 20, ALONE, stop=6)
    assert not merge_ranks(tmp_path)


def test_highest_are_those_of_a_full_sort(tmp_path: Path) -> None:
    work(tmp_path, 50, ALONE)
    expected = sorted((f"prompt {i}" for i in range(1, 51)), key=value, reverse=True)
    assert [line.text for line in highest(tmp_path / RESULT, "s", 5)] == expected[:5]
    assert len(highest(tmp_path / RESULT, "s", 500)) == 50


def test_other_settings_and_strange_folders_are_refused(tmp_path: Path) -> None:
    work(tmp_path / "a", 3, ALONE)
    with pytest.raises(MemfixError, match="ranks: 1 there, 2 now"):
        work(tmp_path / "a", 3, World(0, 2))
    (tmp_path / "b").mkdir()
    (tmp_path / "b/thesis.doc").touch()
    with pytest.raises(MemfixError, match="holds no scores of a screen"):
        work(tmp_path / "b", 3, ALONE)
    with pytest.raises(MemfixError, match="holds no scores of a screen"):
        merge_ranks(tmp_path / "none")


def test_a_shard_belongs_to_one_process(tmp_path: Path) -> None:
    with open_folder(tmp_path, World(0, 2), {"ranks": 2}):
        work(tmp_path, 3, World(1, 2))
        with pytest.raises(MemfixError, match="in use"):
            work(tmp_path, 3, World(0, 2))


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    work(tmp_path, 3, ALONE)
    file = tmp_path / RESULT
    file.write_text(file.read_text().replace('"number":2', '"number":"two"'))
    with pytest.raises(MemfixError, match=r"screens\.jsonl:2 is damaged"):
        list(read_scores(file))


def test_a_file_is_no_folder_of_scores(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("my notes")
    for read in (lambda path: work(path, 3, ALONE), merge_ranks):
        with pytest.raises(MemfixError, match=r"notes\.txt is a file, not a folder") as caught:
            read(tmp_path / "notes.txt")
        assert caught.value.hint
