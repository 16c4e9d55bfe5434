"""No single edit of a finished run goes unnoticed, and none ends in a traceback."""

import shutil
from pathlib import Path
from random import Random

import pytest

from memfix.errors import MemfixError
from memfix.records import Pair, Prompt, Reference, Sample, Score, Step, Verdict, Yield
from memfix.records.recheck import AttackResult, Change
from memfix.run.folder import Run
from memfix.run.outputs import HEADER
from tests.fuzz.mutations import mutated
from tests.fuzz.runs import chain, edit_and_look, files_of, require_refused

pytestmark = pytest.mark.slow  # a whole chain

EDITS, LINES = 150, 15
KINDS = {
    "prompts.jsonl": Prompt, "references.jsonl": Reference, "metadata.jsonl": Sample, "scores.jsonl": Score,
    "verdicts.jsonl": Verdict, "pairs.jsonl": Pair, "yields.jsonl": Yield, "training.jsonl": Step,
    "attacks.jsonl": AttackResult, "changes.jsonl": Change,
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, model_folder: Path, reference_folder: Path) -> Path:
    return chain(tmp_path_factory.mktemp("fuzzed"), model_folder, reference_folder)


def test_every_file_is_missed_and_every_swap_seen(run: Path) -> None:
    for name in files_of(run):
        file = run / name
        before = file.read_bytes()
        file.unlink()
        if name == HEADER:
            with pytest.raises(MemfixError, match=r"no run\.json"):
                Run.open(run)
        else:
            require_refused(run, name)
            if other := next((f for f in file.parent.glob(f"*{file.suffix}") if f.read_bytes() != before), None):
                shutil.copy(other, file)
                require_refused(run, name)
        file.write_bytes(before)


def test_edits_are_refused_by_name(run: Path) -> None:
    for number in range(EDITS):
        try:
            edit_and_look(run, number)
        except Exception as error:
            raise AssertionError(f"edit {number}") from error


def test_lines_are_records_or_damaged(run: Path) -> None:
    """Also those of a stage that has yet to end, which nothing seals."""
    opened = Run.open(run)
    for name in (name for name in files_of(run) if Path(name).name in KINDS):
        before = (run / name).read_bytes()
        for number in range(LINES):
            (run / name).write_bytes(mutated(name, before, Random(number)))
            try:
                opened.read(name, KINDS[Path(name).name])
            except MemfixError as error:
                assert f"{name}:" in error.message
        (run / name).write_bytes(before)


@pytest.mark.parametrize("name", ["../x.png", "/tmp/x.png", "a/../../x.png", "x\0.png"])
def test_names_lead_nowhere_else(name: str, run: Path) -> None:
    for kind, field in ((Sample, "file_name"), (Score, "file_name"), (Prompt, "id"), (Pair, "prompt_id")):
        file = next(n for n in files_of(run) if KINDS.get(Path(n).name) is kind)
        record = Run.open(run).read(file, kind)[0].model_dump(mode="json", by_alias=True)
        with pytest.raises(ValueError):
            kind.model_validate(record | {field: name})


def test_links_in_a_run_are_refused(run: Path, tmp_path: Path) -> None:
    file = next((run / "before").glob("*.png"))
    moved = Path(shutil.move(file, tmp_path / file.name))
    file.symlink_to(moved)
    with pytest.raises(MemfixError, match="is a link"):
        Run.open(run).require_intact("detect")
    with pytest.raises(MemfixError, match="is a link"), Run.open(run).lock():
        pass
    file.unlink()
    shutil.move(moved, file)
    Run.open(run).require_intact("detect")
