"""`memfix screen` as a user types it: result, resume after a kill, several processes, bad input."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.processes import memfix

pytestmark = pytest.mark.slow  # one process per command

MEMFIX = [sys.executable, "-m", "memfix", "screen"]
SMALL = [
    "-m",
    "model",
    "--num-seeds",
    "2",
    "--num-inference-steps",
    "3",
    "--batch-size",
    "4",
    "--mixed-precision",
    "no",
]
HOSTILE = 'red <script>alert("x")</script> [bold]& \x1b[31mred'
ENVIRONMENT = {**os.environ, "COLUMNS": "200", "OMP_NUM_THREADS": "1"}


def screen(cwd: Path, *args: str, code: int = 0, **env: str) -> subprocess.CompletedProcess[str]:
    done = memfix("screen", *args, cwd=cwd, code=code, env={"COLUMNS": "200", **env})
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("screen")
    (folder / "model").symlink_to(model_folder)
    (folder / "prompts.txt").write_text("\n".join([HOSTILE, *(f"thing {i}" for i in range(120)), "thing 0"]) + "\n")
    return folder


@pytest.fixture(scope="module")
def whole(work: Path) -> Path:
    screen(work, "prompts.txt", *SMALL, "--screen", "fine_detail", "--screen", "magnitude", "-o", "whole")
    return work / "whole/screens.jsonl"


def test_every_prompt_has_a_line_and_the_highest_come_first(work: Path, whole: Path) -> None:
    lines = [json.loads(line) for line in whole.read_text().splitlines()]
    assert [line["number"] for line in lines] == list(range(1, 123))
    assert lines[0]["text"] == HOSTILE
    assert lines[1]["scores"] == lines[121]["scores"]  # the same text in another batch
    assert lines[9]["source"].endswith("prompts.txt:10")
    done = screen(work, "prompts.txt", *SMALL, "--screen", "fine_detail", "--screen", "magnitude", "-o", "whole",
                  "--json", "--top", "3")  # fmt: skip
    shown = json.loads(done.stdout)
    assert shown["prompts"] == 122
    best = sorted(lines, key=lambda line: -line["scores"]["fine_detail"])[:3]
    assert [line["scores"] for line in shown["highest"]] == [line["scores"] for line in best]


def test_a_killed_process_is_resumed_to_the_same_bytes(work: Path, whole: Path) -> None:
    arguments = ["prompts.txt", *SMALL, "--screen", "fine_detail", "--screen", "magnitude", "-o", "killed"]
    process = subprocess.Popen([*MEMFIX, *arguments], cwd=work, stderr=subprocess.PIPE, env=ENVIRONMENT)
    file, deadline = work / "killed/screens.jsonl", time.monotonic() + 300
    while process.poll() is None and not (file.exists() and file.stat().st_size > 2000) and time.monotonic() < deadline:
        time.sleep(0.005)
    assert process.poll() is None, process.stderr and process.stderr.read()
    process.send_signal(signal.SIGKILL)
    process.wait()
    found = file.read_bytes()
    assert 0 < len(found) < whole.stat().st_size
    assert "Not all of the list is scored" in screen(work, *arguments, "--merge", code=1).stderr
    screen(work, *arguments)
    assert "of 122 prompts" in screen(work, *arguments, "--merge").stdout
    assert file.read_bytes() == whole.read_bytes()


def test_ranks_share_the_list_and_the_last_one_merges(work: Path, whole: Path) -> None:
    arguments = ["prompts.txt", *SMALL, "--screen", "fine_detail", "--screen", "magnitude", "-o", "ranks"]
    first = screen(work, *arguments, RANK="1", WORLD_SIZE="2")
    assert "finishes last shows the result" in first.stderr
    assert "Not all of the list is scored" in screen(work, *arguments, "--merge", code=1).stderr
    screen(work, *arguments, RANK="0", WORLD_SIZE="2")
    ours = [json.loads(line) for line in (work / "ranks/screens.jsonl").read_text().splitlines()]
    alone = [json.loads(line) for line in whole.read_text().splitlines()]
    assert [(line["number"], line["text"]) for line in ours] == [(line["number"], line["text"]) for line in alone]
    for a, b in zip(ours, alone, strict=True):
        assert a["scores"] == pytest.approx(b["scores"], rel=1e-4)


def test_hostile_prompts_stay_text(work: Path) -> None:
    done = screen(work, "prompts.txt", *SMALL, "--limit", "1", "-o", "hostile")
    assert "\x1b[31mred" not in done.stdout + done.stderr
    assert "[bold]" in done.stdout
    assert "Traceback" not in done.stdout


def test_dry_run_counts_and_loads_nothing(work: Path) -> None:
    plan = json.loads(screen(work, "prompts.txt", *SMALL, "--steps", "2", "--dry-run", "--json", "-o", "dry").stdout)
    assert (plan["rows"], plan["unet_evaluations"]) == (122, 122 * 2 * 4)
    assert not (work / "dry").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["prompts.txt", *SMALL, "--screen", "magnitud"], 2, "Did you mean 'magnitude'?"),
        (["prompts.txt", *SMALL, "--screen", "consistency", "--num-seeds", "1"], 2, "needs at least 2 of them"),
        (["prompts.txt", *SMALL, "--steps", "9"], 2, "9 of 3 steps"),
        (["prompts.txt", *SMALL, "--screen", "fine_detail", "--seed", "7", "-o", "whole"], 1, "seeds: [0, 1] there"),
        (["prompts.txt", *SMALL, "--screen", "curvature", "-o", "whole", "--merge"], 2, "no scores of curvature"),
        (["none.txt", *SMALL], 2, "no prompt list"),
        (["empty.txt", *SMALL, "-o", "empty"], 1, "contains no prompt"),
        (["surrogate.jsonl", *SMALL, "-o", "surrogate"], 1, "surrogate.jsonl:1"),
    ],
)
def test_bad_input(work: Path, whole: Path, arguments: list[str], code: int, message: str) -> None:
    (work / "empty.txt").write_text("\n")
    (work / "surrogate.jsonl").write_text('{"text": "half a \\ud800 character"}\n')
    done = screen(work, *arguments, code=code)
    assert message in done.stderr
    assert "Next:" in done.stderr
