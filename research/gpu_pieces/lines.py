"""One line of JSON for each piece that ended: what was found, and on what. Which pieces there are lines of already."""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NoReturn

from gpu_pieces.piece import Machine, Piece
from gpu_pieces.processes import FAILED, OK, SKIPPED, TIMEOUT, Result

ROOT = Path(__file__).parent.parent.parent
RESULTS = ROOT / "research" / "results"
NAME = "gpu.jsonl"
PACKAGES = ("torch", "diffusers", "transformers", "accelerate", "peft", "numpy", "bitsandbytes")

Line = dict[str, Any]


MEMFIX = ("memfix/**/*", "prompts/demo.txt", "prompts/controls.txt")
"""What memfix's own runs of the bundled model depend on."""
PIECES = (
    "research/gpu*.py", "research/gpu_pieces/*.py", "research/published_step.py", "tests/conftest.py", "tests/gpu/*.py",
)  # fmt: skip


def code() -> str:
    """What is measured and by what, in eight hex digits: all of memfix and the bundled model, and of these pieces."""
    return digest(ROOT, *MEMFIX, *PIECES)


def memfix_code(root: Path = ROOT) -> str:
    """The same of memfix and the bundled model alone, on which its verdicts depend."""
    return digest(root, *MEMFIX)


def digest(root: Path, *patterns: str) -> str:
    """Eight hex digits that name the files of a folder with such names, and what is in them."""
    found = hashlib.sha256()
    for file in sorted({f for p in patterns for f in root.glob(p) if f.is_file() and "__pycache__" not in f.parts}):
        for part in (str(file.relative_to(root)).encode(), file.read_bytes()):
            found.update(len(part).to_bytes(8, "big") + part)
    return found.hexdigest()[:8]


def commit(given: str | None = None) -> dict[str, Any]:
    """The commit, and whether files differ from it; a copy without a repository has to be told."""

    def git(*args: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(ROOT), *args], capture_output=True, text=True, timeout=20)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    if given or not (ROOT / ".git").exists():
        return {"commit": given, "dirty": None}
    status = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!research/results")
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if status is None else bool(status)}


def versions() -> dict[str, str]:
    """Of packages, without importing any."""
    found = {"python": sys.version.split()[0]}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    from memfix import __version__

    return {**found, "memfix": __version__}


def line_of(result: Result, machine: Machine, about: dict[str, Any]) -> Line:
    """A line: the result, the machine, and what is the same for all pieces of a script."""
    fields = asdict(result)
    del fields["log"]
    return {
        **fields, "device": machine.device, "tiny": machine.tiny, "device_name": machine.name,
        "memory_gib": machine.memory_gib, "date": datetime.now(timezone.utc).isoformat(timespec="seconds"), **about,
    }  # fmt: skip


NEEDED: dict[str, type | tuple[type, ...]] = {
    "piece": str, "status": str, "reason": str, "seconds": (int, float), "values": dict, "device": str,
    "device_name": str, "tiny": bool, "code": str, "date": str, "versions": dict, "commit": (str, type(None)),
}  # fmt: skip
"""What every line of a piece has, and of which kind."""
ENDS = (OK, FAILED, TIMEOUT, SKIPPED)


def append(file: Path, line: Line) -> None:
    """Add a line, and see it on the disk."""
    file.parent.mkdir(parents=True, exist_ok=True)
    there = file.read_bytes() if file.exists() else b""
    cut_off = bool(there) and not there.endswith(b"\n")
    with file.open("a") as stream:
        stream.write(("\n" if cut_off else "") + json.dumps(line, allow_nan=False) + "\n")
        stream.flush()
        os.fsync(stream.fileno())


def read(*files: Path) -> list[Line]:
    """All lines of some files, each once; what was cut off, or is no line of a piece, is left out."""
    return list({json.dumps(line): line for file in files for line in _lines(file)}.values())


def _lines(file: Path) -> Iterator[Line]:
    if not file.exists():
        return
    for text in file.read_text(errors="replace").splitlines():
        try:
            line = json.loads(text, parse_constant=_refuse, parse_float=_number)
        except ValueError:
            continue
        if isinstance(line, dict) and _is_of_a_piece(line):
            yield line


def _is_of_a_piece(line: Line) -> bool:
    return all(isinstance(line.get(name), kind) for name, kind in NEEDED.items()) and line["status"] in ENDS


def _refuse(word: str) -> NoReturn:
    """Raise ValueError for NaN and infinities, which no line of a piece holds."""
    raise ValueError(word)


def _number(word: str) -> float:
    """Raise ValueError also for what is too large to be a number, as 1e999."""
    return float(word) if math.isfinite(float(word)) else _refuse(word)


def same(line: Line, machine: Machine, version_of_code: str) -> bool:
    """Whether a line is of this code on this machine."""
    here = machine.device, machine.name, machine.tiny, version_of_code
    return here == (line["device"], line["device_name"], line["tiny"], line["code"])


def left(pieces: Sequence[Piece], lines: Iterable[Line], machine: Machine) -> list[Piece]:
    """What there is to do: pieces without a line first, in order, then those that failed or were killed.

    What was skipped counts as done only as long as it would be skipped again.
    """
    status: dict[str, str] = {}
    for line in lines:
        if status.get(line["piece"]) != OK:
            status[line["piece"]] = line["status"]
    never = [p for p in pieces if status.get(p.name, SKIPPED) == SKIPPED]
    never = [p for p in never if p.name not in status or not p.skip(machine)]
    again = [p for p in pieces if status.get(p.name) in (FAILED, TIMEOUT)]
    return [*never, *again]
