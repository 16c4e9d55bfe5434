"""The run folder: lock, resume, damage, versions."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from memfix.config.checks import LATER_SETTINGS, DetectSettings, RecheckSettings
from memfix.errors import MemfixError
from memfix.files import digest
from memfix.findings import BackgroundRecord, KnownCopies
from memfix.records import Prompt, Score
from memfix.run.folder import Run, slug
from memfix.run.header import DetectStage, RecheckStage
from memfix.run.inputs import DetectInputs, RecheckInputs
from memfix.run.outputs import HEADER, PASSING

WEIGHTS = RecheckInputs(weights_sha256="a")
DETECTED = DetectInputs(
    prompts="0", model_sha256="0", model_config_sha256="0", references=None, index=None, measure="0"
)  # fmt: skip


def prompt(i: int) -> Prompt:
    return Prompt(id=f"p{i}", text=f"text {i}")


def test_a_locked_run_is_refused(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "r")
    with run.lock(), pytest.raises(MemfixError, match="in use by another"), Run.open(run.path).lock():
        pass
    with Run.open(run.path).lock():  # free again
        pass


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "damaged"), ("[]", "damaged"), ('{"schema_version": 99}', "another version"), ("", "damaged")],
)
def test_unusable_headers(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(MemfixError, match=message) as caught:
        Run.open(tmp_path)
    assert caught.value.hint


def test_not_a_run(tmp_path: Path) -> None:
    with pytest.raises(MemfixError, match="not a run folder"):
        Run.open(tmp_path)
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(MemfixError, match="not empty"):
        Run.create(tmp_path)
    with pytest.raises(MemfixError, match="no run in"):
        Run.newest(tmp_path / "none")


def test_a_line_cut_off_is_dropped_and_written_over(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "r")
    run.append("p.jsonl", [prompt(1)])
    with (run.path / "p.jsonl").open("a") as file:
        file.write('{"id": "p2", "te')
    assert [p.id for p in run.read("p.jsonl", Prompt)] == ["p1"]
    run.append("p.jsonl", [prompt(2)])
    assert [p.id for p in run.read("p.jsonl", Prompt)] == ["p1", "p2"]


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "r")
    run.write("p.jsonl", [prompt(1)])
    (run.path / "p.jsonl").write_text('{"id": 1}\n')
    with pytest.raises(MemfixError, match=r"p\.jsonl:1 is damaged"):
        run.read("p.jsonl", Prompt)


def test_status_is_written_last_and_says_how_a_stage_ended(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "r")
    with run.stage(RecheckStage, RecheckSettings(), WEIGHTS, []):
        assert json.loads((run.path / "run.json").read_text())["status"] == "started"
        assert not Run.open(run.path).finished("recheck")
    assert Run.open(run.path).finished("recheck")
    run.discard("recheck")
    with pytest.raises(RuntimeError), run.stage(RecheckStage, RecheckSettings(), WEIGHTS, []):
        raise RuntimeError
    assert Run.open(run.path).header.status == "failed"
    with pytest.raises(KeyboardInterrupt), run.stage(RecheckStage, RecheckSettings(), WEIGHTS, []):
        raise KeyboardInterrupt
    assert Run.open(run.path).header.status == "cancelled"


def test_changed_settings_are_refused_by_name(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "r")
    with run.stage(RecheckStage, RecheckSettings(), WEIGHTS, []):
        pass
    changed = run.stage(RecheckStage, RecheckSettings(num_fresh=4), WEIGHTS, [])
    with pytest.raises(MemfixError, match="num_fresh: 16 there, 4 now") as caught, changed:
        pass
    assert "--overwrite" in caught.value.hint
    other = run.stage(RecheckStage, RecheckSettings(), RecheckInputs(weights_sha256="b"), [])
    with pytest.raises(MemfixError, match="weights_sha256: 'a' there, 'b' now"), other:
        pass
    run.discard("recheck")
    with run.stage(RecheckStage, RecheckSettings(num_fresh=4), WEIGHTS, []):
        pass


def test_discard_removes_what_the_stage_wrote(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "r")
    (run.path / "after").mkdir()
    (run.path / "after" / "x.png").write_text("")
    (run.path / "changes.jsonl").write_text("")
    (run.path / "prompts.jsonl").write_text("")
    run.discard("recheck")
    assert sorted(p.name for p in run.path.iterdir() if p.name != ".lock") == ["prompts.jsonl", "run.json"]


def test_no_interruption_leaves_a_result_of_a_stage_that_is_being_discarded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What says that a stage is complete goes first, and the later stage before the earlier one."""
    gone = list[str]()
    run = Run.create(tmp_path / "r")
    (run.path / "model").mkdir()
    for name in ("rewordings.jsonl", "changes.jsonl"):
        (run.path / name).write_text("")
    unlink, rename = Path.unlink, Path.rename
    monkeypatch.setattr(Path, "unlink", lambda p, missing_ok=False: (gone.append(p.name), unlink(p, missing_ok))[1])
    monkeypatch.setattr(Path, "rename", lambda p, to: (gone.append(p.name), rename(p, to))[1])
    run.discard("unlearn", "recheck")
    order = [gone.index(name) for name in ("changes.jsonl", "model", "rewordings.jsonl")]
    assert order == sorted(order)


def test_a_process_that_waited_keeps_what_another_one_has_written(tmp_path: Path) -> None:
    early = Run.create(tmp_path / "r")
    late = Run.open(early.path)
    with late.lock(), late.stage(RecheckStage, RecheckSettings(), WEIGHTS, []):
        pass
    early.discard("unlearn")
    assert Run.open(early.path).finished("recheck")


def test_slug_is_safe() -> None:
    assert slug("../../etc/passwd") == "etc-passwd"
    assert slug("\u2028💥") == "run"
    assert len(slug("x" * 500)) == 40


def test_a_file_is_no_folder_for_a_run(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("x")
    for place in (tmp_path / "taken", tmp_path / "taken/run"):
        with pytest.raises(MemfixError, match="is a file, not a folder"):
            Run.create(place)


def test_a_detection_that_was_sealed_before_there_were_witnesses_is_still_intact(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run")
    near = BackgroundRecord(references=3, duplicates=0, p50=0.1, p99=0.2, closest=0.3)
    stage = DetectStage(settings=DetectSettings(), inputs=DETECTED, status="finished", background=near)
    told = stage.model_dump(
        mode="json",
        exclude=PASSING | {"witnesses", "known_copies", "sources", "drawn", "sampling_doubt", "reference_detail"},
    )
    del told["background"]["false_alarms"]
    told["settings"] = {k: v for k, v in told["settings"].items() if k not in LATER_SETTINGS} | {"adapter": None}
    stage.seal = {HEADER: digest(json.dumps(told, sort_keys=True))}
    run.header.stages.detect = stage
    with pytest.raises(MemfixError) as caught:  # nothing was written here, but the header is what it was
        run.require_intact("detect")
    assert "run.json" not in str(caught.value)
    stage.known_copies = [KnownCopies(altered="tinted", pictures=3, seen=1, disputed=0)]
    with pytest.raises(MemfixError, match=r"run\.json"):
        run.require_intact("detect")


def ended(run: Run, files: dict[str, str]) -> None:
    """A re-check that left files behind."""
    with run.stage(RecheckStage, RecheckSettings(), WEIGHTS, ["recheck"]):
        for name, text in files.items():
            (run.path / name).write_text(text)


def test_a_stage_that_ended_is_not_begun_again(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "r")
    ended(run, {"changes.jsonl": "1\n"})
    before = (run.path / HEADER).read_bytes()
    with run.stage(RecheckStage, RecheckSettings(), WEIGHTS, ["recheck", "again"]):
        pass
    run.save()
    assert (run.path / HEADER).read_bytes() == before
    (run.path / "changes.jsonl").write_text("2\n")
    again = run.stage(RecheckStage, RecheckSettings(), WEIGHTS, [])
    with pytest.raises(MemfixError, match=r"changes\.jsonl changed"), again:
        pass


def test_history_keeps_what_was_discarded_and_what_was_stopped(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "r")
    with pytest.raises(KeyboardInterrupt), run.stage(RecheckStage, RecheckSettings(), WEIGHTS, ["one"]):
        raise KeyboardInterrupt
    ended(run, {})
    run.discard("recheck")
    ended(run, {})
    told = [(s.argv, s.status, s.discarded) for s in Run.open(run.path).header.history]
    assert told == [(["one"], "cancelled", True), (["recheck"], "finished", True), (["recheck"], "finished", False)]


def test_a_list_of_files_is_one_that_sha256sum_reads(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "r")
    (run.path / "after").mkdir()
    ended(run, {"changes.jsonl": "1\n2\n", "after/0.png": "x"})
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "recheck.sha256"], cwd=run.path, check=True)
    stage = run.header.stages.recheck
    assert stage and stage.counts == {"changes.jsonl": 2, "after": 1, "recheck.sha256": 2}


def test_amended_files_take_their_places_together_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run.create(tmp_path / "r")
    ended(run, {"changes.jsonl": ""})
    run.require_intact("recheck")

    def amend() -> None:
        with run.lock(), run.amending("recheck"):
            run.write("changes.jsonl", [prompt(1)])
            assert run.read("changes.jsonl", Prompt) == [prompt(1)]

    with monkeypatch.context() as patch:
        patch.setattr(Run, "save", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            amend()
    left = Run.open(run.path)
    left.require_intact("recheck")
    assert left.read("changes.jsonl", Prompt) == []
    with monkeypatch.context() as patch:
        patch.setattr(Run, "_settle", lambda self: None)  # as if it was killed there
        amend()
    assert (run.path / "changes.jsonl").read_text() == ""
    late = Run.open(run.path)
    late.require_intact("recheck")  # which ends what was begun
    assert late.read("changes.jsonl", Prompt) == [prompt(1)] and not late.header.amended
    assert not list(run.path.glob(".*.tmp"))


def test_a_failed_start_is_not_the_newest_run(tmp_path: Path) -> None:
    good, bad = Run.create(tmp_path / "good"), Run.create(tmp_path / "bad")
    good.header.stages.detect = DetectStage(settings=DetectSettings(), inputs=DETECTED, status="finished")
    good.save()
    bad.save()
    os.utime(bad.path / HEADER, (2e9, 2e9))
    assert Run.newest(tmp_path).path == good.path
    good.header.stages.detect = None
    good.save()
    assert Run.newest(tmp_path).path == bad.path


def test_a_run_that_was_killed_before_it_had_a_header_is_begun_again(tmp_path: Path) -> None:
    (folder := tmp_path / "r").mkdir()
    for name in (".lock", ".run.json.99.tmp"):
        (folder / name).write_text("")
    run = Run.create(folder)
    with run.lock():
        assert sorted(f.name for f in folder.iterdir()) == [".lock", HEADER]


def test_an_edited_header_is_refused(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "r")
    ended(run, {})
    told = json.loads((run.path / HEADER).read_text())
    for edit in (told | {"created": "then"}, {k: v for k, v in told.items() if k != "sha256"}, told | {"history": []}):
        (run.path / HEADER).write_text(json.dumps(edit))
        with pytest.raises(MemfixError, match=r"run\.json was edited"):
            Run.open(run.path)
    (run.path / HEADER).write_text(json.dumps(told))  # laid out otherwise, it says the same
    Run.open(run.path)


def test_what_is_no_number_is_read_as_it_was_written(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "r")
    score = Score(
        file_name="a.png", prompt_id="p", seed=0, reference="b.png", copy_=False, detail=0.1,
        measures={"tiled_l2": float("inf"), "ssim": float("nan")},
    )  # fmt: skip
    run.write("scores.jsonl", [score])
    run.append("scores.jsonl", [score])
    for found in run.read("scores.jsonl", Score):
        assert found.measures["tiled_l2"] == float("inf") and found.measures["ssim"] != found.measures["ssim"]
