"""memfix in a process of its own, as a user starts it, without importing torch and diffusers again each time.

Processes are forked from a server that has imported what the stages need, and has computed nothing.
"""

import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from memfix.cli import main

ENVIRONMENT = {"COLUMNS": "160", "OMP_NUM_THREADS": "1"}
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    [
        "memfix.cli",
        "memfix.flow.run",
        "memfix.flow.attack",
        "memfix.flow.export",
        "memfix.screens.folder",
        "scipy.stats",
    ]
)


def memfix(
    *arguments: object, cwd: Path, code: int | None = 0, env: Mapping[str, str] | None = None, timeout: float = 900
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end. It must exit with `code`, whatever it is when None."""
    (done,) = _finished(arguments, cwd, [env or {}], timeout)
    assert code is None or done.returncode == code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def memfix_on_ranks(
    *arguments: object, cwd: Path, ranks: int = 2, env: Mapping[str, str] | None = None, timeout: float = 900
) -> subprocess.CompletedProcess[str]:
    """Run a command in several processes that know each other, as torchrun starts them; what all of them say."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    world = {"WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    shared = {key: str(value) for key, value in world.items()} | {"CUDA_VISIBLE_DEVICES": "", **(env or {})}
    own = [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(ranks)]
    done = _finished(arguments, cwd, own, timeout)
    code = max(d.returncode for d in done)
    return subprocess.CompletedProcess(
        done[0].args, code, "".join(d.stdout for d in done), "".join(d.stderr for d in done)
    )


def started(target: Callable[..., None], *arguments: object) -> int:
    """Let a function run to its end in a process of its own; the exit code, the negative of a signal that ended it."""
    process = _context.Process(target=target, args=arguments)
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def _finished(
    arguments: Sequence[object], cwd: Path, environments: Sequence[Mapping[str, str]], timeout: float
) -> list[subprocess.CompletedProcess[str]]:
    """Processes that are started at once, one for each environment, when all have ended."""
    words, done = list(map(str, arguments)), []
    with tempfile.TemporaryDirectory() as folder:
        processes = []
        for number, env in enumerate(environments):
            out, err = (Path(folder, f"{name}{number}") for name in ("out", "err"))
            environment = {**os.environ, **ENVIRONMENT, **env}
            process = _context.Process(target=_run, args=(words, cwd, environment, out, err))
            process.start()
            processes.append((process, out, err))
        deadline = time.monotonic() + timeout
        for process, out, err in processes:
            process.join(max(0.0, deadline - time.monotonic()))
            if process.exitcode is None:
                process.kill()
                process.join()
            said = [file.read_text(encoding="utf-8") if file.exists() else "" for file in (out, err)]
            done.append(subprocess.CompletedProcess(words, process.exitcode or 0, *said))
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
