"""One GET: the address that was checked is the one connected to, names stay in Host and certificate, limits hold."""

import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path

import pytest

from memfix.download.addresses import Gate
from memfix.download.fetched import NotFetchedError, Status
from memfix.download.safe_http import Client, Limits, retry_after
from tests.download.bad_server import BadServer, photo


@pytest.fixture(scope="module")
def server() -> Iterator[BadServer]:
    server = BadServer()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key and certificate of pictures.example, signed by itself."""
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", path,
         "-out", f"{path}.crt",
         "-subj", "/CN=pictures.example", "-addext", "subjectAltName=DNS:pictures.example"], capture_output=True,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


def client(server: BadServer, *, ports: tuple[int, ...] = (), names: dict[str, str] | None = None, **limits: float):
    """A client that may reach this one server on this machine, under any name."""
    gate = Gate(
        allows=lambda address, port: address.is_loopback and port == server.server_port,
        ports=frozenset({server.server_port, *ports}),
        resolver=lambda host, port: [(names or {}).get(host, "127.0.0.1")],
    )
    return Client(gate, Limits(**limits))  # type: ignore[arg-type]


def content(client: Client, url: str) -> bytes:
    with closing(client.get(url)) as body:
        return b"".join(body)


def end(client: Client, url: str) -> NotFetchedError:
    with pytest.raises(NotFetchedError) as caught:
        content(client, url)
    return caught.value


def test_the_name_is_looked_up_once_and_sent_as_host(server: BadServer) -> None:
    asked = []

    def rebinding(host: str, port: int) -> list[str]:  # the second answer would be another machine
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["127.0.0.99"]

    gate = Gate(allows=lambda address, port: str(address) == "127.0.0.1", ports=frozenset({server.server_port}),
                resolver=rebinding)  # fmt: skip
    url = f"http://pictures.example:{server.server_port}/ok/3.png"
    assert content(Client(gate), url) == photo(3)
    assert asked == ["pictures.example"]
    assert server.hosts[-1] == f"pictures.example:{server.server_port}"
    assert end(Client(gate), url).reason == "private address"


def test_certificates_are_those_of_the_name(certificate: Path) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    asked = []
    tls.sni_callback = lambda sock, name, context: asked.append(name)
    server = BadServer(tls)
    trusting = ssl.create_default_context(cafile=f"{certificate}.crt")
    try:
        gate = client(server).gate
        url = f"https://pictures.example:{server.server_port}/ok/3.png"
        assert content(Client(gate, tls=trusting), url) == photo(3)
        assert asked == ["pictures.example"]
        assert server.hosts == [f"pictures.example:{server.server_port}"]
        other = end(Client(gate, tls=trusting), f"https://other.example:{server.server_port}/ok/3.png")
        assert (other.reason, other.transient) == ("certificate", False)
        assert "other.example" in other.error
        assert end(Client(gate), url).reason == "certificate"
        assert len(server.hosts) == 1
    finally:
        server.stop()


def test_every_redirect_is_checked_anew(server: BadServer) -> None:
    inner = BadServer()
    try:
        asking = client(server, ports=(inner.server_port,))
        inside = f"http://localhost:{inner.server_port}/ok/3.png"
        assert end(asking, f"{server.base}/to/a?{inside}").reason == "private address"
        assert end(asking, f"{server.base}/to/a?http://127.0.0.1:22/x").reason == "port"
        assert end(asking, f"{server.base}/to/a?file:///etc/passwd").reason == "scheme"
        assert end(asking, f"{server.base}/to/a?http://[::1").reason == "malformed URL"
        assert not inner.asked
        assert content(client(inner), inside) == photo(3)  # it was there to be had
    finally:
        inner.stop()


def test_a_redirect_to_a_private_network_is_refused_before_a_connection(server: BadServer) -> None:
    asking = client(server, names={"inside.example": "10.1.2.3"}, total_seconds=2)
    caught = end(asking, f"{server.base}/to/a?http://inside.example:{server.server_port}/x")
    assert (caught.status, caught.reason, caught.error) == (
        Status.REFUSED, "private address", "inside.example is 10.1.2.3"
    )  # fmt: skip


@pytest.mark.parametrize("mode", ["drip", "drip-head"])
def test_one_deadline_for_all_of_an_answer(server: BadServer, mode: str) -> None:
    started = time.monotonic()
    caught = end(client(server, total_seconds=0.4, idle_seconds=10), f"{server.base}/{mode}/1.png")
    assert (caught.reason, caught.transient) == ("timeout", True)
    assert time.monotonic() - started > 0.3  # without the deadline it would never end


@pytest.mark.parametrize(
    ("path", "reason", "transient"),
    [
        ("endless/1.png", "too large", False),
        ("promises/1.png", "broke off", True),
        ("reset/1.png", "broke off", True),
        ("404/1.png", "404", False),
        ("410/1.png", "410", False),
        ("403/1.png", "answer 403", False),
        ("503/1.png", "answer 503", True),
        ("gzip/1.png", "content encoding", False),
        ("loop/1", "too many redirects", False),
        ("to/1?", "answer 302", False),
    ],
)
def test_bad_ends(server: BadServer, path: str, reason: str, transient: bool) -> None:
    caught = end(client(server, bytes=1 << 20), f"{server.base}/{path}")
    assert (caught.reason, caught.transient) == (reason, transient)


def test_the_limit_is_on_bytes_that_come(server: BadServer) -> None:
    size = len(photo(3))
    assert content(client(server, bytes=size), f"{server.base}/ok/3.png") == photo(3)
    assert end(client(server, bytes=size - 1), f"{server.base}/ok/3.png").reason == "too large"


def test_nobody_listens() -> None:
    server = BadServer()
    server.stop()
    caught = end(client(server), f"{server.base}/ok/3.png")
    assert (caught.status, caught.reason, caught.transient) == (Status.FAILED, "unreachable", True)


def test_retry_after() -> None:
    assert retry_after("120") == 120
    later = datetime.now(timezone.utc) + timedelta(seconds=90)
    assert retry_after(format_datetime(later, usegmt=True)) == pytest.approx(90, abs=2)
    assert retry_after(format_datetime(later - timedelta(days=1))) == 0
    assert [retry_after(v) for v in (None, "", "soon", "-5")] == [None] * 4
