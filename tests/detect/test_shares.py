"""Shares of a list, resumed and merged, with scores that need no model."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from memfix.detect.shares import (
    RESULT,
    Prompt,
    Screened,
    Share,
    batches,
    count_lines,
    highest,
    merge,
    open_folder,
    screen_share,
)
from memfix.errors import MemfixError
from memfix.inputs.prompts import PromptRow


def rows(count: int) -> Iterator[PromptRow]:
    return (PromptRow(i, f"prompt {i}") for i in range(1, count + 1))


def value(text: str) -> float:
    return random.Random(text).random()


def score(batch: list[Prompt]) -> list[Screened]:
    return [Screened(number=p.number, source=p.source, text=p.text, scores={"s": value(p.text)}) for p in batch]


def work(folder: Path, count: int, share: Share, size: int = 3, stop: int | None = None) -> list[int]:
    done = []
    with open_folder(folder, share, {"ranks": share.world}):
        for lines in screen_share(batches(rows(count), "list", share, size), folder, share, score):
            done.append(lines)
            if stop is not None and lines >= stop:
                break
    return done


@pytest.mark.parametrize("count", [1, 6, 7, 20])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_any_number_of_ranks_gives_the_same_file(tmp_path: Path, count: int, world: int) -> None:
    work(tmp_path / "one", count, Share())
    for rank in reversed(range(world)):
        assert not (tmp_path / "many" / RESULT).exists()
        work(tmp_path / "many", count, Share(rank, world))
        assert merge(tmp_path / "many") is (rank == 0)
    assert (tmp_path / "many" / RESULT).read_bytes() == (tmp_path / "one" / RESULT).read_bytes()
    assert count_lines(tmp_path / "one" / RESULT) == count


@pytest.mark.parametrize("lost", [1, 50, 200])
def test_a_cut_file_is_completed_byte_by_byte(tmp_path: Path, lost: int) -> None:
    work(tmp_path / "whole", 20, Share())
    work(tmp_path / "cut", 20, Share(), stop=9)
    file = tmp_path / "cut" / RESULT
    file.write_bytes(file.read_bytes()[:-lost])  # killed in the middle of a line
    counts = work(tmp_path / "cut", 20, Share())
    assert counts[0] < 9
    assert file.read_bytes() == (tmp_path / "whole" / RESULT).read_bytes()


def test_a_finished_share_scores_nothing_again(tmp_path: Path) -> None:
    work(tmp_path, 7, Share())
    assert work(tmp_path, 7, Share()) == [7]


@pytest.mark.parametrize("world", [1, 2])
def test_what_is_not_finished_is_not_merged(tmp_path: Path, world: int) -> None:
    for rank in range(1, world):
        work(tmp_path, 20, Share(rank, world))
    work(tmp_path, 20, Share(0, world), stop=6)
    assert not merge(tmp_path)
    work(tmp_path, 20, Share(0, world))
    assert merge(tmp_path)
    assert count_lines(tmp_path / RESULT) == 20


def test_a_result_that_was_deleted_is_not_finished(tmp_path: Path) -> None:
    work(tmp_path, 20, Share())
    (tmp_path / RESULT).unlink()
    work(tmp_path, 20, Share(), stop=6)
    assert not merge(tmp_path)


def test_highest_are_those_of_a_full_sort(tmp_path: Path) -> None:
    work(tmp_path, 50, Share())
    expected = sorted((f"prompt {i}" for i in range(1, 51)), key=value, reverse=True)
    assert [line.text for line in highest(tmp_path / RESULT, "s", 5)] == expected[:5]
    assert len(highest(tmp_path / RESULT, "s", 500)) == 50


def test_other_settings_and_strange_folders_are_refused(tmp_path: Path) -> None:
    work(tmp_path / "a", 3, Share())
    with pytest.raises(MemfixError, match="ranks: 1 there, 2 now"):
        work(tmp_path / "a", 3, Share(0, 2))
    (tmp_path / "b").mkdir()
    (tmp_path / "b/thesis.doc").touch()
    with pytest.raises(MemfixError, match="holds no scores of a screen"):
        work(tmp_path / "b", 3, Share())
    with pytest.raises(MemfixError, match="holds no scores of a screen"):
        merge(tmp_path / "none")


def test_a_share_belongs_to_one_process(tmp_path: Path) -> None:
    with open_folder(tmp_path, Share(0, 2), {"ranks": 2}):
        work(tmp_path, 3, Share(1, 2))
        with pytest.raises(MemfixError, match="in use"):
            work(tmp_path, 3, Share(0, 2))


@pytest.mark.parametrize(("rank", "world"), [("2", "2"), ("-1", "2"), ("x", "2"), ("0", "0")])
def test_ranks_that_cannot_be_are_refused(rank: str, world: str) -> None:
    with pytest.raises(MemfixError, match="is not a valid rank"):
        Share.from_environment({"RANK": rank, "WORLD_SIZE": world})


def test_rank_comes_from_the_environment() -> None:
    assert Share.from_environment({}) == Share(0, 1)
    assert Share.from_environment({"RANK": "1", "WORLD_SIZE": "4"}) == Share(1, 4)
