"""research/gpu.py: all of it on the CPU at tiny sizes, and how it ends what goes wrong."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "research"))
import gpu
from gpu_pieces import lines, tables
from gpu_pieces.fits import FITS
from gpu_pieces.lines import ROOT
from gpu_pieces.piece import Here, Machine, Piece
from gpu_pieces.processes import Processes, Result
from gpu_pieces.table_of_pieces import PIECES
from tests.research.states import runs, wait_for

pytestmark = pytest.mark.slow  # waits for processes

CPU = Machine("cpu", True, "2 CPU cores", 8.0)
H200 = Machine("cuda", False, "NVIDIA H200", 139.8)
ABOUT = {"code": "0123abcd", "commit": "f" * 40, "dirty": False, "versions": {"torch": "2.11.0"}, "argv": []}
REASONS = {"there is no GPU", "half precision takes a CPU minutes"}


def script(*args: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "research" / "gpu.py"), *map(str, args)], capture_output=True, text=True,
        timeout=1500, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.mark.slow
def test_every_piece_runs_on_the_cpu_and_none_twice(tmp_path: Path) -> None:
    again = ["--device", "cpu", "--tiny", "--out", tmp_path, "--work", tmp_path / "work", "--minutes", 24]
    done = script(*again)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{_read(tmp_path / 'gpu.log')}"
    found = {line["piece"]: line for line in lines.read(tmp_path / "gpu.jsonl")}
    assert {name: line["status"] for name, line in found.items() if line["status"] not in ("ok", "skipped")} == {}
    assert {line["reason"] for line in found.values() if line["status"] == "skipped"} == REASONS
    ok = {name for name, line in found.items() if line["status"] == "ok"}
    models = {f"{m}-{w}" for m in ("sd1", "sd2", "sdxl") for w in ("full", "lora", "sampling")}
    assert ok == {"demo", "tests", "chain-fp32-lora", "chain-fp32-full", "adapter"} | models
    for line in found.values():
        assert line["device"] == "cpu" and line["tiny"]
        assert line["code"] and line["date"] and line["versions"]["torch"] and line["memory_gib"] > 0
    assert found["demo"]["values"]["memorized"] > 0
    assert found["demo"]["values"]["steps"] == 2
    assert found["demo"]["values"]["attacks_before_succeeded"] > 0
    assert found["demo"]["values"]["attacks_after"] > found["chain-fp32-full"]["values"]["attacks_after"] > 0
    assert found["chain-fp32-full"]["values"]["blank_pictures"] == 0
    assert found["tests"]["values"]["tests_passed"] > 0
    assert found["sd1-full"]["values"]["batch16_over_published"] > 0
    assert 0 < found["sd2-sampling"]["values"]["batch8_unet_share"] <= 1
    assert "met" not in done.stdout.split()  # a CPU says nothing of what is wanted of a GPU

    page = tmp_path / "README.md"
    page.write_text(f"before\n{tables.BEGIN}\nold\n{tables.END}\nafter\n")
    tables.write_readme(page, found.values())
    assert page.read_text() == f"before\n{tables.BEGIN}\nNot measured on a GPU.\n{tables.END}\nafter\n"

    size = (tmp_path / "gpu.jsonl").stat().st_size
    assert script(*again).returncode == 0
    assert (tmp_path / "gpu.jsonl").stat().st_size == size


def _read(file: Path) -> str:
    return file.read_text() if file.exists() else ""


# -- what goes wrong ------------------------------------------------------------------------------------------------


def fine(here: Here) -> None:
    here.note(answer=42.0)


def raises(here: Here) -> None:
    here.note(before=1)
    print("so far")
    raise ValueError("of this and that")


def hangs(here: Here) -> None:
    here.note(before=1)
    time.sleep(600)


def starts_what_hangs(here: Here) -> None:
    child = subprocess.Popen(["sleep", "600"])
    here.note(pid=child.pid)
    child.wait()


def dies(here: Here) -> None:
    print("dying", flush=True)
    os._exit(3)


def ends_early(here: Here) -> None:
    here.note(half=1)
    os._exit(0)


def no_number(here: Here) -> None:
    here.note(good=1.0, bad=float("nan"))


def run(folder: Path, *pieces: Piece, seconds: float = 60, machine: Machine = CPU) -> dict[str, Result]:
    found = Processes("fork", machine, folder).run(pieces, time.monotonic() + seconds)
    return {result.piece: result for result in found}


def test_what_goes_wrong_is_recorded_and_ends_nothing_else(tmp_path: Path) -> None:
    found = run(
        tmp_path, Piece("raises", 20, raises), Piece("dies", 20, dies), Piece("nan", 20, no_number),
        Piece("early", 20, ends_early),
        Piece("skipped", 20, raises, skip=lambda machine: f"not on {machine.device}"), Piece("fine", 20, fine),
    )  # fmt: skip
    assert {name: r.status for name, r in found.items()} == {
        "raises": "failed", "dies": "failed", "nan": "failed", "skipped": "skipped", "fine": "ok", "early": "failed",
    }  # fmt: skip
    assert found["raises"].reason == "ValueError: of this and that"
    assert found["raises"].values == {"before": 1}
    assert "so far" in found["raises"].log and "Traceback" in found["raises"].log
    assert found["dies"].reason == "the process ended with code 3: dying"
    assert found["early"].reason == "the process ended before the piece did"
    assert found["nan"].reason == "no finite numbers: bad"
    assert found["skipped"].reason == "not on cpu"
    assert found["fine"].values == {"answer": 42.0}
    for result in found.values():  # what JSON does not know would not be written
        lines.append(tmp_path / "gpu.jsonl", lines.line_of(result, CPU, ABOUT))
    assert len(lines.read(tmp_path / "gpu.jsonl")) == 6


@pytest.mark.parametrize("work", [hangs, starts_what_hangs])
def test_what_hangs_is_killed_at_its_limit_with_all_that_it_started(tmp_path: Path, work: Callable) -> None:
    found = run(tmp_path, Piece("hangs", 3, work), Piece("fine", 20, fine))
    assert found["hangs"].status == "timeout"
    assert found["hangs"].reason == "killed after 3 s, its limit"
    assert found["fine"].status == "ok"
    assert list(found) == ["hangs", "fine"]  # in this order: nothing runs beside a piece that was given no memory
    if pid := found["hangs"].values.get("pid"):
        assert wait_for(lambda: not runs(int(pid)))
    else:
        assert found["hangs"].values == {"before": 1}


def is_done_but_does_not_end(here: Here) -> None:
    here.note(own=os.getpid())
    threading.Thread(target=time.sleep, args=(600,)).start()


def test_what_is_done_is_done_though_something_of_it_goes_on(tmp_path: Path) -> None:
    """A piece that still ran at its limit would be a timeout: that it is none says that nobody waited for it."""
    found = run(tmp_path, Piece("done", 60, is_done_but_does_not_end))
    assert found["done"].status == "ok"
    assert not runs(int(found["done"].values["own"]))


def test_what_has_too_little_time_left_is_not_begun(tmp_path: Path) -> None:
    found = run(tmp_path, Piece("long", 600, fine), Piece("hangs", 10, hangs), seconds=4)
    assert list(found) == ["hangs"]
    assert "what was left of the script's time" in found["hangs"].reason


def sleeps(here: Here) -> None:
    here.note(began=time.time())
    time.sleep(1)
    here.note(ended=time.time())


@pytest.mark.parametrize(("gib", "together"), [(10.0, True), (100.0, False), (0.0, False)])
def test_pieces_run_beside_each_other_where_they_fit(tmp_path: Path, gib: float, together: bool) -> None:
    if (os.cpu_count() or 1) < 2:
        pytest.skip("one core")
    found = run(tmp_path, *(Piece(name, 30, sleeps, gib) for name in "ab"), machine=H200)
    a, b = (found[name].values for name in "ab")
    assert (b["began"] < a["ended"]) is together


# -- what is done again ---------------------------------------------------------------------------------------------


def line(piece: str, status: str = "ok", machine: Machine = H200, values: dict | None = None, **about) -> lines.Line:
    return lines.line_of(Result(piece, status, "", 1.0, values or {}), machine, {**ABOUT, **about})


def test_what_was_never_tried_comes_before_what_failed() -> None:
    pieces = [Piece(name, 1, fine) for name in "abcde"]
    known = [line("a", "failed"), line("b"), line("c", "timeout"), line("b", "failed"), line("d")]
    assert [p.name for p in lines.left(pieces, known, H200)] == ["e", "a", "c"]


def test_what_was_skipped_is_run_once_there_is_what_it_lacked() -> None:
    lacking = Piece("a", 1, fine, skip=lambda machine: "bitsandbytes is not installed")
    known = [line("a", "skipped")]
    assert lines.left([lacking], known, H200) == []
    assert [p.name for p in lines.left([Piece("a", 1, fine)], known, H200)] == ["a"]


def test_lines_of_other_code_and_other_machines_do_not_count() -> None:
    assert lines.same(line("a"), H200, ABOUT["code"])
    assert not lines.same(line("a", code="other"), H200, ABOUT["code"])
    assert not lines.same(line("a"), CPU, ABOUT["code"])
    assert not lines.same(line("a"), Machine("cuda", True, "NVIDIA H200", 139.8), ABOUT["code"])
    assert not lines.same(line("a"), Machine("cuda", False, "NVIDIA H100", 79.6), ABOUT["code"])


def test_a_line_that_was_cut_off_is_none(tmp_path: Path) -> None:
    lines.append(tmp_path / "gpu.jsonl", line("a"))
    with (tmp_path / "gpu.jsonl").open("a") as file:
        file.write('{"piece": "b", "sta')
    assert [x["piece"] for x in lines.read(tmp_path / "gpu.jsonl")] == ["a"]
    lines.append(tmp_path / "gpu.jsonl", line("c"))  # what comes after it is not lost
    assert [x["piece"] for x in lines.read(tmp_path / "gpu.jsonl")] == ["a", "c"]


def test_what_is_no_line_of_a_piece_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "gpu.jsonl").write_bytes(b'null\n{}\n[1]\n5\n"x"\n{"piece": "a"}\n\xff\xfe\n')
    with (tmp_path / "gpu.jsonl").open("a") as file:
        odd = ({"date": 5}, {"reason": None}, {"versions": "2"}, {"status": "done"}, {"values": {"x": float("nan")}},
               {"commit": 5})  # fmt: skip
        file.writelines(json.dumps({**line("odd"), **values}) + "\n" for values in odd)
        file.write(json.dumps(line("odd", values={"x": 5})).replace('"x": 5', '"x": 1e999') + "\n")
    lines.append(tmp_path / "gpu.jsonl", line("a"))
    assert [x["piece"] for x in lines.read(tmp_path / "gpu.jsonl")] == ["a"]


def test_results_that_cannot_be_written_are_refused_before_any_piece(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = script("--device", "cpu", "--tiny", "--out", tmp_path / "file", "--work", tmp_path / "work")
    assert done.returncode == 1 and "Results cannot be written" in done.stderr


def test_a_copy_that_cannot_tell_its_commit_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(lines, "ROOT", tmp_path)
    for argv, warned in ((["--commit", "f" * 40], False), ([], True)):
        monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu", "--tiny", "--work", str(tmp_path), *argv])
        with pytest.raises(SystemExit, match="no time left"):
            gpu.run([], gpu.options(), time.monotonic() - 1)
        assert ("cannot tell its commit" in capsys.readouterr().err) is warned


def test_another_copy_of_the_same_code_does_not_go_on_with_runs_of_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs remember where their prompts were, and refuse to go on with those of another folder."""
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--work", str(tmp_path)])
    folders = []
    for root in (tmp_path / "a", tmp_path / "a", tmp_path / "b"):
        monkeypatch.setattr(lines, "ROOT", root)
        folders.append(gpu.work_folder(gpu.options(), "0123abcd"))
    assert folders[0] == folders[1] != folders[2] and folders[0].parent == tmp_path


def test_two_scripts_do_not_share_a_work_folder(tmp_path: Path) -> None:
    lock = gpu.alone(tmp_path)
    with pytest.raises(SystemExit, match="Another script"):
        gpu.alone(tmp_path)
    lock.release()
    gpu.alone(tmp_path).release()


def test_what_cannot_be_written_any_more_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "gpu.jsonl").mkdir()  # as a full disk, nothing can be written there
    gpu.record(Result("a", "ok", "", 1.0, {"answer": 42.0}), H200, ABOUT, tmp_path)
    assert '"answer": 42.0' in capsys.readouterr().out


# -- README ---------------------------------------------------------------------------------------------------------

FAST = {"batch16_reserved_gib": 41.26, "batch16_over_published": 1.43}


def test_readme_changes_between_its_marks_alone_and_takes_lines_of_a_gpu_alone(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text(f"a\n{tables.BEGIN}\n{tables.END}\nb\n")
    known = [
        line("sd1-full", values=FAST), line("demo", "failed"), line("sdxl-full", "skipped"),
        line("sd1-lora", values={"accumulated_reserved_gib": 1.0}, machine=CPU),
        line("sd1-sampling", values={"batch8_over_loop": 9.0}, machine=Machine("cuda", True, "NVIDIA H200", 139.8)),
    ]  # fmt: skip
    tables.write_readme(page, known)
    text = page.read_text()
    assert text.startswith(f"a\n{tables.BEGIN}\n") and text.endswith(f"\n{tables.END}\nb\n")
    assert "one NVIDIA H200" in text and "commit fffffff" in text
    assert "1 of 2 pieces ended well (`demo` failed). Not run: `tests`, `chain-fp32-lora`," in text
    assert "| card | setting (training with `--prior-batch-size 0`) |" in text
    assert "≤ 45.0 GiB | 41.3 GiB | met |" in text
    assert "≥ 1.50 × | 1.43 × | not met |" in text
    assert "| 12 GiB | SD 1.x, 512²: LoRA step, 16 items in 8 passes of 2, gradient checkpointing | - | not m" in text
    assert "≤ 16.0 GiB | - | not measured |" in text
    assert "with local changes" not in text
    assert "9.00" not in text
    tables.write_readme(page, known)
    assert page.read_text() == text


def test_a_piece_that_failed_meets_nothing_and_local_changes_are_told() -> None:
    text = tables.readme_part([line("sd1-full", "failed", values=FAST, dirty=True)])
    assert "≤ 45.0 GiB | 41.3 GiB | the piece failed |" in text and "| met |" not in text
    assert "with local changes" in text


def test_readme_names_what_was_never_run_of_what_has_to_work() -> None:
    assert [p.name for p in PIECES if p.name in tables.WORKS] == list(tables.WORKS)
    rest = {p.name for p in PIECES} - set(tables.WORKS) - {f.name for f in FITS}
    assert rest == {f"{m}-{w}" for m in ("sd1", "sd2", "sdxl") for w in ("full", "lora", "sampling")}
    assert "Not run" not in tables.readme_part([line(name) for name in tables.WORKS])
    most = [line(name) for name in tables.WORKS[1:]]
    assert "pieces ended well. Not run: `demo`.\n" in tables.readme_part([*most, line("demo", "skipped")])


def test_readme_is_not_emptied_by_a_folder_without_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "README.md"
    page.write_text(f"{tables.BEGIN}\nmeasured\n{tables.END}\n")
    monkeypatch.setattr(gpu, "HERE", tmp_path / "research")
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--readme", "--out", str(tmp_path / "nowhere")])
    with pytest.raises(SystemExit, match=r"There is no gpu\.jsonl in"):
        gpu.main()
    assert "measured" in page.read_text() and tables.NOTHING not in page.read_text()


def test_readme_without_marks_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text("nothing here")
    with pytest.raises(ValueError, match="has no place"):
        tables.write_readme(page, [])
    assert page.read_text() == "nothing here"


def test_readme_of_the_repository_is_that_of_the_results() -> None:
    text = (ROOT / "README.md").read_text()
    assert tables.readme_part(lines.read(lines.RESULTS / lines.NAME)) in text


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.899, "89.9 % | not met"), (0.89999, "89.9 % | not met"), (0.9, "90.0 % | met"), (0.91, "91.0 % | met"),
        (1.0, "100.0 % | met"),
    ],
)  # fmt: skip
def test_what_is_not_met_does_not_look_as_if_it_were(value: float, words: str) -> None:
    assert f"≥ 90.0 % | {words} |" in tables.readme_part([line("sd1-sampling", values={"batch8_unet_share": value})])


@pytest.mark.parametrize(("gib", "words"), [(45.01, "45.1 GiB | not met"), (45.0, "45.0 GiB | met")])
def test_memory_is_rounded_up(gib: float, words: str) -> None:
    assert f"≤ 45.0 GiB | {words} |" in tables.readme_part([line("sd1-full", values={"batch16_reserved_gib": gib})])


def test_readme_says_what_fits_which_card() -> None:
    text = tables.readme_part([
        line("card48-sd1-full-16-checkpointing", values={"limit_gib": 47.5, "reserved_gib": 31.22}),
        line("card24-sd1-full-2x8-checkpointing-8bit", "failed", values={"out_of_memory": True, "reserved_gib": 23.5}),
        line("card24-sd1-full-2x8-checkpointing", "failed", values={"reserved_gib": 3.0}),
        line("card12-sd1-sample-8", "timeout"),
    ])  # fmt: skip
    full = "SD 1.x, 512²: full step, 16 items in"
    assert f"| 48 GiB | {full} one pass, gradient checkpointing | 31.3 GiB | fits |" in text
    assert f"| 24 GiB | {full} 8 passes of 2, gradient checkpointing, 8-bit AdamW | 23.5 GiB | does not fit |" in text
    assert f"| 24 GiB | {full} 8 passes of 2, gradient checkpointing | 3.0 GiB | the piece failed |" in text
    assert "| 12 GiB | SD 1.x, 512²: 8 images at once | - | the piece was not done in time |" in text
    assert "| 12 GiB | SD 2.x, 768²: 4 images at once | - | not measured |" in text


def test_readme_tells_that_verdicts_were_held_against_those_of_other_code() -> None:
    said = {"verdicts_of_other_code": "the CPU's verdicts were made by other code (a) than this (b)"}
    assert "were made by other code (a)" in tables.readme_part([line("demo", values=said)])
    assert "other code" not in tables.readme_part([line("demo")])
