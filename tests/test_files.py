"""Files and folders are whole or absent, and one process at a time is in a folder."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from memfix.errors import MemfixError
from memfix.files import atomic_file, atomic_folder, files_below, held, held_in_turn, remove_folder, write_atomic

HOLD = """
import sys, time
from pathlib import Path
from memfix.files import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def names(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "new/list.txt") as file:
        file.write(b"one")
        assert not (tmp_path / "new/list.txt").exists()
    assert (tmp_path / "new/list.txt").read_bytes() == b"one"
    with pytest.raises(ZeroDivisionError), atomic_file(tmp_path / "new/list.txt") as file:
        file.write(b"two, and the")
        1 / 0  # noqa: B018  # what goes wrong in the middle
    assert (tmp_path / "new/list.txt").read_bytes() == b"one"
    assert names(tmp_path) == ["new", "new/list.txt"]
    write_atomic(tmp_path / "new/list.txt", "drei ½")
    assert (tmp_path / "new/list.txt").read_text(encoding="utf-8") == "drei ½"


def test_a_folder_appears_when_it_is_whole_and_takes_the_place_of_an_old_one(tmp_path: Path) -> None:
    leftover = tmp_path / "a/.model.tmp"
    leftover.mkdir(parents=True)
    (leftover / "half").touch()  # of a process that was killed
    for content in ("first", "second"):
        with atomic_folder(tmp_path / "a/model") as folder:
            assert names(folder) == []
            (folder / "below").mkdir()
            (folder / "below" / content).touch()
            assert not (tmp_path / "a/model/below" / content).exists()
        assert names(tmp_path) == ["a", "a/model", "a/model/below", f"a/model/below/{content}"]


def test_a_folder_that_failed_leaves_the_old_one(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "model") as folder:
        (folder / "old").touch()
    with pytest.raises(ZeroDivisionError), atomic_folder(tmp_path / "model") as folder:
        (folder / "new").touch()
        1 / 0  # noqa: B018  # what goes wrong in the middle
    assert names(tmp_path) == ["model", "model/old"]


def test_a_folder_loses_its_name_before_its_files(tmp_path: Path) -> None:
    (tmp_path / ".model.old.tmp").mkdir()
    (tmp_path / ".model.old.tmp/half").touch()  # of a removal that was killed
    (tmp_path / "model").mkdir()
    (tmp_path / "model/weights").touch()
    remove_folder(tmp_path / "model")
    assert names(tmp_path) == []


def test_what_another_process_holds_is_refused_at_once_or_waited_for(tmp_path: Path) -> None:
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdin and other.stdout and other.stdout.readline() == "held\n"
    with pytest.raises(MemfixError, match="in use by another memfix process") as caught, held(tmp_path):
        pass
    assert "another folder to -o" in caught.value.hint
    with pytest.raises(MemfixError) as caught, held(tmp_path, hint="Come back."):
        pass
    assert caught.value.hint == "Come back."
    with held(tmp_path, ".other.lock"):
        pass
    entered = threading.Event()

    def wait() -> None:
        with held_in_turn(tmp_path):
            entered.set()

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert not entered.wait(0.2)
    other.communicate("")
    waiting.join()
    assert entered.is_set()
    with held(tmp_path):
        pass


def test_a_folder_is_walked_with_its_links(tmp_path: Path) -> None:
    root, other = tmp_path / "root", tmp_path / "other"
    for file in ("root/b/2", "root/b-c", "root/a.txt", "other/x/1"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(file)
    (root / "one").symlink_to(other)
    (root / "two").symlink_to("b")
    (root / "up").symlink_to(tmp_path)  # which holds the folder itself
    (root / "file").symlink_to(other / "x/1")
    (other / "loop").symlink_to(other)
    (other / "self").symlink_to("self")
    once = ["a.txt", "b/2", "b-c", "file", "one/self", "one/x/1", "up/other/self", "up/other/x/1"]
    assert [found.path for found in files_below(root)] == once
    assert [found.path for found in files_below(root, again=True)] == sorted(
        [*once, "two/2"], key=lambda p: p.split("/")
    )
    problems = {found.path: found.problem for found in files_below(root) if found.problem}
    assert problems == dict.fromkeys(["one/self", "up/other/self"], "Too many levels of symbolic links")
    assert [*files_below(root / "none")] == [(".", "No such file or directory")]
