"""memfix in a process of its own, as a user starts it, without importing torch and diffusers again each time.

Processes are forked from a server that has imported what the stages need, and has computed nothing.
"""

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from memfix.cli import main

ENVIRONMENT = {"COLUMNS": "160", "OMP_NUM_THREADS": "1"}
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["memfix.cli", "memfix.flow", "memfix.screens.folder", "scipy.stats"])


def memfix(
    *arguments: object, cwd: Path, code: int | None = 0, env: Mapping[str, str] | None = None, timeout: float = 900
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end. It must exit with `code`, whatever it is when None."""
    words, environment = list(map(str, arguments)), {**os.environ, **ENVIRONMENT, **(env or {})}
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        process = _context.Process(target=_run, args=(words, cwd, environment, out, err))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
        said = [file.read_text(encoding="utf-8") if file.exists() else "" for file in (out, err)]
    done = subprocess.CompletedProcess(words, process.exitcode or 0, *said)
    assert code is None or done.returncode == code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def _run(words: Sequence[str], cwd: Path, environment: Mapping[str, str], out: Path, err: Path) -> None:
    for number, file in ((1, out), (2, err)):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
    sys.stdout, sys.stderr = (open(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))  # noqa: SIM115
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["memfix", *words]
    torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))
    main()
