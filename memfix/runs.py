"""The run folder: append-only JSONL, atomic JSON, one lock, resume. Knows nothing of what the stages mean."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

from memfix import __version__
from memfix.config import Settings
from memfix.errors import MemfixError
from memfix.files import held, write_atomic
from memfix.records import Record

SCHEMA_VERSION = 1
PACKAGES = (
    "torch",
    "diffusers",
    "transformers",
    "accelerate",
    "peft",
    "safetensors",
    "scikit-image",
    "numpy",
    "pillow",
)

BEFORE, AFTER, MODEL = "before", "after", "model"
OUTPUTS = {
    "unlearn": (
        "pairs.jsonl", "yields.jsonl", "variants", "stand-ins", "training.jsonl", "looks.jsonl",
        "checkpoints", "adapters", "rewordings.jsonl", MODEL,
    ),
    "recheck": (AFTER, "changes.jsonl"),
}  # fmt: skip

R = TypeVar("R", bound=Record)


def now() -> str:
    """UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def environment() -> dict[str, Any]:
    """Versions and machine, for the record."""
    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "missing"
    return {
        "memfix": __version__, **_commit(), "python": sys.version.split()[0], "platform": platform.platform(),
        "cpus": os.cpu_count(), "packages": packages,
    }  # fmt: skip


def _commit() -> dict[str, Any]:
    """Commit and dirty flag, when memfix runs from its own repository; an installed wheel has its version."""
    root = Path(__file__).parent.parent
    if not (root / ".git").exists():
        return {"commit": None, "dirty": None}

    def git(*args: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(root), *args], capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    status = git("status", "--porcelain", "--untracked-files=no")
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if status is None else bool(status)}


def digest(*parts: str) -> str:
    """Eight hex digits that name a combination of inputs."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:8]


class Run:
    """One run folder. Create with `Run.open`; hold `run.lock()` while a stage works in it."""

    def __init__(self, path: Path, header: dict[str, Any]) -> None:
        self.path = path
        self.header = header

    # -- opening ------------------------------------------------------------------------------------------------

    @classmethod
    def open(cls, path: Path) -> Run:
        """Open an existing run; errors name what is wrong with the folder."""
        file = path / "run.json"
        if not file.is_file():
            raise MemfixError(f"{path} is not a run folder: it has no run.json.", "Start one with 'memfix detect'.")
        try:
            header = json.loads(file.read_text(encoding="utf-8"))
            schema = header["schema_version"]
        except (ValueError, KeyError, TypeError):
            raise MemfixError(
                f"{file} is damaged: it does not hold a run's header.", "Restore it from a copy, or start a new run."
            ) from None
        if schema != SCHEMA_VERSION:
            raise MemfixError(
                f"{path} was written by another version of memfix (schema {schema}, this one reads {SCHEMA_VERSION}).",
                f"Use memfix {header.get('environment', {}).get('memfix', 'of that time')}, or start a new run.",
            )
        return cls(path, header)

    @classmethod
    def create(cls, path: Path) -> Run:
        """A new run in `path`, or the one that is there already."""
        if (path / "run.json").exists():
            return cls.open(path)
        if path.exists() and any(path.iterdir()):
            raise MemfixError(f"{path} is not empty, and is not a run folder.", "Give another folder to -o.")
        run = cls(path, {"schema_version": SCHEMA_VERSION, "status": "started", "created": now(), "stages": {}})
        run.save()
        return run

    @classmethod
    def newest(cls, root: Path) -> Run:
        """The run under `root` whose header was written last."""
        headers = sorted(root.glob("*/run.json"), key=lambda file: file.stat().st_mtime)
        if not headers:
            raise MemfixError(f"There is no run in {root}.", "Start one with: memfix detect prompts.txt -m MODEL")
        return cls.open(headers[-1].parent)

    # -- header -------------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write the header."""
        write_atomic(self.path / "run.json", json.dumps(self.header, indent=2, ensure_ascii=False) + "\n")

    def settings(self, stage: str) -> dict[str, Any] | None:
        """Settings of a stage as resolved when it ran, None if it did not."""
        entry = self.header["stages"].get(stage)
        return None if entry is None else dict(entry["settings"])

    def finished(self, stage: str) -> bool:
        """Whether a stage ran to its end."""
        return bool(self.header["stages"].get(stage, {}).get("status") == "finished")

    def discard(self, *stages: str) -> None:
        """Forget stages and delete what they wrote."""
        with self.lock():
            for stage in stages:
                self.header["stages"].pop(stage, None)
                for name in OUTPUTS[stage]:
                    path = self.path / name
                    if path.is_dir():
                        shutil.rmtree(path)
                    else:
                        path.unlink(missing_ok=True)
            self.save()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep every other process out of this run."""
        with held(self.path):
            yield

    def check_same(
        self, name: str, settings: Settings, inputs: dict[str, Any], free: AbstractSet[str] = frozenset()
    ) -> None:
        """Raise MemfixError if a stage was begun with other settings or inputs, but for those that are free."""
        entry = self.header["stages"].get(name)
        if entry is None:
            return
        old = {**entry["settings"], **entry["inputs"]}
        new = {**settings.model_dump(mode="json"), **inputs}
        differing = [k for k in sorted((old.keys() | new.keys()) - settings.free - free) if old.get(k) != new.get(k)]
        if differing:
            listed = "; ".join(f"{k}: {old.get(k)!r} there, {new.get(k)!r} now" for k in differing)
            raise MemfixError(
                f"The {name} stage in {self.path} was started with other settings. {listed}.",
                "Give another folder to -o." if name == "detect" else "Give --overwrite to discard its results.",
            )

    @contextmanager
    def stage(
        self, name: str, settings: Settings, inputs: dict[str, Any], argv: list[str],
        free: AbstractSet[str] = frozenset(),
    ) -> Iterator[dict[str, Any]]:  # fmt: skip
        """Record that a stage runs, and how it ends. Refuses to go on with other settings than it began with, but
        for those that are free: always, or, in `free`, as far as the stage has come.

        Yields the stage's entry in the header, for timings and the like. `inputs` identify what the stage reads.
        """
        self.check_same(name, settings, inputs, free)
        entry = self.header["stages"].setdefault(name, {"timings": {}})
        entry |= {"settings": settings.model_dump(mode="json"), "inputs": inputs}
        self.header["environment"] = environment()
        entry |= {"status": "started", "argv": argv, "started": now()}
        self.header["status"] = "started"
        self.save()
        status = "failed"
        try:
            yield entry
            status = "finished"
        except KeyboardInterrupt:
            status = "cancelled"
            raise
        finally:
            entry["status"] = status
            entry["ended"] = now()
            self.header["status"] = status
            self.save()

    # -- lines --------------------------------------------------------------------------------------------------

    def read(self, name: str, kind: type[R]) -> list[R]:
        """All lines of a JSONL file; none if there is no file. A last line that was cut off is left out."""
        path = self.path / name
        if not path.exists():
            return []
        text = path.read_bytes().decode("utf-8", errors="replace")
        lines = text.split("\n")
        records = []
        for number, line in enumerate(lines[:-1], 1):
            try:
                records.append(kind.model_validate_json(line))
            except ValueError as error:
                raise MemfixError(
                    f"{path}:{number} is damaged: {str(error).splitlines()[0]}",
                    "Delete the file so that the stage writes it again, or start a new run.",
                ) from None
        return records

    def write(self, name: str, records: Iterable[Record]) -> None:
        """Write a whole JSONL file at once."""
        write_atomic(self.path / name, "".join(to_line(r) for r in records))

    def append(self, name: str, records: Iterable[Record]) -> None:
        """Add lines; what an interruption cut off before is removed first."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    file.seek(0)
                    file.truncate(file.read().rfind(b"\n") + 1)
            file.write("".join(to_line(r) for r in records).encode())


def to_line(record: Record) -> str:
    """One JSONL line."""
    return record.model_dump_json(by_alias=True) + "\n"


def slug(text: str) -> str:
    """A file-name-safe stem of a text."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40] or "run"
