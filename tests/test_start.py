"""Where memfix starts: an interruption before anything runs is told in one line, too."""

import subprocess
import sys
from pathlib import Path

import pytest

from memfix.errors import ExitCode

INTERRUPTED_IMPORT = """
import sys
class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "memfix.cli.detect":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupting())
from memfix.__main__ import run_command_line
run_command_line()
"""


def test_an_interruption_while_python_imports_is_told_in_one_line() -> None:
    ended = subprocess.run([sys.executable, "-c", INTERRUPTED_IMPORT], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (ExitCode.INTERRUPTED, "", "Interrupted.\n")


def test_the_command_starts_there() -> None:
    project = (Path(__file__).parent.parent / "pyproject.toml").read_text()
    assert '[project.scripts]\nmemfix = "memfix.__main__:run_command_line"\n' in project


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["detect", "--help"]])
def test_a_full_disk_under_help_is_one_line(words: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "memfix", *words]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == "Error: No space left on device." and "Traceback" not in done.stderr
