"""`memfix fetch` as typed: the table, JSON, a real kill and what the next run makes of it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.download.bad_server import BadServer, no_image, photo

pytestmark = pytest.mark.slow  # one process per command, and hosts that answer late

MEMFIX = [sys.executable, "-m", "memfix"]


@pytest.fixture
def server() -> Iterator[BadServer]:
    server = BadServer()
    yield server
    server.stop()


def command(server: BadServer, *more: object) -> list[str]:
    quick = ["--per-second", "10000", "--backoff", "0.01", "--retries", "1", "-o", "refs"]
    return [*MEMFIX, "fetch", "list.csv", "--allow-private", "--allow-port", str(server.server_port), *quick,
            *map(str, more)]  # fmt: skip


def run(arguments: list[str], cwd: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(arguments, cwd=cwd, capture_output=True, text=True, timeout=300,
                          env={**os.environ, "COLUMNS": "140"})  # fmt: skip
    assert done.returncode == code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def write(server: BadServer, folder: Path, *paths: str) -> None:
    rows = [f'"caption {i}",{server.base}/{path}' for i, path in enumerate(paths)]
    (folder / "list.csv").write_text("caption,url\n" + "\n".join(rows) + "\n")


def test_coverage(server: BadServer, tmp_path: Path) -> None:
    write(server, tmp_path, "ok/1.png", "ok/2.png", "404/3.png", "html/4.jpg", "500/5.png", "lost/6.png", "lost/7.png",
          "lost/8.png", "same/1.png", "same/2.png", "same/3.png")  # fmt: skip
    done = run(command(server, "--json"), tmp_path)
    data = json.loads(done.stdout)
    (suspects,) = data["suspects"]
    assert set(suspects["urls"]) == {f"{server.base}/same/{i}.png" for i in (1, 2, 3)}
    assert {k: data[k] for k in ("urls", "fetched", "already_there", "dead", "refused", "failed")} == {
        "urls": 11, "fetched": 5, "already_there": 0, "dead": {"404": 1}, "refused": {"HTML": 1, "placeholder": 3},
        "failed": {"answer 500": 1},
    }  # fmt: skip
    assert "5 of 11 URLs have a picture" in done.stderr
    assert "give the same picture" in done.stderr
    again = json.loads(run(command(server, "--json"), tmp_path).stdout)
    assert (again["fetched"], again["already_there"]) == (0, 5)
    assert server.asked["/ok/1.png"] == 1
    assert server.asked["/500/5.png"] == 4
    plan = json.loads(run(command(server, "--dry-run", "--json"), tmp_path).stdout)
    assert plan.pop("settings")["fetch"]["retries"] == 1
    assert plan == {"folder": "refs", "urls": 1, "hosts": {"127.0.0.1": 1}}
    assert "offline" in run(command(server, "--offline"), tmp_path, code=1).stderr


def test_kill_and_resume(server: BadServer, tmp_path: Path) -> None:
    paths = [f"held/{i}.png" for i in range(60)]
    server.open_to = 20
    write(server, tmp_path, *paths)
    journal = tmp_path / "refs/fetch.jsonl"
    process = subprocess.Popen(command(server, "--threads", 4), cwd=tmp_path, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not (journal.exists() and journal.read_text().count("\n") > 10) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    lines = journal.read_text().count("\n")
    assert 10 < lines <= 20
    before = server.asked.copy()
    server.gate.set()
    done = run(command(server, "--json"), tmp_path)
    data = json.loads(done.stdout)
    # what has a line is not asked for again, save what a thread had written a line of and not yet named
    assert 60 - lines <= sum((server.asked - before).values()) <= 60 - lines + 4
    assert data["fetched"] + data["already_there"] == 60
    names = {p.name for p in (tmp_path / "refs").glob("*.png")}
    assert len(names) == 60
    assert {(tmp_path / "refs" / n).read_bytes() for n in names} == {photo(i) for i in range(60)}
    assert not list((tmp_path / "refs").glob(".part-*"))
    texts = [json.loads(line)["text"] for line in (tmp_path / "refs/metadata.jsonl").read_text().splitlines()]
    assert texts == [f"caption {i}" for i in range(60)]


def test_an_interrupt_ends_at_once(server: BadServer, tmp_path: Path) -> None:
    write(server, tmp_path, "drip/1.png")
    process = subprocess.Popen(
        command(server, "--timeout", 3000), cwd=tmp_path, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # jobs in the background inherit it ignored
    )  # fmt: skip
    deadline = time.monotonic() + 300
    while not server.asked and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, talk = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "Run the same command again" in talk


def test_without_leave_nothing_private_is_reached(server: BadServer, tmp_path: Path) -> None:
    write(server, tmp_path, "ok/1.png")
    arguments = [*MEMFIX, "fetch", "list.csv", "--allow-port", str(server.server_port), "-o", "refs"]
    done = run([*arguments, "--json"], tmp_path, code=1)
    assert json.loads(done.stdout)["refused"] == {"private address": 1}
    assert "No picture could be fetched" in done.stderr
    assert not server.asked


def test_terminals_obey_no_list(server: BadServer, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(f"url\n{server.base}/ok/1.png\n")
    rows = [{"url": f"{server.base}/same/{i}\x1b[31m[bold].png", "text": "\x1b[31m"} for i in range(3)]
    (tmp_path / "list.jsonl").write_text("\n".join(map(json.dumps, rows)))
    arguments = [a.replace("list.csv", "list.jsonl") for a in command(server)]
    done = run(arguments, tmp_path)
    talk = done.stdout + done.stderr
    assert "give the same picture" in talk
    assert "\x1b[31m" not in talk


def test_bad_lists(server: BadServer, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("caption\na cat\n")
    assert "names no URL" in run(command(server), tmp_path, code=1).stderr
    (tmp_path / "list.csv").write_text(f"url,sha256\n{server.base}/ok/1.png,xyz\n{server.base}/lost/2.png,\n")
    assert "list.csv:2" in run(command(server), tmp_path, code=1).stderr
    done = run(command(server, "--skip-invalid", "--json"), tmp_path)
    assert json.loads(done.stdout)["wrong_rows"] == 1
    assert [p.read_bytes() for p in (tmp_path / "refs").glob("*.png")] == [no_image()]  # once is no repetition
