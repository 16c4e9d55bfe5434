"""Which weights describe samples that are searched for in an index: those that it was made with.

What can be told apart by names and known hashes is refused here, before anything is downloaded or loaded.
"""

from __future__ import annotations

from pathlib import Path

from memfix.errors import MemfixError
from memfix.index.store import Manifest
from memfix.measures.clip import family, tag_of
from memfix.measures.weights import KNOWN, Wanted


def wanted_for(index: Path, made: Manifest, sscd: str | None, clip: str | None, trust: bool) -> Wanted:
    """The weights that the user names, else those that the manifest records, else the usual ones.

    The user vouches (`trust`) for a program that he names, not for one that an index names. Raises MemfixError for
    weights that cannot be those of the index.
    """
    own, usual = {made.descriptor: made.weights}, Wanted()
    wanted = Wanted(
        sscd=sscd or own.get("sscd") or usual.sscd, clip=clip or own.get("clip") or usual.clip,
        trust=trust and (sscd is not None or not own.get("sscd")),
    )  # fmt: skip
    match made.descriptor:
        case "sscd" if _other_sscd(made, wanted.sscd):
            raise _refusal(index, made, wanted.sscd, "--sscd-weights")
        case "clip" if _other_clip(made, wanted.clip):
            raise _refusal(index, made, wanted.clip, "--clip-model")
    return wanted


def _other_sscd(made: Manifest, name: str) -> bool:
    """Whether published weights have another hash; a file has yet to be read."""
    known = None if Path(name).exists() else KNOWN.get(name)
    return known is not None and known.sha256 not in made.identity


def _other_clip(made: Manifest, model: str) -> bool:
    """Whether it is another architecture, or another tag of this one; a file has yet to be read."""
    if not made.identity.startswith(f"{family(model)},"):
        return True
    tag, own = tag_of(model), tag_of(made.weights)
    return tag is not None and own is not None and tag != own


def _refusal(index: Path, made: Manifest, name: str, flag: str) -> MemfixError:
    own = f" {made.weights}" if made.weights else ""
    return MemfixError(
        f"{index} was made with {made.descriptor}{own} ({made.identity}), not with {name}.",
        f"Leave out {flag}, or make another index with: memfix index {made.source} --out FOLDER",
    )
