"""How research/gpu.py begins and ends, whatever is done to it and whatever its pieces say."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "research"))
import gpu
from gpu_pieces import lines
from gpu_pieces.piece import Here, Machine, Piece
from gpu_pieces.processes import Processes, Result
from tests.research.states import runs, wait_for

pytestmark = pytest.mark.slow  # waits for processes

RESEARCH = str(Path(gpu.__file__).parent)
CPU = Machine("cpu", True, "2 CPU cores", 8.0)

# -- what ends the script ends its pieces -----------------------------------------------------------------------------

SCRIPT = """
import os, subprocess, sys, time
from pathlib import Path
import gpu
from gpu_pieces.piece import Machine, Piece
from gpu_pieces.processes import Processes

def work(here):
    child = subprocess.Popen(["sleep", "600"])
    here.note(own=os.getpid(), child=child.pid)
    time.sleep(600)

if __name__ == "__main__":
    gpu.end_well()
    list(Processes(sys.argv[1], Machine("cpu", True, "", 1.0), Path(sys.argv[2])).run(
        [Piece("work", 600, work)], time.monotonic() + 600))
"""


def _heed_signals() -> None:
    """Those that tests under nohup or in the background of a shell inherit ignored."""
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


def script(folder: Path, method: str, *before: str) -> subprocess.Popen:
    file = folder / "script.py"
    file.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": RESEARCH}
    return subprocess.Popen(
        [*before, sys.executable, str(file), method, str(folder)], env=environment,
        preexec_fn=_heed_signals,
    )  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel has to help")
@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_what_ends_the_script_ends_its_pieces_and_their_children(
    tmp_path: Path, method: str, number: signal.Signals
) -> None:
    started = script(tmp_path, method)
    values = tmp_path / "work.values.json"
    assert wait_for(values.exists)
    pids = json.loads(values.read_text())
    assert all(runs(pid) for pid in pids.values())
    started.send_signal(number)
    started.wait(20)
    try:
        assert wait_for(lambda: not any(runs(pid) for pid in pids.values()), 5)
    finally:
        for pid in filter(runs, pids.values()):
            os.kill(pid, signal.SIGKILL)


def test_nohup_is_respected(tmp_path: Path) -> None:
    started = script(tmp_path, "fork", "nohup")
    assert wait_for((tmp_path / "work.values.json").exists)
    started.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    assert started.poll() is None
    started.send_signal(signal.SIGTERM)
    assert started.wait(20) == 128 + signal.SIGTERM


# -- how long it may take ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("minutes", ["nan", "inf", "0", "-3", "soon"])
def test_a_time_that_is_none_is_refused(minutes: str, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu.py", f"--minutes={minutes}"])
    with pytest.raises(SystemExit) as ended:
        gpu.options()
    assert ended.value.code == 2
    assert f"argument --minutes: '{minutes}' is no number of minutes above 0" in capsys.readouterr().err


def hangs(here: Here) -> None:
    here.note(own=os.getpid())
    time.sleep(600)
    here.note(ended=True)


@pytest.mark.parametrize("seconds", [-1.0, 0.5])
def test_what_the_machine_is_is_not_asked_for_longer_than_there_is_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    """It is killed, where it was begun, and neither waited for nor tried again in another way."""
    monkeypatch.setattr(gpu, "facts", hangs)
    with pytest.raises(SystemExit, match="no time left"):
        gpu.start("cpu", True, tmp_path, time.monotonic() + seconds)
    noted = tmp_path / f"{gpu.MACHINE}.values.json"
    assert seconds > 0 or not noted.exists()
    if noted.exists():
        values = json.loads(noted.read_text())
        assert not runs(values["own"]) and "ended" not in values


# -- what pieces say --------------------------------------------------------------------------------------------------


def odd(here: Here) -> None:
    here.note(
        single=np.float32(0.25), whole=np.int64(3), truth=np.bool_(True), tensor=torch.tensor(1.5), half=torch.tensor(
            2.0, dtype=torch.bfloat16), path=Path("x"), many=[float("nan")], lone="\udcff", nothing=None,
        none=np.float32("nan"),
    )  # fmt: skip
    print("said \udcff")
    raise ValueError("lone \udcff")


def test_whatever_a_piece_notes_can_be_written_and_printed(tmp_path: Path, capfd) -> None:
    [result] = Processes("fork", CPU, tmp_path).run([Piece("odd", 20, odd)], time.monotonic() + 20)
    assert result.values == {
        "single": 0.25, "whole": 3, "truth": True, "tensor": 1.5, "half": 2.0, "path": "x", "many": "[nan]",
        "lone": "\udcff", "nothing": "None", "none": "nan",
    }  # fmt: skip
    assert result.reason == "ValueError: lone \udcff"
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="strict")
    gpu.end_well()
    about = {"code": "0123abcd", "commit": None, "dirty": None, "versions": {}, "argv": ["\udcff"]}
    gpu.record(result, CPU, about, tmp_path)
    assert "odd: failed in" in capfd.readouterr().out
    [line] = lines.read(tmp_path / "gpu.jsonl")
    assert line["values"]["lone"] == "\udcff"
    assert "said \\udcff" in (tmp_path / "gpu.log").read_text()


def dies(here: Here) -> None:
    os._exit(3)


def fine(here: Here) -> None:
    here.note(answer=42.0)


def test_values_of_an_earlier_try_are_forgotten(tmp_path: Path) -> None:
    for work, values in ((fine, {"answer": 42.0}), (dies, {})):
        [result] = Processes("fork", CPU, tmp_path).run([Piece("same", 20, work)], time.monotonic() + 20)
        assert result.values == values


def fails_once(here: Here) -> None:
    if not (here.work / "failed").exists():
        (here.work / "failed").write_text("")
        raise ValueError("in the end")


@pytest.mark.parametrize("goes_on", [True, False])
def test_what_goes_on_with_an_earlier_try_has_the_time_of_both(tmp_path: Path, goes_on: bool) -> None:
    def once() -> Result:
        piece = Piece("slow", 20, fails_once, goes_on=goes_on)
        [result] = Processes("fork", CPU, tmp_path).run([piece], time.monotonic() + 20)
        return result

    spent = tmp_path / "slow.seconds"
    first = once()
    assert first.status == "failed" and float(spent.read_text()) == first.seconds
    spent.write_text("1000")  # more than the limit of a single try
    again = once()
    assert again.status == "ok" and (again.seconds >= 1000) is goes_on


# -- what is imported -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_nothing_that_touches_the_gpu_is_imported_before_the_pieces(tmp_path: Path) -> None:
    """diffusers imports bitsandbytes where there is one, which asks the GPU what it can do."""
    (tmp_path / "bitsandbytes.py").write_text("raise RuntimeError('it was imported')")
    for name in ("faiss", "open_clip"):  # of which no piece has need
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('it was imported')")
    metadata = tmp_path / "bitsandbytes-0.50.2.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: bitsandbytes\nVersion: 0.50.2\n")
    code = (
        "import sys, gpu; gpu.prepare('cuda'); gpu.all_pieces(); import torch; assert not torch.cuda.is_initialized()"
    )
    code += "; from importlib.util import find_spec; assert find_spec('bitsandbytes')"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), RESEARCH]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
