"""Programs in weight files are run only when their hash is known or the user vouches for them."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from memfix.download.pinned import Pinned
from memfix.errors import MemfixError
from memfix.measures import weights
from memfix.measures.weights import obtain

BODY = b"program" * 1000


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = BODY[:-1] if "short" in self.path else BODY
        self.send_response(404 if "gone" in self.path else 200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    monkeypatch.setenv("MEMFIX_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    served = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=served.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{served.server_port}"
    served.shutdown()


def know(monkeypatch: pytest.MonkeyPatch, url: str, content: bytes = BODY) -> None:
    entry = Pinned(url, hashlib.sha256(content).hexdigest(), len(BODY))
    monkeypatch.setitem(weights.KNOWN, "net", entry)


def left(tmp_path: Path) -> list[str]:
    return [p.name for p in (tmp_path / "cache").rglob("*") if p.is_file()]


def test_downloaded_once(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    know(monkeypatch, f"{server}/net.pt")
    assert obtain("net").path.read_bytes() == BODY
    know(monkeypatch, "http://127.0.0.1:9/net.pt")  # nobody listens there
    assert obtain("net").sha256 == hashlib.sha256(BODY).hexdigest()
    assert left(tmp_path) == ["net.pt"]


@pytest.mark.parametrize(("path", "message"), [("short.pt", "after 6,999 of 7,000 bytes"), ("gone.pt", "answers 404")])
def test_failed_downloads_leave_nothing(
    server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, path: str, message: str
) -> None:
    know(monkeypatch, f"{server}/{path}")
    with pytest.raises(MemfixError, match=message) as error:
        obtain("net")
    assert server in error.value.hint and str(tmp_path / "cache" / path) in error.value.hint
    assert left(tmp_path) == []


def test_other_content_is_neither_kept_nor_run(server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    know(monkeypatch, f"{server}/net.pt", content=b"what its authors published")
    for trust in (False, True):
        with pytest.raises(MemfixError, match="it is not kept"):
            obtain("net", trust=trust)
        assert left(tmp_path) == []
    (tmp_path / "cache/net.pt").write_bytes(BODY)  # put there by hand
    with pytest.raises(MemfixError, match="is unknown"):
        obtain("net")
    assert obtain("net", trust=True).sha256 == hashlib.sha256(BODY).hexdigest()


def test_offline_says_what_to_fetch_and_where_to_put_it(
    server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    know(monkeypatch, f"{server}/net.pt")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(MemfixError, match="offline") as error:
        obtain("net")
    assert f"{server}/net.pt" in error.value.hint and str(tmp_path / "cache/net.pt") in error.value.hint


def test_a_file_of_unknown_hash_needs_the_users_word(tmp_path: Path) -> None:
    path = tmp_path / "own.pt"
    path.write_bytes(b"x")
    with pytest.raises(MemfixError, match=hashlib.sha256(b"x").hexdigest()) as error:
        obtain(str(path))
    assert "--trust-weights" in error.value.hint
    assert obtain(str(path), trust=True).path == path
    assert obtain(str(path)).path == path, "it is remembered"
    path.write_bytes(b"y")
    with pytest.raises(MemfixError, match="is unknown"):
        obtain(str(path))
    with pytest.raises(MemfixError, match="There are no weights"):
        obtain(str(tmp_path / "missing.pt"))
