"""Pictures that stand in for one that is gone: blanks, "no image available", the logo that a redirect leads to.

A repeated picture alone is no proof: training images that a model memorizes are often those that a site shows many
times. So only repeated plain graphics are refused, other repeated pictures are pointed out. On one host it is enough
that several files are alike; over several hosts, where a true duplicate is found again under a caption much like the
first, it must be the same bytes under captions that have nothing in common. Knows nothing of HTTP.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Set
from pathlib import PurePosixPath
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import numpy as np
from PIL import Image

from memfix.download.fetched import Fetched, NotFetchedError, Status, refused

BLANK_SHARE, BLANK_LEVELS = 0.995, 6
PLAIN_SHARE, PLAIN_LEVELS, PLAIN_COLOURS = 0.5, 10, 24
LOOK_SIDE, LOOK_LEVELS = 8, 8
MANY = 3
"""Different paths of one host that give the same picture, before it counts as repeated."""
SAME_TARGET = 2
"""Different file names that are redirected to the same other file, before it counts as a surrogate."""
RELATED = 0.1
"""Share of common trigrams from which two captions are related; a tenth of all pairs of LAION captions are."""

GENERIC = re.compile(
    r"logo|placeholder|no[-_ ]?(?:image|photo|pic|img)|(?:image|photo)?[-_ ]?not[-_ ]?(?:found|available)|unavailable"
    r"|missing|removed|deleted|default|blank|spacer|pixel|error|(?<!\d)404(?!\d)|coming[-_ ]?soon",
    re.IGNORECASE,
)
HOMEPAGE = re.compile(r"/?(?:(?:index|default|home)\.\w{2,5})?", re.IGNORECASE)
PLACEHOLDER, TARGET = "placeholder", "same target"


def is_blank(small: Image.Image) -> bool:
    """Whether nearly all of an RGB picture is within a few levels of its median colour."""
    pixels = np.asarray(small, dtype=np.int16).reshape(-1, 3)
    near = (np.abs(pixels - np.median(pixels, axis=0)) <= BLANK_LEVELS).all(1)
    return bool(near.mean() >= BLANK_SHARE)


def look(small: Image.Image) -> str:
    """8x8 grey levels in hex if an RGB picture is plain (half of it one flat colour, few colours in all), else ''."""
    pixels = np.asarray(small, dtype=np.int16).reshape(-1, 3)
    colours, counts = np.unique(pixels >> 3, axis=0, return_counts=True)
    main = colours[counts.argmax()] * 8 + 4
    flat = (np.abs(pixels - main) <= PLAIN_LEVELS).all(1).mean()
    areas = np.unique(pixels >> 4, axis=0, return_counts=True)[1]
    if flat < PLAIN_SHARE or (areas >= len(pixels) / 1000).sum() > PLAIN_COLOURS:  # JPEG adds specks of other colours
        return ""
    return small.convert("L").resize((LOOK_SIDE, LOOK_SIDE), Image.Resampling.BOX).tobytes().hex()


def check_redirect(url: str, final: str) -> None:
    """Raises NotFetchedError (refused) if a redirect leads to a homepage, or to a file named like a surrogate."""
    if not led_elsewhere(url, final):
        return
    path = urlsplit(final).path
    if HOMEPAGE.fullmatch(path):
        raise refused("homepage", f"redirected to {final}")
    if GENERIC.search(PurePosixPath(path).name) and not GENERIC.search(_name(url)):
        raise refused("logo", f"redirected to {final}")


def led_elsewhere(url: str, final: str) -> bool:
    """Whether the last part of the path changed; a picture that moved to another host keeps its name."""
    return _name(url) != _name(final)


def _name(url: str) -> str:
    return PurePosixPath(unquote(urlsplit(url).path)).name


class Repeated(NamedTuple):
    """`surrogates`: why a URL's picture is one after all. `suspects`: groups of URLs that share an ordinary picture."""

    surrogates: dict[str, NotFetchedError]
    suspects: list[list[Fetched]]


def repeated(records: Iterable[Fetched], texts: Mapping[str, Set[str]]) -> Repeated:
    """What only shows when all of a list is seen. Pictures whose hash the list gave are above suspicion.

    `texts` are the captions of a URL, as far as they are known.
    """
    seen = [r for r in records if (r.status is Status.FETCHED or r.reason in {PLACEHOLDER, TARGET}) and not r.verified]
    surrogates: dict[str, NotFetchedError] = {}
    moved = [r for r in seen if led_elsewhere(r.url, r.final_url)]
    for final, group in _groups(moved, lambda r: r.final_url).items():
        if len({_name(r.url) for r in group}) >= SAME_TARGET:
            surrogates |= {r.url: refused(TARGET, f"{len(group)} URLs are redirected to {final}") for r in group}
    suspects = []
    for host, of_host in _groups(seen, lambda r: urlsplit(r.url).netloc.lower()).items():
        for group in _alike([r for r in of_host if r.look]):
            if _paths(group) >= MANY:
                why = refused(PLACEHOLDER, f"{len(group)} URLs of {host} show this plain graphic")
                surrogates |= {r.url: why for r in group if r.url not in surrogates}
        same = _groups([r for r in of_host if r.url not in surrogates], lambda r: r.sha256)
        suspects += [group for group in same.values() if _paths(group) >= MANY]
    over_hosts = _over_hosts(seen, surrogates, texts)
    for group in over_hosts:
        if group[0].look:
            why = refused(PLACEHOLDER, f"{len(group)} URLs of {len(hosts_of(group))} hosts show this plain graphic")
            surrogates |= {r.url: why for r in group if r.url not in surrogates}
    found = {group[0].sha256 for group in over_hosts}
    suspects = [group for group in suspects if group[0].sha256 not in found]
    return Repeated(surrogates, suspects + [group for group in over_hosts if not group[0].look])


def _over_hosts(
    seen: list[Fetched], surrogates: Mapping[str, NotFetchedError], texts: Mapping[str, Set[str]]
) -> list[list[Fetched]]:
    """Groups of the same bytes from several hosts: under unrelated captions, or known as a surrogate of one of them."""
    groups = (group for group in _groups(seen, lambda r: r.sha256).values() if len(hosts_of(group)) > 1)
    return [
        group for group in groups
        if any((surrogates[r.url].reason if r.url in surrogates else r.reason) == PLACEHOLDER for r in group)
        or _unrelated([texts.get(r.url, frozenset()) for r in group])
    ]  # fmt: skip


def hosts_of(group: Iterable[Fetched]) -> set[str]:
    """The hosts of some URLs."""
    return {urlsplit(r.url).netloc.lower() for r in group}


def _unrelated(captions: Iterable[Set[str]]) -> bool:
    """Whether MANY URLs, given the captions of each, have nothing in common."""
    chosen: list[list[set[str]]] = []
    for own in captions:
        new = [grams for text in own if (grams := _trigrams(text))]
        if new and all(_shared(a, b) < RELATED for other in chosen for a in new for b in other):
            chosen.append(new)
            if len(chosen) == MANY:
                return True
    return False


def _trigrams(text: str) -> set[str]:
    """Three letters in a row of the words of a text: a measure of likeness for every script."""
    words = " ".join(re.findall(r"\w+", text.casefold()))
    return {f" {words} "[i : i + 3] for i in range(len(words))}


def _shared(a: set[str], b: set[str]) -> float:
    return len(a & b) / len(a | b)


def _groups(records: Iterable[Fetched], key: Callable[[Fetched], str]) -> dict[str, list[Fetched]]:
    groups = defaultdict(list)
    for record in records:
        groups[key(record)].append(record)
    return groups


def _paths(group: list[Fetched]) -> int:
    """How many different files; the same one in several sizes or with a session number is no repetition."""
    return len({urlsplit(r.url).path for r in group})


def _alike(plain: list[Fetched]) -> list[list[Fetched]]:
    """Plain graphics in groups of nearly the same look."""
    groups: list[list[Fetched]] = []
    first = np.empty((0, LOOK_SIDE**2), np.int16)
    for same in _groups(plain, lambda r: r.look).values():
        levels = np.frombuffer(bytes.fromhex(same[0].look), np.uint8).astype(np.int16)
        near = np.flatnonzero(np.abs(first - levels).max(1, initial=0) <= LOOK_LEVELS)
        if len(near):
            groups[near[0]] += same
        else:
            groups.append(list(same))
            first = np.vstack([first, levels])
    return groups
