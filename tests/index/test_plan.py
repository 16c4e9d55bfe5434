"""What a build has to do, as pure functions of rows: what stays, what is new, where segments are cut."""

from pathlib import Path

import pytest

from memfix.index.plan import Counts, Plan, Planned, Walk, commit, compare, cut, make_plan, merge_segment, rest
from memfix.index.rows import Row, as_line, write_lines
from memfix.index.store import Store
from memfix.measures.descriptor import Pixels

SIZE = 4


def row(name: str, time: int = 1) -> Row:
    return Row(name, name, size=10, mtime_ns=time, sha256=f"hash of {name}")


def names(planned: list[Planned]) -> list[str]:
    return [p.row.file_name for p in planned]


def test_a_segment_is_merged_with_what_is_there_up_to_its_last_row() -> None:
    old = [row("b"), row("d"), row("f")]
    walk, counts = Walk([row("a"), row("b"), row("c"), row("f", time=2), row("g")]), Counts()
    found = list(merge_segment(old, walk, counts))
    assert names(found) == ["a", "b", "c", "f"]
    assert [p.old for p in found] == [None, 0, None, 2]
    assert found[3].row.mtime_ns == 2  # as the file is now
    assert (counts.new, counts.changed, counts.removed, counts.same) == (2, 1, 1, 1)
    assert names(list(rest(walk, counts))) == ["g"] and counts.new == 3
    assert walk.head is None


def test_a_folder_comes_where_its_name_does() -> None:
    """`a/z` is a file of folder `a`, which comes before the file `a-b`, though the character `-` is less than `/`."""
    walk, counts = Walk([row("a/z"), row("a-b")]), Counts()
    assert names(list(merge_segment([row("a/z"), row("a-b")], walk, counts))) == ["a/z", "a-b"]
    assert counts == Counts(same=2)


@pytest.mark.parametrize("count", range(20))
def test_no_crumb_is_left(count: int) -> None:
    rows = [Planned(row(f"{i:02d}"), None) for i in range(count)]
    pieces = list(cut(rows, SIZE))
    assert [p for piece in pieces for p in piece] == rows
    assert all(SIZE <= len(piece) < 2 * SIZE for piece in pieces) or (count < SIZE and len(pieces) == min(count, 1))


def test_counts_of_two_plans_of_one_build() -> None:
    counts = Counts(new=3, changed=1, removed=0, same=5)
    assert counts.differences == 4
    counts.follow(Counts(new=1, changed=0, removed=2, same=8))
    assert counts == Counts(new=4, changed=1, removed=2, same=8)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "pictures").mkdir()
    return Store.create(tmp_path / "index", tmp_path / "pictures", Pixels(), segment_size=SIZE)


def carry_out(store: Store, found: list[Row]) -> Store:
    """A build without its pictures: the rows of each new segment as they are planned."""
    plan = make_plan(store, found)
    assert plan is not None
    for segment in plan.pictures:
        write_lines(store.file(segment, ".jsonl"), (as_line(p.row) for p in plan.read(segment)[1]))
    done = commit(store, plan)
    assert done is not None and not (store.path / "plan").exists()
    return done


def test_only_segments_that_differ_are_planned_anew(store: Store) -> None:
    rows = [row(f"{i:02d}") for i in range(3 * SIZE)]
    store = carry_out(store, rows)
    before = [segment.name for segment in store.manifest.segments]
    assert [len(store.rows(name)) for name in before] == [SIZE] * 3
    assert make_plan(store, rows) is None and not (store.path / "plan").exists()

    changed = [*rows[:SIZE], row("04", time=2), *rows[SIZE + 1 :]]
    assert [base for base, piece in compare(store, changed, Counts()) if piece is None] == [before[0], before[2]]
    plan = make_plan(store, changed)
    assert plan is not None and list(plan.pictures.values()) == [SIZE]
    (new,) = plan.pictures
    assert plan.segments == [before[0], new, before[2]] and new not in before
    replaced, planned = plan.read(new)
    assert replaced == before[1] and [p.old for p in planned] == [0, 1, 2, 3]
    again = Plan(plan.path)
    assert (again.segments, again.pictures, again.counts) == (plan.segments, plan.pictures, plan.counts)


def test_files_that_are_gone_take_their_segment_with_them(store: Store) -> None:
    rows = [row(f"{i:02d}") for i in range(2 * SIZE)]
    store = carry_out(store, rows)
    plan = make_plan(store, rows[SIZE:])
    assert plan is not None and plan.counts == Counts(removed=SIZE, same=SIZE)
    assert not plan.pictures  # nothing is new, and there is a plan all the same
    done = commit(store, plan)
    assert done is not None and [len(done.rows(s.name)) for s in done.manifest.segments] == [SIZE]
    assert len(list((store.path / "segments").iterdir())) == 1


def test_what_is_not_built_is_not_committed(store: Store) -> None:
    plan = make_plan(store, [row("a")])
    assert plan is not None and commit(store, plan) is None
    assert plan.path.exists() and Store.open(store.path).manifest.segments == ()
