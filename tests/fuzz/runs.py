"""A tiny run that went through every stage, and what an edit of one of its files must lead to."""

import json
from pathlib import Path
from random import Random

from memfix import flow
from memfix.config.checks import RecheckSettings
from memfix.config.unlearn import UnlearnSettings
from memfix.console import Talk
from memfix.errors import MemfixError
from memfix.flow.doctor import health
from memfix.run.folder import Run
from tests.detected import FEW, detected_run
from tests.fuzz.mutations import mutated

QUIET = Talk(quiet=True)
UNLEARN = UnlearnSettings(**FEW, reword=False)
RECHECK = RecheckSettings(num_fresh=1, attacks="wording", control_pictures=1, attack_samples=1)
MADE_ANEW = {"report.json", "report.html", "model/README.md"}
"""What reports write anew from the rest, whatever was there."""


def chain(folder: Path, model: Path, references: Path) -> Path:
    """A run that was detected, unlearned, re-checked and reported."""
    run = Run.open(detected_run(folder, model, references))
    flow.unlearn(run, UNLEARN, [], QUIET)
    flow.recheck(Run.open(run.path), RECHECK, [], QUIET)
    flow.report(Run.open(run.path))
    (run.path / ".lock").unlink()
    return run.path


def files_of(run: Path) -> list[str]:
    """All that must stay as it is."""
    found = (file.relative_to(run).as_posix() for file in run.rglob("*") if file.is_file())
    return sorted(name for name in found if name not in MADE_ANEW)


def require_refused(run: Path, name: str) -> None:
    """A run of which one file is another one must be called changed, by the name of that file."""
    try:
        changed = [file for found in health(Run.open(run)) for file in found.changed]
    except MemfixError as error:
        assert Path(name).name in error.message, f"{name}: {error.message}"
        return
    assert changed == [name]


def edit_and_look(run: Path, number: int) -> str:
    """One edit, chosen by its number, and what follows; afterwards the run is as it was. Says which file it was."""
    random = Random(number)
    name = random.choice(files_of(run))
    file = run / name
    before = file.read_bytes()
    after = mutated(name, before, random)
    try:
        if random.random() < 0.1:
            file.unlink()
        elif after != before:
            file.write_bytes(after)
        else:
            return name
        if name == "run.json" and _says_the_same(before, after):
            return name
        require_refused(run, name)
    finally:
        file.write_bytes(before)
    return name


def _says_the_same(before: bytes, after: bytes) -> bool:
    try:
        return bool(json.loads(before) == json.loads(after))
    except (ValueError, RecursionError):
        return False
