"""Runs pieces, each in a process of its own that is killed at its limit, and says how each ended.

A process is forked from this one, which has everything imported and never touches the GPU, so that none pays for the
imports again. Where a forked process cannot use the GPU, new ones are started instead. Knows nothing of what is run.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from gpu_pieces.orphans import end_with
from gpu_pieces.piece import Here, Machine, Piece, Value, WrongResultError, not_finite

METHODS: dict[str, type[BaseProcess]] = {
    "fork": multiprocessing.get_context("fork").Process, "spawn": multiprocessing.get_context("spawn").Process,
}  # fmt: skip
OK, FAILED, TIMEOUT, SKIPPED = "ok", "failed", "timeout", "skipped"
LEAST_SHARE = 1 / 4  # of a piece's limit: with less time than that it is not begun
FILLED = 0.9  # of the GPU's memory by pieces that run beside each other
POLL = 0.02  # seconds
PATIENCE = 10  # seconds for a killed process to end; one that waits for a driver may never do


@dataclass(frozen=True)
class Result:
    """How a piece ended. `seconds`: with those of earlier tries, if it went on with what they left. `log`: what it
    printed, with the traceback if it raised."""

    piece: str
    status: str
    reason: str
    seconds: float
    values: dict[str, Value]
    log: str = ""


@dataclass
class Running:
    """A piece on its way."""

    piece: Piece
    process: BaseProcess
    started: float
    limit: float
    cut: bool
    """Whether the limit is what was left of the script's time, not the piece's own."""
    here: Here
    log: Path


class Processes:
    """Starts pieces by a method of multiprocessing, `fork` or `spawn`, on a device."""

    def __init__(self, method: str, machine: Machine, work: Path) -> None:
        self._process, self._machine, self._work = METHODS[method], machine, work

    def run(self, pieces: Sequence[Piece], deadline: float) -> Generator[Result]:
        """Results as they come. What has too little time left before `deadline`, of time.monotonic, is not begun."""
        waiting, running = list(pieces), list[Running]()
        try:
            while waiting or running:
                for r in [r for r in running if self._over(r)]:
                    running.remove(r)
                    yield self._ended(r)
                while waiting and self._may_start(waiting[0], running):
                    piece = waiting.pop(0)
                    if reason := piece.skip(self._machine):
                        yield Result(piece.name, SKIPPED, reason, 0.0, {})
                    elif deadline - time.monotonic() >= LEAST_SHARE * piece.limit:
                        running.append(self._start(piece, deadline))
                time.sleep(POLL)
        finally:
            for r in running:
                kill(r.process)

    def _may_start(self, piece: Piece, running: Sequence[Running]) -> bool:
        if not running or piece.skip(self._machine):
            return True
        beside = [piece.beside, *(r.piece.beside for r in running)]
        if not all(beside) or len(beside) > (os.cpu_count() or 1):
            return False
        return self._machine.device == "cpu" or sum(beside) <= FILLED * self._machine.memory_gib

    def _start(self, piece: Piece, deadline: float) -> Running:
        file, log = self._work / f"{piece.name}.values.json", self._work / f"{piece.name}.log"
        file.unlink(missing_ok=True)
        here = Here(self._machine.device, self._machine.tiny, self._work, file)
        process = self._process(target=_child, args=(piece.run, here, log, os.getpid()), name=piece.name)
        process.start()
        now = time.monotonic()
        left = deadline - now
        return Running(piece, process, now, min(piece.limit, left), left < piece.limit, here, log)

    def _spent(self, piece: Piece) -> Path:
        return self._work / f"{piece.name}.seconds"

    def _earlier(self, piece: Piece) -> float:
        """Seconds of earlier tries that a piece goes on with."""
        file = self._spent(piece)
        return float(file.read_text() or 0) if piece.goes_on and file.exists() else 0.0

    def _over(self, r: Running) -> bool:
        return not r.process.is_alive() or time.monotonic() - r.started > r.limit

    def _ended(self, r: Running) -> Result:
        seconds, late = round(time.monotonic() - r.started + self._earlier(r.piece), 1), r.process.is_alive()
        kill(r.process)  # also what it left running
        with suppress(OSError):  # a full disk
            self._spent(r.piece).write_text(str(seconds))
        values = json.loads(r.here.file.read_text()) if r.here.file.exists() else {}
        reason, done = str(values.pop(REASON, "")), values.pop(DONE, False)
        log = r.log.read_text(encoding="utf-8", errors="replace") if r.log.exists() else ""
        if late:
            what = "what was left of the script's time" if r.cut else "its limit"
            return Result(r.piece.name, TIMEOUT, f"killed after {r.limit:.0f} s, {what}", seconds, values, log)
        if r.process.exitcode and not reason:
            reason = f"the process ended with code {r.process.exitcode}: {_last_lines(log)}"
        if not (reason or done):
            reason = "the process ended before the piece did"
        if bad := not_finite(values):
            reason = reason or f"no finite numbers: {', '.join(bad)}"
            values |= {name: str(values[name]) for name in bad}
        return Result(r.piece.name, FAILED if reason else OK, reason, seconds, values, log)


REASON = "reason"  # among the values of a piece that failed
DONE = "done"  # among those of one that came to its end


def kill(process: BaseProcess) -> None:
    """End a process and all that it started."""
    if process.pid is not None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:  # all of them have ended, or it has not begun a group of its own yet
            process.kill()
    process.join(PATIENCE)


def _child(run: Callable[[Here], None], here: Here, log: Path, script: int) -> None:
    """The whole life of a piece's process, which is over when the script's is, however that ends."""
    os.setpgid(0, 0)
    sys.stdout = sys.stderr = file = log.open("w", buffering=1, encoding="utf-8", errors="backslashreplace")
    os.dup2(file.fileno(), 1)
    os.dup2(file.fileno(), 2)
    end_with(script)
    try:
        run(here)
        here.note(**{DONE: True})
    except BaseException as error:  # whatever it is becomes the result of the piece, which nobody else would record
        traceback.print_exc()
        here.note(**{REASON: said(error)})
    file.flush()
    os._exit(0)  # all is said; a thread or a driver that does not end would make it a piece that was not done in time


def said(error: BaseException) -> str:
    """An error in a line."""
    if isinstance(error, WrongResultError):
        return str(error)
    return " ".join("".join(traceback.format_exception_only(error)).split())[-500:]


def _last_lines(log: str) -> str:
    return " ".join(" ".join(log.strip().splitlines()[-3:]).split())[-500:]
