"""A folder becomes an index: any process count, a kill, and any number of later runs give the same one."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from memfix.config.choices import Precision
from memfix.errors import MemfixError
from memfix.files import held
from memfix.index.build import Built, build, finish, prepare
from memfix.index.originals import Originals
from memfix.index.store import Store
from memfix.inputs.tally import PassedOver
from memfix.measures.descriptor import Pixels
from memfix.world import ALONE, World
from tests.conftest import picture
from tests.counting import Counting
from tests.index.test_walk import table, tar

SIZE = 4  # rows of a segment


def pictures(folder: Path, names: Sequence[str], first: int = 0) -> None:
    for seed, name in enumerate(names, first):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        picture(seed, 32).save(folder / name)


def built(folder: Path, out: Path, world: World = ALONE, descriptor: Pixels | None = None) -> Built:
    descriptor = descriptor or Pixels()
    return build(Store.create(out, folder, descriptor, Precision.FLOAT16, SIZE), folder, descriptor, world, workers=2)


def content(store: Store) -> tuple[list[str], bytes]:
    """What an index holds, whatever its cuts."""
    rows = [(row.file_name, row.sha256, row.reason) for row in store.all_rows()]
    vectors = [np.asarray(store.mapped(segment.name)) for segment in store.manifest.segments]
    return [str(row) for row in rows], np.concatenate(vectors).tobytes()


def segment_bytes(out: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted((out / "segments").iterdir())}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pictures(tmp_path / "pictures", [f"{i % 3}/{i:02d}.png" for i in range(18)])
    return tmp_path / "pictures"


def test_vectors_belong_to_their_pictures(folder: Path, tmp_path: Path) -> None:
    done = built(folder, tmp_path / "out")
    store = done.store
    assert (done.counts.new, done.complete, len(store)) == (18, True, 18)
    names = [f"{r}/{i:02d}.png" for r in range(3) for i in range(r, 18, 3)]
    assert [store.row(i).file_name for i in range(18)] == names
    expected = Pixels()([Image.open(folder / name) for name in names])
    torch.testing.assert_close(torch.from_numpy(store.vectors(range(18))), expected, atol=1e-3, rtol=0)


def pages(file: Path, *colours: str) -> None:
    first, *others = (Image.new("RGB", (32, 32), colour) for colour in colours)
    first.save(file, save_all=True, append_images=others)


def test_each_frame_of_its_own_has_a_vector_behind_its_file(folder: Path, tmp_path: Path) -> None:
    pages(folder / "0/pages.tif", "red", "blue", "red", "lime")
    pictures(folder, ["0/pages.tif!.png"], first=80)  # sorts before '#'
    done = built(folder, tmp_path / "out")
    store = done.store
    assert len(store) == 22 and done.tally.passed_over == {PassedOver.AGAIN: 1}
    first = store.find("0/pages.tif")
    assert first is not None
    assert [store.row(first + i).file_name for i in range(4)] == [
        "0/pages.tif", "0/pages.tif#2", "0/pages.tif#4", "0/pages.tif!.png",
    ]  # fmt: skip
    assert store.find("0/pages.tif#4") == first + 2 and "0/pages.tif#3" not in store
    blue = Originals(store).open(store.row(first + 1))
    assert blue.getpixel((0, 0)) == (0, 0, 255)
    torch.testing.assert_close(torch.from_numpy(store.vectors([first + 1])), Pixels()([blue]), atol=1e-3, rtol=0)


def test_frames_stay_with_their_file_in_later_runs(folder: Path, tmp_path: Path) -> None:
    out, counting = tmp_path / "out", Counting()
    pages(folder / "1/pages.tif", "red", "blue", "lime")
    built(folder, out)
    assert built(folder, out, descriptor=counting).counts.same == 19 and counting.seen == 0
    os.utime(folder / "1/pages.tif", ns=(1, 1))
    pictures(folder, ["1/new.png"], first=80)
    done = built(folder, out, descriptor=counting)
    assert counting.seen == 1 and content(done.store) == content(built(folder, tmp_path / "anew").store)
    pages(folder / "1/pages.tif", "red", "yellow")
    done = built(folder, out)
    assert len(done.store) == 21 and content(done.store) == content(built(folder, tmp_path / "other").store)


def test_a_file_called_like_a_frame_keeps_its_name(folder: Path, tmp_path: Path) -> None:
    pages(folder / "0/pages.tif", "red", "blue", "lime")
    picture(80).save(folder / "0/pages.tif#2", "PNG")
    done = built(folder, tmp_path / "out")
    assert len(done.store) == 21 and done.tally.passed_over == {PassedOver.FRAMES: 1}
    found = done.store.find("0/pages.tif#2")
    assert found is not None and not done.store.row(found).frame


def test_unreadable_pictures_are_listed_and_stop_nothing(folder: Path, tmp_path: Path) -> None:
    (folder / "0/broken.png").write_bytes(b"not a picture")
    (folder / "1/cut.png").write_bytes((folder / "1/01.png").read_bytes()[:80])
    (folder / "2/nowhere.png").symlink_to("missing")
    store = built(folder, tmp_path / "out").store
    reasons = {row.file_name: row.reason for row in store.unreadable()}
    assert reasons.keys() == {"0/broken.png", "1/cut.png", "2/nowhere.png"}
    assert "UnidentifiedImageError" in reasons["0/broken.png"] and "No such file" in reasons["2/nowhere.png"]
    assert len(store) == 18 and sum(s.rows for s in store.manifest.segments) == 21
    again = Counting()
    assert built(folder, tmp_path / "out", descriptor=again).counts.same == 21 and again.seen == 0


@pytest.mark.parametrize("processes", [2, 3, 7])
def test_any_number_of_processes_gives_the_same_bytes(folder: Path, tmp_path: Path, processes: int) -> None:
    alone = built(folder, tmp_path / "one")
    parts = [built(folder, tmp_path / "many", World(rank, processes)) for rank in reversed(range(processes))]
    assert [p.complete for p in parts[:-1]] != [True] * (processes - 1) and parts[-1].complete
    assert segment_bytes(tmp_path / "one") == segment_bytes(tmp_path / "many")
    assert alone.store.content == parts[-1].store.content


def test_processes_may_run_at_once(folder: Path, tmp_path: Path) -> None:
    descriptors = [Counting() for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:  # file locks hold between threads as they do between processes
        parts = [pool.submit(built, folder, tmp_path / "many", World(rank, 3), descriptors[rank]) for rank in range(3)]
        assert any(part.result().complete for part in parts)
    assert sum(d.seen for d in descriptors) == 18 and all(d.seen for d in descriptors)
    built(folder, tmp_path / "one")
    assert segment_bytes(tmp_path / "one") == segment_bytes(tmp_path / "many")


@pytest.mark.slow
def test_killed_builds_go_on_behind_the_last_finished_segment(folder: Path, tmp_path: Path) -> None:
    script = (
        "import sys, time; sys.path[:0] = sys.argv[1:3]; from pathlib import Path; import test_index_build as t\n"
        "class Slow(t.Pixels):\n"
        "    seen = 0\n"
        "    def __call__(self, images):\n"
        "        self.seen += len(images)\n"
        "        if self.seen > 2 * t.SIZE: time.sleep(3000)\n"
        "        return super().__call__(images)\n"
        "t.built(Path(sys.argv[3]), Path(sys.argv[4]), descriptor=Slow())"
    )
    here, out = Path(__file__).parent, tmp_path / "killed"
    victim = subprocess.Popen([sys.executable, "-c", script, str(here), str(here.parent), str(folder), str(out)])
    deadline = time.monotonic() + 300
    while len(list((out / "segments").glob("[0-9]*.jsonl"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(victim.pid, signal.SIGKILL)
    victim.wait()
    kept = len(list((out / "segments").glob("[0-9]*.jsonl")))
    assert 2 <= kept < 4 and not Store.open(out).manifest.segments
    (out / "segments" / ".00000003.npy.1.tmp").write_bytes(b"half")
    descriptor = Counting()
    done = built(folder, out, descriptor=descriptor)
    assert done.complete and descriptor.seen == 18 - kept * SIZE
    built(folder, tmp_path / "whole")
    assert segment_bytes(out) == segment_bytes(tmp_path / "whole") and not (out / "plan").exists()


def test_later_runs_touch_only_what_is_different(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    built(folder, out)
    before = segment_bytes(out)
    pictures(folder, ["0/00.png"], first=50)  # another picture
    (folder / "2/17.png").unlink()
    os.utime(folder / "2/02.png", ns=(1, 1))  # the same picture
    descriptor = Counting()
    done = built(folder, out, descriptor=descriptor)
    assert vars(done.counts) == {"new": 0, "changed": 2, "removed": 1, "same": 15} and descriptor.seen == 1
    assert {n for n in before if n in segment_bytes(out)} == {
        f"0000000{i}{s}" for i in (1, 2) for s in (".npy", ".jsonl")
    }
    assert content(done.store) == content(built(folder, tmp_path / "anew").store)
    assert next(row for row in done.store.all_rows() if row.file_name == "2/02.png").mtime_ns == 1


def test_new_files_land_where_a_new_index_would_have_them(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    built(folder, out)
    pictures(folder, ["0/!first.png", *(f"1/{i:03d}.png" for i in range(11)), "2/zz.png", "3/last.png"], first=100)
    descriptor = Counting()
    done = built(folder, out, descriptor=descriptor)
    assert descriptor.seen == done.counts.new == 14
    assert content(done.store) == content(built(folder, tmp_path / "anew").store)
    assert max(segment.rows for segment in done.store.manifest.segments) < 2 * SIZE


def test_resumed_builds_see_what_came_meanwhile(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert not built(folder, out, World(0, 2)).complete
    pictures(folder, ["4/new.png"], first=60)
    done = built(folder, out)
    assert done.complete and done.counts.new == 19 and len(done.store) == 19


def test_refusals(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    built(folder, out)

    class Other(Pixels):
        identity = "16x16 RGB, other filter"

    with pytest.raises(MemfixError, match="other filter"):
        built(folder, out, descriptor=Other())
    with pytest.raises(MemfixError, match="float16, not float32"):
        Store.create(out, folder, Pixels(), Precision.FLOAT32)
    (tmp_path / "empty").mkdir()
    with pytest.raises(MemfixError, match="is the index of"):
        built(tmp_path / "empty", out)
    with pytest.raises(MemfixError, match="contains no picture"):
        built(tmp_path / "empty", tmp_path / "nothing")
    with pytest.raises(MemfixError, match="not empty"):
        built(folder, folder)
    with held(out, ".rank-0-of-1.lock"), pytest.raises(MemfixError, match="in use by another") as caught:
        built(folder, out)
    assert "its own --process-index" in caught.value.hint


def test_a_plan_that_was_carried_out_by_others_disturbs_no_later_one(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    store, stale, _ = prepare(Store.create(out, folder, Pixels(), None, SIZE), folder)
    assert stale is not None and finish(store, stale) is None
    assert built(folder, out).complete
    pictures(folder, ["5/new.png"], first=70)
    store, later, resumed = prepare(store, folder)
    assert later is not None and not resumed
    done = finish(store, stale)
    assert done is not None and len(done) == 18 and (out / "plan").exists()
    assert len(built(folder, out).store) == 19


def test_a_moved_folder_goes_on(folder: Path, tmp_path: Path) -> None:
    built(folder, tmp_path / "out")
    moved = folder.rename(tmp_path / "elsewhere")
    descriptor = Counting()
    assert built(moved, tmp_path / "out", descriptor=descriptor).counts.same == 18 and descriptor.seen == 0


def test_an_index_of_another_version_is_refused_and_left_alone(folder: Path, tmp_path: Path) -> None:
    built(folder, tmp_path / "index")
    manifest = tmp_path / "index/manifest.json"
    data = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(data | {"schema_version": data["schema_version"] - 1}))
    before = segment_bytes(tmp_path / "index"), manifest.read_bytes()
    with pytest.raises(MemfixError, match="another version of memfix") as caught:
        built(folder, tmp_path / "index")
    assert "make the index again" in caught.value.hint
    assert (segment_bytes(tmp_path / "index"), manifest.read_bytes()) == before


def test_tables_are_indexed_row_by_row(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    table(folder / "a.parquet", list(range(10)), groups=3)
    done = built(folder, tmp_path / "out")
    expected = Pixels()([picture(i) for i in range(10)])
    torch.testing.assert_close(torch.from_numpy(done.store.vectors(range(10))), expected, atol=1e-3, rtol=0)
    originals, address = Originals(done.store), str(folder / "a.parquet#image:8+0")
    assert originals.find("whatever", address) == 7
    assert originals.open(done.store.row(7)).tobytes() == picture(7).tobytes()
    table(folder / "a.parquet", [*range(7), 70, *range(8, 10)], groups=3)
    with pytest.raises(MemfixError, match=r"a\.parquet#image:8\+0 has changed"):
        originals.open(done.store.row(7))
    counting = Counting()
    again = built(folder, tmp_path / "out", descriptor=counting)
    assert (again.counts.changed, again.counts.same, counting.seen) == (10, 0, 1)  # by time, then by their bytes


@pytest.mark.parametrize("name", ["x.tar", "x.parquet", "x.png"])
def test_a_single_file_has_an_index_of_its_own(tmp_path: Path, name: str) -> None:
    file, count = tmp_path / "pictures" / name, 1 if name == "x.png" else 2
    pictures(file.parent, ["other.png"])
    match file.suffix:
        case ".tar":
            tar(file, ["1.png", "2.png"])
        case ".parquet":
            table(file, [3, 4])
        case _:
            pictures(file.parent, [name], 5)
    store = built(file, tmp_path / "out").store
    assert len(store) == count and store.manifest.source == str(file)
    assert [Originals(store).open(store.row(i)).size[0] for i in range(count)]
    assert built(file, tmp_path / "out").counts.same == count
    with pytest.raises(MemfixError, match="is the index of"):
        built(file.parent, tmp_path / "out")
