"""Commands of memfix as a user types them, each in a process of its own."""

import subprocess
import sys
import time
from pathlib import Path


class FailedError(RuntimeError):
    """A command that ended with an error; its text is the end of what it said."""


def memfix(log: Path, *words: object) -> float:
    """Run a command, keep what it says in a file, and return the seconds that it took."""
    started = time.monotonic()
    command = [sys.executable, "-m", "memfix", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True)
    log.write_text(f"{' '.join(command[2:])}\n{done.stdout}{done.stderr}")
    if done.returncode:
        raise FailedError((done.stderr or done.stdout).strip()[-1500:])
    return round(time.monotonic() - started, 1)
