"""Weights of descriptors: where they come from, what they hash to, and whether they may be run.

A TorchScript file is a program. It is loaded only when its hash is one that is known, or when the user vouches for it.
What a user has vouched for on this machine is remembered by its hash: later stages of a run ask for that, since a run
folder from elsewhere may say anything.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from memfix.demo import DEMO, DESCRIPTOR
from memfix.download.pinned import Pinned, download
from memfix.errors import MemfixError
from memfix.files import sha256
from memfix.findings import WeightsRecord

KNOWN = {
    "sscd_disc_mixup": Pinned(  # Pizzi et al., CVPR 2022, MIT; the hash is a third party's
        "https://dl.fbaipublicfiles.com/sscd-copy-detection/sscd_disc_mixup.torchscript.pt",
        "9f26bd4c848cc19b73d2ae92eea6e04886f61a7b764ceb7a13aeee62e6a6db56",
        98_791_638,
    )
}
"""Published weights, by the name that users give."""


class Wanted(NamedTuple):
    """Which weights to use where a measure or descriptor needs some; `trust`: the user vouches for unknown hashes."""

    sscd: str = "sscd_disc_mixup"
    clip: str = "ViT-B-32/laion2b_s34b_b79k"
    trust: bool = False


class Weights(NamedTuple):
    """A file that may be loaded; `name` is what to ask for to get it again, size in bytes."""

    path: Path
    sha256: str
    name: str
    size: int

    @classmethod
    def of(cls, path: Path, name: str) -> Weights:
        """Those in a file, which is read to its end."""
        return cls(path, sha256([path]), name, path.stat().st_size)

    @property
    def published(self) -> bool:
        """Whether these are ones that `KNOWN` holds, wherever the file lies."""
        return self.sha256 in {known.sha256 for known in KNOWN.values()}

    def record(self) -> WeightsRecord:
        """For the header of a run."""
        return WeightsRecord(name=self.name, file=str(self.path.absolute()), bytes=self.size, sha256=self.sha256)


def cache_folder() -> Path:
    """$MEMFIX_CACHE, else beside the hub's cache."""
    hub = os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface")
    return Path(os.environ.get("MEMFIX_CACHE", Path(hub).parent / "memfix"))


def is_there(name_or_path: str) -> bool:
    """Whether weights can be had without a download."""
    known = KNOWN.get(name_or_path)
    place = cache_folder() / known.url.rsplit("/", 1)[1] if known else Path(name_or_path)
    return name_or_path == DEMO or Path(name_or_path).is_file() or place.is_file()


def obtain(name_or_path: str, *, trust: bool = False) -> Weights:
    """Weights by name (downloaded once; 'demo' names the bundled ones) or by path.

    Raises MemfixError when they cannot be had, or when their hash is unknown and the user does not `trust` them.
    """
    known = KNOWN.get(name_or_path)
    path, name = Path(name_or_path), name_or_path
    if name_or_path == DEMO and not path.exists():
        return Weights.of(DESCRIPTOR, DEMO)  # comes with the package, as its code does
    if known is not None and not path.exists():
        path = cache_folder() / known.url.rsplit("/", 1)[1]
        if not path.is_file():
            download(known, path)
    if not path.is_file():
        raise MemfixError(
            f"There are no weights at {name_or_path}.", f"Give the path of a file, or one of: {', '.join(KNOWN)}."
        )
    weights = Weights.of(path, name if path != Path(name) else str(path.absolute()))
    if trust and not weights.published:
        _vouch_for(weights.sha256)
    elif not weights.published and weights.sha256 not in _vouched_for():
        raise MemfixError(
            f"{path} contains a program, and its sha256 {weights.sha256} is unknown.",
            f"If you trust the source of this file, give --sscd-weights {path} --trust-weights to 'memfix detect'. "
            f"{vouched_file()} remembers it, and runs that were made elsewhere go on here then.",
        )
    return weights


_vouched = set[str]()  # by this process


def vouched_file() -> Path:
    """Hashes that the user has vouched for on this machine, a line each."""
    return cache_folder() / "trusted-weights"


def _vouched_for() -> set[str]:
    file = vouched_file()
    return _vouched | set(file.read_text(encoding="utf-8").split() if file.is_file() else [])


def _vouch_for(sha256: str) -> None:
    if sha256 in _vouched_for():
        return
    _vouched.add(sha256)
    with suppress(OSError):  # then it is to be said again
        vouched_file().parent.mkdir(parents=True, exist_ok=True)
        with vouched_file().open("a", encoding="utf-8") as file:
            file.write(f"{sha256}\n")
