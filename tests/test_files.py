"""Files and folders are whole or absent, and one process at a time is in a folder."""

import errno
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from memfix.errors import MemfixError
from memfix.failures import machine_error
from memfix.files import (
    atomic_file,
    atomic_folder,
    errors_of,
    files_below,
    held,
    held_in_turn,
    is_hidden,
    remove_folder,
    write_atomic,
)  # fmt: skip
from memfix.records import Prompt
from memfix.run.folder import Run
from memfix.run.header import Header

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


@pytest.mark.parametrize(
    "path",
    [
        "._a.png", ".DS_Store", "a/.ipynb_checkpoints/a-checkpoint.png", "__MACOSX/._a.png", "__MACOSX/a.png",
        "Thumbs.db", "in/THUMBS.DB", "desktop.ini", "@eaDir/a.png/SYNO_x.jpg", "./._a.png", "lost+found",
    ],
)  # fmt: skip
def test_hidden_and_side_files(path: str) -> None:
    assert is_hidden(path)


@pytest.mark.parametrize("path", ["__drawn_by_someone__1.png", "./a.png", "../a.png", "a..png", "a/b.png"])
def test_what_is_not_hidden(path: str) -> None:
    assert not is_hidden(path)


def test_a_link_into_a_hidden_folder_is_followed(tmp_path: Path) -> None:
    """Its files are not found anyway: under their own names they are passed over."""
    for file in (".store/pics/1", ".store/more/2", "@eaDir/3", "seen/4"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    for link, target in [
        ("pics", ".store/pics"), ("side", "@eaDir"), ("again", "seen"), (".store/pics/more", "../more"),
        (".store/pics/up", "../.."), (".store/more/back", "../pics"),
    ]:  # fmt: skip
        (tmp_path / link).symlink_to(target)
    visible = [found.path for found in files_below(tmp_path) if not is_hidden(found.path)]
    assert visible == ["pics/1", "pics/more/2", "seen/4", "side/3"]
    hidden = [found.path for found in files_below(tmp_path) if is_hidden(found.path)]
    assert hidden == [".store/more/2", ".store/pics/1", "@eaDir/3"]


@contextmanager
def no_file_of_more_than(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _whole_file(path: Path) -> None:
    with atomic_file(path) as file:
        file.write(b"x" * 9999)


def _array(path: Path) -> None:
    with atomic_file(path) as file:
        np.save(file, np.zeros(9999))


def _tensors(path: Path) -> None:
    with atomic_folder(path) as folder:
        save_file({"x": torch.zeros(9999)}, folder / "x.safetensors")


def _lines(path: Path) -> None:
    Run(path.parent, Header(created="")).append(path.name, [Prompt(id="p", text="x" * 9999)])


def _picture(path: Path) -> None:
    with errors_of(path):
        Image.effect_noise((99, 99), 9).save(path, "PNG")


@pytest.mark.parametrize("write", [_whole_file, _array, _tensors, _lines, _picture])
def test_a_file_that_cannot_be_written_to_its_end_is_named(tmp_path: Path, write: Callable[[Path], None]) -> None:
    with pytest.raises(OSError) as caught, no_file_of_more_than(4096):
        write(tmp_path / "it")
    assert caught.value.errno in {errno.EFBIG, errno.EIO} and caught.value.filename == str(tmp_path / "it")
    told = machine_error(caught.value)
    assert told and str(tmp_path / "it") in told.message and told.hint


def test_other_errors_keep_what_they_say(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught, errors_of(tmp_path):
        (tmp_path / "none").open()
    assert caught.value.filename == str(tmp_path / "none")
    with pytest.raises(ValueError, match="mine"), errors_of(tmp_path):
        raise ValueError("mine")
    with pytest.raises(ConnectionResetError) as reset, errors_of(tmp_path):
        raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
    assert reset.value.filename is None
