"""Where memfix starts: an interruption before anything runs is told in one line, too."""

import subprocess
import sys
from pathlib import Path

from memfix.errors import ExitCode

INTERRUPTED_IMPORT = """
import sys
class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "memfix.cli.detect":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupting())
from memfix.__main__ import begin
begin()
"""


def test_an_interruption_while_python_imports_is_told_in_one_line() -> None:
    ended = subprocess.run([sys.executable, "-c", INTERRUPTED_IMPORT], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (ExitCode.INTERRUPTED, "", "Interrupted.\n")


def test_the_command_starts_there() -> None:
    project = (Path(__file__).parent.parent / "pyproject.toml").read_text()
    assert '[project.scripts]\nmemfix = "memfix.__main__:begin"\n' in project
