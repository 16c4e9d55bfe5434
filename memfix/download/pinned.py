"""Files that are known by their content: fetched by URL, whole and of the pinned sha256, or not at all.

The hash vouches for them, whoever sends them, so the proxies of the environment are used. URLs that nobody vouches for
go through `safe_http`.
"""

from __future__ import annotations

import hashlib
import http.client
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError, URLError

from memfix.errors import MemfixError
from memfix.files import atomic_file
from memfix.offline import is_offline

TIMEOUT = 60  # seconds without a byte
LIMIT = 16 << 20  # bytes of a file whose size is not known
CHUNK = 1 << 16


@dataclass(frozen=True)
class Pinned:
    """Where a file lies, what its bytes hash to, and how many they are, if that is known."""

    url: str
    sha256: str
    size: int | None = None


def download(pinned: Pinned, target: Path, mirror: str | None = None) -> None:
    """Put a file at `target`, from its URL or from the one of a `mirror`; what is there already is replaced.

    Raises MemfixError, and leaves nothing behind, where memfix is offline, the transfer fails or the content is other.
    """
    url, found = mirror or pinned.url, hashlib.sha256()
    by_hand = f"Fetch {pinned.url} (sha256 {pinned.sha256}) by hand, and put it at {target}."
    if is_offline():
        raise MemfixError(f"{target} is not there, and cannot be downloaded: memfix is offline.", by_hand)
    try:
        with atomic_file(target) as file:
            for chunk in _content(url, pinned.size, by_hand):
                found.update(chunk)
                file.write(chunk)
            if (other := found.hexdigest()) != pinned.sha256:
                raise MemfixError(f"{url} has sha256 {other}, not {pinned.sha256}: it is not kept.", by_hand)
    except OSError as error:
        hint = "Make room, or choose another place."
        raise MemfixError(f"{target} cannot be written: {error.strerror}.", hint) from None


def _content(url: str, size: int | None, hint: str) -> Iterator[bytes]:
    """The bytes behind a URL, in chunks, as many as are expected. Raises MemfixError for all that goes wrong."""
    if not url.startswith(("https://", "http://")):
        raise MemfixError(f"{url} is not an http address.", hint)
    there = 0
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
            told = answer.headers.get("Content-Length") or ""
            expected = size or (int(told) if told.isdigit() else None)
            while chunk := answer.read(CHUNK):
                there += len(chunk)
                if there > (size or LIMIT):
                    raise MemfixError(f"{url} is larger than {size or LIMIT:,} bytes: it is something else.", hint)
                yield chunk
    except HTTPError as error:
        raise MemfixError(f"{url} answers {error.code} {error.reason}.", hint) from None
    except (URLError, OSError, http.client.HTTPException, ValueError) as error:
        reason = error.reason if isinstance(error, URLError) else f"{type(error).__name__} {error}".strip()
        raise MemfixError(f"{url} cannot be reached: {reason}.", hint) from None
    if expected is not None and there != expected:
        raise MemfixError(f"{url} broke off after {there:,} of {expected:,} bytes.", f"Run the command again. {hint}")
