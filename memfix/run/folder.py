"""The files of a run: append-only JSONL, atomic JSON, one lock, resume. Knows nothing of what the stages mean."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from memfix.config.base import Settings
from memfix.errors import MemfixError
from memfix.files import (
    TEMPORARY,
    atomic_file,
    emptied,
    errors_of,
    held,
    remove_folder,
    require_no_file,
    require_no_links,
    tidy,
    write_atomic,
)
from memfix.records import Record
from memfix.run.environment import environment
from memfix.run.header import SCHEMA_VERSION, STAGE_NAMES, Header, S, Session, Status, checksum
from memfix.run.inputs import Inputs
from memfix.run.outputs import ATTACKED, HEADER, OUTPUTS, SEALED, changed, lines_of, seal
from memfix.run.seal import Overlay, first_names
from memfix.run.written import Written, drop_unnoted, forget_all, require_notes

AMENDED = f".amended{TEMPORARY}"
LITTER = re.compile(r"\.lock|\.run\.json\..*")  # all that a folder holds whose run was killed before it had a header

R = TypeVar("R", bound=Record)


def now() -> str:
    """UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


class Run:
    """One run folder. Create with `Run.open`; hold `run.lock()` while a stage works in it."""

    def __init__(self, path: Path, header: Header) -> None:
        self.path = path
        self.header = header
        self._beside: Path | None = None  # where amended files wait
        self._written = Written()

    # -- opening ------------------------------------------------------------------------------------------------

    @classmethod
    def open(cls, path: Path) -> Run:
        """Open an existing run; errors name what is wrong with the folder."""
        file = path / HEADER
        if not file.is_file():
            raise MemfixError(f"{path} is not a run folder: it has no run.json.", "Start one with 'memfix detect'.")
        hint = "Restore it from a copy, or start a new run."
        damaged = MemfixError(f"{file} is damaged: it does not hold a run's header.", hint)
        try:
            read = json.loads(file.read_bytes())
            schema = read["schema_version"]
            of_then = (read.get("environment") or {}).get("memfix", "of that time")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise damaged from None
        if schema != SCHEMA_VERSION:
            raise MemfixError(
                f"{path} was written by another version of memfix (schema {schema}, this one reads {SCHEMA_VERSION}).",
                f"Use memfix {of_then}, or start a new run.",
            )
        try:
            header = Header.model_validate(read)
        except ValidationError:
            raise damaged from None
        if header.must_be_sealed and checksum(read) != header.sha256:
            raise MemfixError(f"{file} was edited: it is not what memfix wrote.", hint)
        return cls(path, header)

    @classmethod
    def create(cls, path: Path) -> Run:
        """A new run in `path`, or the one that is there already."""
        if (path / HEADER).exists():
            return cls.open(path)
        require_no_file(path)
        if path.exists() and not all(LITTER.fullmatch(file.name) for file in path.iterdir()):
            raise MemfixError(f"{path} is not empty, and is not a run folder.", "Give another folder to -o.")
        path.mkdir(parents=True, exist_ok=True)
        with held(path):
            if not (path / HEADER).exists():  # which another process may have written by now
                cls(path, Header(created=now())).save()
        return cls.open(path)

    @classmethod
    def newest(cls, root: Path) -> Run:
        """Of the runs under `root` that have a finished detection, the one whose header was written last; without any,
        the newest of all."""
        files = sorted(root.glob("*/run.json"), key=lambda file: file.stat().st_mtime, reverse=True)
        if not files:
            raise MemfixError(f"There is no run in {root}.", "Start one with: memfix detect prompts.txt -m MODEL")
        runs = (cls.open(file.parent) for file in files)
        return next((run for run in runs if run.finished("detect")), cls.open(files[0].parent))

    # -- header -------------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write the header, with its digest."""
        told = self.header.dump()
        told["sha256"] = self.header.sha256 = checksum(told)
        write_atomic(self.path / HEADER, json.dumps(told, indent=2, ensure_ascii=False) + "\n")

    def finished(self, stage: str) -> bool:
        """Whether a stage ran to its end."""
        entry = self.header.stages.begun().get(stage)
        return entry is not None and entry.status == "finished"

    def require_intact(self, *stages: str) -> None:
        """Raise MemfixError where what a stage left behind, or what the header says of it, is not what it was when the
        stage ended. Stages that never ended are passed over; one that is begun again is not."""
        require_no_links(self.path)
        for stage in stages:
            if changed := self.changed(stage, SEALED[stage]):
                raise MemfixError(
                    f"In {self.path} {first_names(changed)} changed since the {stage} stage ended.",
                    "Restore the run from a copy. Without one, make that stage anew: detect in a new run, or unlearn "
                    "or recheck with --overwrite. To check weights of another origin, name them by --lora or --model.",
                )

    def changed(self, stage: str, names: Iterable[str]) -> list[str]:
        """What a stage left behind under some names and is not what it was, file by file where its list tells."""
        if self.header.amended:
            with self.lock():  # where what was begun is ended
                pass
        entry = self.header.stages.begun().get(stage)
        if entry is None or (entry.status != "finished" and not entry.seal):
            return []
        return changed(self.path, stage, entry, names)

    # -- amending what ended --------------------------------------------------------------------------------------

    @contextmanager
    def amending(self, *stages: str) -> Iterator[None]:
        """What is written inside takes its place at the end, all of it or nothing, as what these stages left behind.

        Until then it lies in a hidden folder, from which `read` reads. Hold the lock.
        """
        self._beside = emptied(self.path / AMENDED)
        try:
            yield
            for stage in stages:
                if self.finished(stage):
                    seal(Overlay(self.path, self._beside), stage, self.header.stages.begun()[stage])
            files = (file for file in self._beside.rglob("*") if file.is_file())
            self.header.amended = sorted(file.relative_to(self._beside).as_posix() for file in files)
            self.save()  # from here on it holds, also where the rest is left to the next process
            self._settle()
        finally:
            self._beside = None

    def _settle(self) -> None:
        """Put amended files in their places."""
        for name in self.header.amended:
            if (waiting := self.path / AMENDED / name).exists():
                self._written.forget(self.path / name)
                waiting.replace(self.path / name)
        if self.header.amended:
            self.header.amended = []
            self.save()
        shutil.rmtree(self.path / AMENDED, ignore_errors=True)

    def discard(self, *stages: str) -> None:
        """Forget stages and delete what they wrote, the last one first."""
        with self.lock():
            for stage in sorted(stages, key=list(OUTPUTS).index, reverse=True):
                setattr(self.header.stages, stage, None)
                for session in self.header.history:
                    session.discarded |= session.stage == stage
                for name in OUTPUTS[stage]:
                    path = self.path / name
                    if path.is_dir():
                        remove_folder(path)
                    else:
                        path.unlink(missing_ok=True)
            self.save()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep every other process out of this run, and know what the last one has written into its header."""
        with held(self.path):
            self.header = Run.open(self.path).header
            require_no_links(self.path)
            self._settle()
            tidy(self.path, ATTACKED)
            yield

    def check_same(
        self, stage: type[S], settings: Settings, inputs: Inputs, free: AbstractSet[str] = frozenset()
    ) -> S | None:
        """What is recorded of a stage, None if it was not begun.

        Raises MemfixError if it was begun with other settings or inputs, but for those that are free.
        """
        name = STAGE_NAMES[stage]
        entry = self.header.stages.begun().get(name)
        if not isinstance(entry, stage):
            return None
        old = entry.settings.model_dump(mode="json") | entry.inputs.model_dump(mode="json")
        new = settings.model_dump(mode="json") | inputs.model_dump(mode="json")
        differing = [k for k in sorted((old.keys() | new.keys()) - settings.free - free) if old.get(k) != new.get(k)]
        if differing:
            listed = "; ".join(f"{k}: {old.get(k)!r} there, {new.get(k)!r} now" for k in differing)
            raise MemfixError(
                f"The {name} stage in {self.path} was started with other settings. {listed}.",
                "Give another folder to -o." if name == "detect" else "Give --overwrite to discard its results.",
            )
        return entry

    @contextmanager
    def stage(
        self, stage: type[S], settings: Settings, inputs: Inputs, argv: list[str], free: AbstractSet[str] = frozenset()
    ) -> Iterator[S]:
        """Record that a stage runs, and how it ends. Refuses to go on with other settings than it began with, but
        for those that are free: always, or, in `free`, as far as the stage has come.

        Yields the stage's part of the header, for what it finds out. `inputs` identify what the stage reads. Of a stage
        that ended before, nothing is recorded; raises MemfixError where what it left behind changed.
        """
        name = STAGE_NAMES[stage]
        begun = self.check_same(stage, settings, inputs, free)
        entry = begun or stage(settings=settings, inputs=inputs)
        self.require_intact(name)
        if self.finished(name):  # and is neither begun again nor written anew
            yield entry
            return
        if begun and self.header.history:  # runs of an earlier time have none
            require_notes(self.path, name)
        self._written.begin(self.path)
        self._written.require(self.path)
        if self.header.history:
            drop_unnoted(lines_of(self.path, name))
        entry.settings, entry.inputs, entry.argv = settings, inputs, argv
        entry.status, entry.started, entry.seal, entry.counts = "started", now(), {}, {}
        setattr(self.header.stages, name, entry)
        self.header.environment, self.header.status = environment(), "started"
        session = Session(stage=name, argv=argv, started=entry.started, environment=self.header.environment)
        self.header.history.append(session)
        self.save()
        started = time.monotonic()
        status: Status = "failed"
        try:
            yield entry
            entry.timings.setdefault("seconds", round(time.monotonic() - started, 2))
            seal(Overlay(self.path), name, entry)
            status = "finished"
        except KeyboardInterrupt:
            status = "cancelled"
            raise
        finally:
            entry.status = session.status = self.header.status = status
            entry.ended = session.ended = now()
            self.save()
            if status == "finished":
                forget_all(self.path)

    def unfinish(self, stage: str) -> None:
        """Make of a stage that ended one that was interrupted, and that goes on from what is there. Hold the lock."""
        self._written.begin(self.path)
        for file in lines_of(self.path, stage):
            self._written.note(file)
        entry = self.header.stages.begun()[stage]
        entry.status, entry.seal, entry.counts = "started", {}, {}
        self.save()

    # -- lines --------------------------------------------------------------------------------------------------

    def read(self, name: str, kind: type[R]) -> list[R]:
        """All lines of a JSONL file; none if there is no file. A last line that was cut off is left out."""
        path = Overlay(self.path, self._beside).file(name)
        if not path.exists():
            return []
        records = []
        with errors_of(path), path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.endswith(b"\n"):
                    break
                try:
                    records.append(kind.model_validate_json(line.decode("utf-8", errors="replace")))
                except ValueError as error:
                    raise MemfixError(
                        f"{path}:{number} is damaged: {str(error).splitlines()[0]}",
                        "Delete the file so that the stage writes it again, or start a new run.",
                    ) from None
        return records

    def write(self, name: str, records: Iterable[Record]) -> None:
        """Write a whole JSONL file at once."""
        path = (self._beside or self.path) / name
        self._written.forget(path)
        with atomic_file(path) as file:
            file.writelines(to_line(r).encode() for r in records)
        self._note(name, path)

    def append(self, name: str, records: Iterable[Record]) -> None:
        """Add lines; what an interruption cut off before is removed first."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with errors_of(path), path.open("a+b") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    file.seek(0)
                    file.truncate(file.read().rfind(b"\n") + 1)
            file.write("".join(to_line(r) for r in records).encode())
        self._note(name, path)

    def _note(self, name: str, path: Path) -> None:
        """Take down what a stage wrote; attacks apart belong to none, and may be others' work."""
        if not self._beside and not name.startswith(ATTACKED):
            self._written.note(path)


def to_line(record: Record) -> str:
    """One JSONL line."""
    return record.model_dump_json(by_alias=True) + "\n"


def slug(text: str) -> str:
    """A file-name-safe stem of a text."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40] or "run"
