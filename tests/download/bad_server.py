"""A real web server that misbehaves: the first part of a path says how, the rest names the picture."""

from __future__ import annotations

import io
import socket
import ssl
import struct
import time
import zlib
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Lock, Thread
from typing import ClassVar

import numpy as np
from PIL import Image, ImageDraw, ImageFont

GIF_1X1 = (
    b"GIF89a\x01\x00\x01\x00\x80\x00\x00\xff\xff\xff\x00\x00\x00!\xf9\x04\x01\x00\x00\x00\x00,\x00\x00\x00\x00\x01\x00"
    b"\x01\x00\x00\x02\x02D\x01\x00;"
)
PAGE = b"  <!DOCTYPE html><html><body>This picture has moved.</body></html>"


def photo(seed: int, side: int = 96, kind: str = "PNG") -> bytes:
    """A picture with many colours, another for each seed; the same bytes each time."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return encode(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC), kind)


def no_image(side: int = 200, kind: str = "PNG") -> bytes:
    """What shops show for pictures they lost."""
    image = Image.new("RGB", (side, side), "#eeeeee")
    draw = ImageDraw.Draw(image)
    draw.text((side * 0.1, side * 0.6), "No image available", "#888888", ImageFont.load_default(side // 11))
    draw.ellipse((side * 0.35, side * 0.2, side * 0.65, side * 0.5), outline="#888888", width=side // 40)
    return encode(image, kind)


def encode(image: Image.Image, kind: str) -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def bomb(width: int = 60000, height: int = 60000) -> bytes:
    """A PNG of some bytes that claims 3.6 billion pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


class Handler(BaseHTTPRequestHandler):
    server: BadServer
    fixed: ClassVar[dict[str, bytes]] = {
        "html": PAGE, "gif": GIF_1X1, "blank": encode(Image.new("RGB", (96, 96), "#fefefe"), "JPEG"),
        "bomb": bomb(), "empty": b"", "svg": b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>",
        "lost": no_image(), "lost-jpeg": no_image(300, "JPEG"), "same": photo(999), "cut": photo(1, kind="JPEG")[:900],
    }  # fmt: skip

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        mode, _, rest = path[1:].partition("/")
        with self.server.lock:
            self.server.hosts.append(self.headers["Host"])
            self.server.asked[path] += 1
            self.server.running += 1
            self.server.most = max(self.server.most, self.server.running)
            self.server.times.append(time.monotonic())
            time_no = self.server.asked[path]
        try:
            self.answer(mode, rest, query, time_no)
        except (BrokenPipeError, ConnectionResetError):
            pass
        finally:
            with self.server.lock:
                self.server.running -= 1

    def answer(self, mode: str, rest: str, query: str, time_no: int) -> None:
        if mode.isdecimal():
            return self.send(int(mode))
        if mode == "once":  # /once/500/…: that answer first, the picture then
            code = int(rest.split("/")[0])
            if time_no == 1:
                return self.send(code, b"", **({"Retry-After": query} if query else {}))
        if mode in {"to", "slow-down"}:
            return self.send(
                302 if mode == "to" else 429, b"", **{"Location" if mode == "to" else "Retry-After": query}
            )
        if mode == "endless":
            self.send(200, None)
            while True:
                self.wfile.write(b"\xff" * 65536)
        if mode == "drip":
            self.send(200, None)
            while not self.server.closing:
                self.wfile.write(b"a")
                time.sleep(0.05)
        if mode == "drip-head":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
            while not self.server.closing:
                self.wfile.write(b"a")
                time.sleep(0.05)
        if mode in {"reset", "reset-unsized"}:
            body = photo(1, 400)
            self.send(200, body[: len(body) // 2], len(body) if mode == "reset" else None)
            self.wfile.flush()
            if mode == "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return self.connection.close()
        if mode == "promises":  # more than it sends
            return self.send(200, photo(1), 10**12)
        if mode == "understates":
            body = photo(1)
            return self.send(200, body, len(body) // 2)
        if mode == "gzip":
            return self.send(200, zlib.compress(photo(1)), **{"Content-Encoding": "gzip"})
        if mode == "loop":
            return self.send(302, b"", Location=f"/loop/{int(rest or 0) + 1}")
        if mode == "held" and sum(self.server.asked.values()) > self.server.open_to:  # the later ones wait
            self.server.gate.wait()
        if mode == "slow":
            time.sleep(0.05)
        number = int("".join(c for c in rest if c.isdecimal()) or 0)
        self.send(200, self.fixed.get(mode) if mode in self.fixed else photo(number))

    def send(self, code: int, body: bytes | None = b"", length: int | None = -1, **headers: str) -> None:
        """`length` -1 is the true one, None sends none; the type is always that of a picture."""
        self.send_response(code)
        self.send_header("Content-Type", "image/jpeg")
        if body is not None and length is not None:
            self.send_header("Content-Length", str(len(body) if length == -1 else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if body:
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class BadServer(ThreadingHTTPServer):
    """Counts what it is asked."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        self.asked: Counter[str] = Counter()
        self.hosts: list[str] = []
        self.times: list[float] = []
        self.lock = Lock()
        self.running = self.most = 0
        self.closing = False
        self.open_to, self.gate = 0, Event()  # so many answers of "held" before the gate must be opened
        self.base = f"http{'s' if tls else ''}://127.0.0.1:{self.server_port}"
        Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def handle_error(self, *_: object) -> None:
        pass

    def stop(self) -> None:
        self.closing = True
        self.gate.set()
        self.shutdown()
        self.server_close()
