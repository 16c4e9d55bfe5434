"""Published prompt lists, pinned by commit and sha256, and how to get them. Knows nothing of what a list holds.

None of them is part of the package: they name real people and brands.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from memfix.download.pinned import Pinned, download
from memfix.errors import MemfixError, did_you_mean
from memfix.files import sha256

BASE = "https://raw.githubusercontent.com"


@dataclass(frozen=True)
class PublishedList:
    """A prompt list at a pinned commit. `prompts` is how many it holds."""

    name: str
    repository: str
    commit: str
    path: str
    sha256: str
    kind: str
    model: str
    prompts: int
    about: str
    licence: str = "MIT"

    @property
    def file_name(self) -> str:
        """What its file is called here."""
        return self.name + PurePosixPath(self.path).suffix

    def url(self, base: str = BASE) -> str:
        """Where it lies."""
        return f"{base.rstrip('/')}/{self.repository}/{self.commit}/{self.path}"


NEMO = ("ml-research/localizing_memorization_in_diffusion_models", "f952eded64fca0bcf42e0bb3be9a01d64653cfdb")
MEMATTN = ("renjie3/MemAttn", "c66efd22d8ffd4b1c6b87835708fa1437a2e076b")
ANISOTROPY = ("rohanasthana/memorization-anisotropy", "97e991bac4171ad0547c5779c31180ea8e9f672e")

_ROWS = (
    PublishedList(
        "nemo-memorized", *NEMO, "prompts/memorized_laion_prompts.csv",
        "0b527a5965dc463e7a3e0d234ff7fd5489b1a76869c456dbb209dc753cb4af25", "memorized", "SD 1", 500,
        "the prompts of Wen et al. with image URLs; verbatim (VM) and template (TM)",
    ),
    PublishedList(
        "nemo-ordinary", *NEMO, "prompts/unmemorized_laion_prompts.csv",
        "f453b418cc157864baacbf68d97447273feac41e8066b2ead6b307bf795988e1", "ordinary", "SD 1", 500,
        "LAION captions with image URLs",
    ),
    PublishedList(
        "memattn-sd1-memorized", *MEMATTN, "prompt/sd1_mem345.txt",
        "70f370c4728aecd18e0db95dc58e9741b0f1a278dbfddb31d7d0754f69f8d069", "memorized", "SD 1", 345,
        "LAION captions, all of them in nemo-memorized",
    ),
    PublishedList(
        "memattn-sd2-memorized", *MEMATTN, "prompt/sd2_mem219.txt",
        "5776ec85cc25fde8c4843af990041a85813c3af7cb817c45dabb1a1bb9b6356f", "memorized", "SD 2", 219,
        "LAION captions, 172 of them in nemo-memorized",
    ),
    PublishedList(
        "memattn-ordinary", *MEMATTN, "prompt/group_nomem500.txt",
        "4e0de75ae37b4fb2f8676026d876d9f4b03267a90041af4069d74b912e588c2d", "ordinary", "any", 500,
        "plain descriptions of scenes",
    ),
    PublishedList(
        "anisotropy-memorized", *ANISOTROPY, "prompts/RV_mem_full.txt",
        "d017291bc2d33c7ba02ed48392b4ef9cb08aede387733f23b3a4542d13ae641c", "memorized", "SD 1", 500,
        "LAION captions, 352 of them in nemo-memorized; called RV there",
    ),
)  # fmt: skip
PUBLISHED = {row.name: row for row in _ROWS}


def get_published(name: str) -> PublishedList:
    """A list by its name. Raises MemfixError with the nearest name."""
    if name not in PUBLISHED:
        raise MemfixError(f"There is no published prompt list '{name}'.", did_you_mean(name, list(PUBLISHED)))
    return PUBLISHED[name]


def fetch_list(entry: PublishedList, target: Path, base: str = BASE) -> bool:
    """Put a list at `target`, whole and of the pinned sha256; False if it was there already.

    Raises MemfixError, and leaves nothing behind, for any other content, a failed transfer or a taken name.
    """
    if target.exists():
        if target.is_file() and sha256([target]) == entry.sha256:
            return False
        raise MemfixError(
            f"{target} already exists with other content.", "Give another name to -o, or move the file away."
        )
    if not target.parent.is_dir():
        raise MemfixError(f"There is no folder {target.parent}.", "Create it, or give another place to -o.")
    download(Pinned(entry.url(), entry.sha256), target, entry.url(base))
    return True
