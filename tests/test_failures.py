"""What the machine refuses is told in one line, and what is memfix's own fault is not hidden."""

import errno
import os
import signal
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from memfix.cli import app, main
from memfix.failures import machine_error


@pytest.mark.parametrize(
    ("error", "told", "hint"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/a/b"), "No space left on device: /a/b.", "Free some space"),
        (OSError(errno.EROFS, os.strerror(errno.EROFS), "/a"), "Read-only file system: /a.", "to -o"),
        (PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/a"), "Permission denied: /a.", "for this user"),
        (OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), "/a"), "File name too long: /a.", "shorter"),
        (OSError(errno.ESTALE, os.strerror(errno.ESTALE)), f"{os.strerror(errno.ESTALE)}.", "same command"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "No space left on device.", "Free some"),
        (MemoryError(), "There is too little memory.", "--batch-size"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "There is too little memory.", "--batch-size"),
    ],
)
def test_errors_of_the_machine(error: Exception, told: str, hint: str) -> None:
    found = machine_error(error)
    assert found and found.message == told and hint in found.hint


@pytest.mark.parametrize("error", [ValueError("x"), OSError("x"), BrokenPipeError(errno.EPIPE, "gone"), RuntimeError()])
def test_other_errors_are_none_of_the_machine(error: Exception) -> None:
    assert machine_error(error) is None


def test_a_command_ends_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    done = CliRunner().invoke(app, ["report", str(tmp_path / "r" / ("x" * 300))])
    assert done.exit_code == 1 and "File name too long" in done.stderr and "Next: Give a shorter path" in done.stderr


def test_an_end_by_sigterm_is_one_by_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["memfix", "--version"])
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit):
            main()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
    finally:
        signal.signal(signal.SIGTERM, before)
