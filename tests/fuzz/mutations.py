"""Damage, as disks, editors and strangers do it: to bytes, and to what a JSON document says. Seeded, so that each case
can be made again from its number."""

import json
from collections.abc import Iterator
from random import Random
from typing import Any

TEXTS = ["", "x" * 5000, "../../../tmp/out", "/etc/passwd", "\0", "\ud800", "NaN", "💥"]
ODD = [*TEXTS, -1, 1e308, 10**30, True, None, [], {}]
PIECES = [b"\0", b"\n", b"\xff\xfe", b"{", b"]", b'"', b",", b"\r\n", b"9" * 400, b"[" * 2000, b"..//"]


def damaged(data: bytes, random: Random) -> bytes:
    """Bytes that something happened to: cut off, flipped, doubled, overwritten, or put together otherwise."""
    at, end = sorted(random.randrange(len(data) + 1) for _ in range(2))
    match random.randrange(6):
        case 0:
            return data[:at]
        case 1:
            return data[:at] + data[end:]
        case 2:
            return data[:end] + data[at:]
        case 3:
            return data[:at] + random.choice(PIECES) + data[at:]
        case 4:
            return data[:at] + random.randbytes(min(8, end - at)) + data[min(at + 8, end) :]
        case _:
            bits = bytearray(data or b"\0")
            bits[random.randrange(len(bits))] ^= 1 << random.randrange(8)
            return bytes(bits)


def edited(document: Any, random: Random) -> Any:
    """The same document with one value changed, or one of its keys lost."""
    document = json.loads(json.dumps(document))
    places = list(_places(document))
    if not places:
        return random.choice(ODD)
    holder, key = random.choice(places)
    match holder[key], random.randrange(4):
        case _, 0 if isinstance(holder, dict):
            del holder[key]
        case bool(value), 1:
            holder[key] = not value
        case int(value) | float(value), 1:
            holder[key] = value + random.choice([-1, 1, 0.5, 1e9])
        case str(value), 1:
            holder[key] = value[: len(value) // 2] + random.choice("x0/.")
        case _:
            holder[key] = random.choice(ODD)
    return document


def _places(document: Any) -> Iterator[tuple[Any, Any]]:
    keys = document if isinstance(document, dict) else range(len(document)) if isinstance(document, list) else ()
    for key in keys:
        yield document, key
        yield from _places(document[key])


def mutated(name: str, data: bytes, random: Random) -> bytes:
    """A file that something happened to, in its bytes, or in a line or a document of JSON that it holds."""
    if random.random() < 0.5 and name.endswith((".json", ".jsonl")):
        lines = data.splitlines() if name.endswith(".jsonl") else [data]
        at = random.randrange(len(lines))
        lines[at] = json.dumps(edited(json.loads(lines[at]), random)).encode()
        data = b"\n".join(lines) + b"\n"
        return data if random.random() < 0.8 else damaged(data, random)
    return damaged(data, random)
