"""Published lists: what the table promises, and downloads from a server that misbehaves."""

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import pytest

from memfix.download.pinned import LIMIT
from memfix.download.published import PUBLISHED, PublishedList, fetch_list, get_published
from memfix.errors import MemfixError
from memfix.inputs.tables import SUFFIXES

CONTENT = b"a cat\na dog\n"
ENTRY = replace(PUBLISHED["memattn-ordinary"], sha256=hashlib.sha256(CONTENT).hexdigest())


class Handler(BaseHTTPRequestHandler):
    """The first part of the path says how to misbehave; what follows is remembered."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        _, mode, path = self.path.split("/", 2)
        self.asked.append(path)
        if mode == "missing":
            return self.send_error(404)
        if mode == "drop":
            return self.connection.close()
        self.send_response(200)
        body = {"wrong": b"<html>sign in</html>", "huge": b"a" * (LIMIT + 1)}.get(mode, CONTENT)
        if mode != "unsized":
            self.send_header("Content-Length", str(len(body) + (1000 if mode == "short" else 0)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    httpd.server_close()


@pytest.mark.parametrize("mode", ["good", "unsized"])
def test_download(server: str, tmp_path: Path, mode: str) -> None:
    target = tmp_path / "list.txt"
    assert fetch_list(ENTRY, target, f"{server}/{mode}/")
    assert target.read_bytes() == CONTENT
    assert Handler.asked[-1] == f"{ENTRY.repository}/{ENTRY.commit}/{ENTRY.path}"
    asked = len(Handler.asked)
    assert not fetch_list(ENTRY, target, f"{server}/{mode}")
    assert len(Handler.asked) == asked
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("wrong", f"has sha256 {hashlib.sha256(b'<html>sign in</html>').hexdigest()}, not {ENTRY.sha256}"),
        ("missing", "answers 404"),
        ("short", f"broke off after {len(CONTENT)} of {len(CONTENT) + 1000:,} bytes"),
        ("drop", "cannot be reached"),
        ("huge", "larger than 16,777,216 bytes"),
    ],
)
def test_failures_leave_nothing_behind(server: str, tmp_path: Path, mode: str, message: str) -> None:
    with pytest.raises(MemfixError, match=message) as caught:
        fetch_list(ENTRY, tmp_path / "list.txt", f"{server}/{mode}")
    assert ENTRY.url() in caught.value.hint and ENTRY.sha256 in caught.value.hint
    assert not list(tmp_path.iterdir())


def test_no_network_and_offline(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = len(Handler.asked)
    for base, offline, message in [
        ("http://127.0.0.1:1", False, "cannot be reached"), (f"{server}/good", True, "memfix is offline"),
        ("file:///etc", False, "not an http address"),
    ]:  # fmt: skip
        with pytest.raises(MemfixError, match=message) as caught:
            monkeypatch.setenv("HF_HUB_OFFLINE", "1" if offline else "0")
            fetch_list(ENTRY, tmp_path / "list.txt", base)
        assert ENTRY.url() in caught.value.hint and ENTRY.sha256 in caught.value.hint
    assert len(Handler.asked) == asked


def test_a_file_of_the_user_is_not_overwritten(server: str, tmp_path: Path) -> None:
    target = tmp_path / "list.txt"
    target.write_text("my own")
    with pytest.raises(MemfixError, match="with other content"):
        fetch_list(ENTRY, target, f"{server}/good")
    assert target.read_text() == "my own"
    with pytest.raises(MemfixError, match="no folder"):
        fetch_list(ENTRY, tmp_path / "none" / "list.txt", f"{server}/good")


@pytest.mark.parametrize("entry", PUBLISHED.values(), ids=lambda entry: entry.name)
def test_table(entry: PublishedList) -> None:
    assert re.fullmatch(r"[0-9a-f]{40}", entry.commit) and re.fullmatch(r"[0-9a-f]{64}", entry.sha256)
    assert re.fullmatch(r"[a-z0-9-]+", entry.name) and get_published(entry.name) is entry
    assert Path(entry.file_name).suffix in {*SUFFIXES, ".txt"}
    assert entry.kind in {"memorized", "ordinary"} and entry.licence == "MIT"
    assert entry.url() == f"https://raw.githubusercontent.com/{entry.repository}/{entry.commit}/{entry.path}"


def test_unknown_name() -> None:
    with pytest.raises(MemfixError, match="no published prompt list 'nemo-memorised'") as caught:
        get_published("nemo-memorised")
    assert "nemo-memorized" in caught.value.hint


def memfix(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "memfix", "prompts", *words], capture_output=True, text=True)


@pytest.mark.slow
def test_command_line(server: str, tmp_path: Path) -> None:
    listed = memfix("list", "--json")
    assert [row["name"] for row in json.loads(listed.stdout)] == list(PUBLISHED)
    assert "nemo-memorized" in memfix("list").stdout
    failed = memfix("get", "nemo-memorized", "-o", str(tmp_path), "--mirror", f"{server}/wrong")
    assert failed.returncode == 1 and "it is not kept" in failed.stderr and not list(tmp_path.iterdir())
    failed = memfix("get", "nemo-memorized", "-o", str(tmp_path), "--offline")
    assert failed.returncode == 1 and PUBLISHED["nemo-memorized"].sha256 in failed.stderr
