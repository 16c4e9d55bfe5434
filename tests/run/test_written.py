"""Lines of a stage that has not ended: where it goes on, an edit is noticed, and what was not noted is made anew."""

from collections.abc import Callable
from pathlib import Path

import pytest

from memfix.config.checks import RecheckSettings
from memfix.errors import MemfixError
from memfix.records import DrawnPicture, Prompt
from memfix.run.folder import Run
from memfix.run.header import RecheckStage
from memfix.run.inputs import RecheckInputs
from memfix.run.written import DRAWN

NAME = "after/p.jsonl"


def prompts(*numbers: int) -> list[Prompt]:
    return [Prompt(id=f"p{i}", text="a cat") for i in numbers]


def go_on(run: Run) -> list[str]:
    """What a stage that goes on finds."""
    with run.stage(RecheckStage, RecheckSettings(), RecheckInputs(weights_sha256="a"), []):
        return [p.id for p in run.read(NAME, Prompt)]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A stage that was interrupted after it wrote two lines, one by one."""
    run = Run.create(tmp_path / "r")
    with (
        pytest.raises(KeyboardInterrupt),
        run.stage(RecheckStage, RecheckSettings(), RecheckInputs(weights_sha256="a"), []),
    ):
        run.append(NAME, prompts(1))
        run.append(NAME, prompts(2))
        raise KeyboardInterrupt
    return Run.open(run.path)


EDITS: dict[str, Callable[[str], str]] = {
    "other text": lambda text: text.replace("a cat", "a dog", 1),
    "a line less": lambda text: text.splitlines(keepends=True)[0],
    "another order": lambda text: "".join(reversed(text.splitlines(keepends=True))),
    "nothing": lambda text: "",
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_is_not_taken_for_a_result(run: Run, edit: str) -> None:
    file = run.path / NAME
    file.write_text(EDITS[edit](file.read_text()))
    with pytest.raises(MemfixError, match=r"p\.jsonl is not what was written before the interruption") as caught:
        go_on(run)
    assert "delete it" in caught.value.hint
    file.unlink()
    assert go_on(run) == []


def test_a_stage_that_goes_on_finds_its_lines(run: Run) -> None:
    assert go_on(run) == ["p1", "p2"]
    assert not list(run.path.rglob(".*.written"))  # it has a seal now


def test_lines_that_were_not_noted_are_made_anew(run: Run) -> None:
    with (run.path / NAME).open("a") as file:
        file.write(prompts(3)[0].model_dump_json() + "\n")
    assert go_on(run) == ["p1", "p2"]


def test_a_file_that_was_written_anew_is_known_as_that(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "r")
    with pytest.raises(RuntimeError), run.stage(RecheckStage, RecheckSettings(), RecheckInputs(weights_sha256="a"), []):
        run.append(NAME, prompts(1, 2))
        run.write(NAME, prompts(3))
        run.append(NAME, prompts(4))
        raise RuntimeError
    (run.path / "after/.p.jsonl.written.tmp").write_text("")  # of a kill
    assert go_on(Run.open(run.path)) == ["p3", "p4"]


def test_digests_end_with_the_stage(run: Run) -> None:
    with run.stage(RecheckStage, RecheckSettings(), RecheckInputs(weights_sha256="a"), []):
        run.append(f"after/{DRAWN}", [DrawnPicture(file_name="a.png", sha256="0")])
        assert {file.name for file in (run.path / "after").glob(".*")} == {
            DRAWN, f".{DRAWN}.written", ".p.jsonl.written",
        }  # fmt: skip
    assert not [*run.path.rglob(".*.written"), *run.path.rglob(DRAWN)]


def without(run: Run, pattern: str) -> None:
    """Lose the hidden files, as copies with cp -r run/* or rsync --exclude '.*' do."""
    for file in run.path.rglob(pattern):
        file.unlink()


def test_a_copy_without_hidden_files_is_refused_by_name(run: Run) -> None:
    without(run, ".*")
    with pytest.raises(MemfixError, match="lacks the hidden files that say what its recheck stage wrote") as caught:
        go_on(run)
    assert "cp -a" in caught.value.hint
    run.discard("recheck")
    assert go_on(Run.open(run.path)) == []


def test_lines_whose_digest_alone_is_lost_are_made_anew(run: Run) -> None:
    without(run, ".*.written")
    assert go_on(run) == []


def test_a_kill_before_the_first_digest_costs_no_more_than_those_lines(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "r")
    with pytest.raises(RuntimeError), run.stage(RecheckStage, RecheckSettings(), RecheckInputs(weights_sha256="a"), []):
        raise RuntimeError
    (run.path / "after").mkdir()
    (run.path / NAME).write_text(prompts(1)[0].model_dump_json() + "\n")
    assert go_on(Run.open(run.path)) == []


def test_what_ended_and_goes_on_is_noted_as_it_is(run: Run) -> None:
    assert go_on(run) == ["p1", "p2"]
    with run.lock():
        run.unfinish("recheck")
    (run.path / NAME).write_text("")
    with pytest.raises(MemfixError, match="is not what was written"):
        go_on(Run.open(run.path))
