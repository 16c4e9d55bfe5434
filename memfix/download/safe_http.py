"""One GET from a server that nobody trusts: checked addresses, one deadline, a limit on bytes, few redirects.

Neither urllib3 nor http.client bounds the whole time of an answer (their timeouts begin anew with every byte), so the
socket is read through a clock here. Proxies of the environment are not used: behind one, no address can be checked.
Knows nothing of pictures.
"""

from __future__ import annotations

import io
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPException, HTTPResponse
from urllib.parse import urljoin

from memfix import __version__
from memfix.download.addresses import Destination, Gate, parse
from memfix.download.fetched import NotFetchedError, Status, failed, refused

CHUNK = 1 << 16
REDIRECTS = {301, 302, 303, 307, 308}
DEAD = {404, 410}
TRANSIENT = {408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529}
MAX_ADDRESSES = 3  # of one host, tried in turn


@dataclass(frozen=True)
class Limits:
    """How much of anything one URL may cost."""

    connect_seconds: float = 10
    idle_seconds: float = 15
    total_seconds: float = 60
    bytes: int = 32 << 20
    redirects: int = 5


class _Clock:
    """Time left of a request and all its redirects."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self, at_most: float) -> float:
        """Seconds to wait for the next thing. Raises TimeoutError when there are none."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("the whole answer took too long")
        return min(left, at_most)


class _Timed(io.RawIOBase):
    """A socket, read under a clock; what http.client asks of a socket, and no more."""

    def __init__(self, sock: socket.socket, clock: _Clock, idle: float) -> None:
        self._sock, self._clock, self._idle = sock, clock, idle

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # always called with a memoryview
        self._sock.settimeout(self._clock.left(self._idle))
        return self._sock.recv_into(buffer)

    def sendall(self, data: bytes) -> None:
        self._sock.settimeout(self._clock.left(self._idle))
        self._sock.sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self, CHUNK)

    def close(self) -> None:
        """Nothing: http.client closes its socket as soon as it has the headers, while the body is still to come."""

    def hang_up(self) -> None:
        """Close the socket itself."""
        self._sock.close()


class Body:
    """The content behind a URL, in chunks. Close it. `sized` says whether the server told its length."""

    def __init__(self, url: str, response: HTTPResponse, stream: _Timed, limit: int) -> None:
        self.url = url
        self.sized = response.length is not None or bool(response.chunked)
        self._response, self._stream, self._limit = response, stream, limit

    def __iter__(self) -> Iterator[bytes]:
        """Raises NotFetchedError when it breaks off, takes too long or grows too large, whatever its header says."""
        size = 0
        while chunk := self._read():
            size += len(chunk)
            if size > self._limit:
                raise refused("too large", f"more than {self._limit} bytes")
            yield chunk
        if self._response.length:
            raise failed("broke off", f"{self._response.length} bytes are missing")

    def _read(self) -> bytes:
        with _network_errors():
            return self._response.read(CHUNK)

    def close(self) -> None:
        """Hang up, wherever the server is in its answer."""
        self._stream.hang_up()


@dataclass(frozen=True)
class Client:
    """Asks for URLs. `tls` decides which certificates are good."""

    gate: Gate = field(default_factory=Gate)
    limits: Limits = field(default_factory=Limits)
    user_agent: str = f"memfix/{__version__}"
    tls: ssl.SSLContext = field(default_factory=ssl.create_default_context)

    def get(self, url: str) -> Body:
        """Follow a URL to its content. Raises NotFetchedError."""
        clock = _Clock(self.limits.total_seconds)
        for _ in range(self.limits.redirects + 1):
            target = parse(url)
            with _network_errors():
                response, stream = self._ask(target, clock)
            if response.status == 200 and response.headers.get("Content-Encoding", "identity").lower() == "identity":
                return Body(target.url, response, stream, self.limits.bytes)
            stream.hang_up()
            if response.status not in REDIRECTS:
                raise _bad_answer(response)
            url = _location(target.url, response)
        raise NotFetchedError(Status.FAILED, "too many redirects", f"more than {self.limits.redirects}, last to {url}")

    def _ask(self, target: Destination, clock: _Clock) -> tuple[HTTPResponse, _Timed]:
        stream = _Timed(self._connect(target, clock), clock, self.limits.idle_seconds)
        try:
            # It only writes the request and parses the answer: the connection is there
            connection = HTTPConnection(target.host, target.port)
            connection.sock = stream  # it needs no more of a socket than _Timed has
            connection.request(
                "GET", target.path,
                headers={
                    "Host": target.netloc, "User-Agent": self.user_agent, "Accept": "image/*,*/*;q=0.5",
                    "Accept-Encoding": "identity", "Connection": "close",
                },
            )  # fmt: skip
            return connection.getresponse(), stream
        except BaseException:
            stream.hang_up()
            raise

    def _connect(self, target: Destination, clock: _Clock) -> socket.socket:
        """To an address that the gate let pass: the name is not looked up again, so it cannot change in between."""
        last: OSError | None = None
        for address in self.gate.addresses(target)[:MAX_ADDRESSES]:
            try:
                sock = socket.create_connection((address, target.port), clock.left(self.limits.connect_seconds))
            except OSError as error:
                last = error
                continue
            if target.scheme == "http":
                return sock
            try:
                return self.tls.wrap_socket(sock, server_hostname=target.host)  # the certificate is the name's
            except BaseException:
                sock.close()
                raise
        raise last or OSError(f"{target.host} has no address")


def _location(url: str, response: HTTPResponse) -> str:
    """Where a redirect leads; http.client reads headers as Latin-1, servers write UTF-8."""
    location = str(response.headers.get("Location", ""))
    if not location:
        raise NotFetchedError(Status.FAILED, f"answer {response.status}", "a redirect to nowhere")
    try:
        return urljoin(url, location.encode("latin-1", "replace").decode("utf-8", "replace"))
    except ValueError as error:
        raise refused("malformed URL", f"redirected to one: {error}") from None


def _bad_answer(response: HTTPResponse) -> NotFetchedError:
    code = response.status
    if code in DEAD:
        return NotFetchedError(Status.DEAD, str(code), f"the host answers {code}")
    if code == 200:
        return NotFetchedError(Status.FAILED, "content encoding", "compressed, though plain bytes were asked for")
    if code in TRANSIENT:
        return failed(f"answer {code}", wait=retry_after(response.headers.get("Retry-After")))
    return NotFetchedError(Status.FAILED, f"answer {code}", f"the host answers {code}")


def retry_after(value: str | None) -> float | None:
    """Seconds from now that a Retry-After header asks for, given as seconds or as a date; None if it says nothing."""
    if not value:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return None
    when = when if when.tzinfo else when.replace(tzinfo=timezone.utc)
    return max(0.0, (when - datetime.now(timezone.utc)).total_seconds())


@contextmanager
def _network_errors() -> Iterator[None]:
    """Name what goes wrong between two machines; a full disk here is none of it, so only reads stand inside."""
    try:
        yield
    except TimeoutError as error:
        raise failed("timeout", str(error)) from None
    except ssl.SSLCertVerificationError as error:
        raise NotFetchedError(Status.FAILED, "certificate", error.verify_message) from None
    except (ConnectionResetError, BrokenPipeError, HTTPException, ssl.SSLError) as error:
        raise failed("broke off", f"{type(error).__name__} {error}".strip()) from None
    except (OSError, ValueError) as error:
        raise failed("unreachable", f"{type(error).__name__} {error}".strip()) from None
