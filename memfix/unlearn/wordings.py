"""Shortened wordings of memorized prompts, for those that have nothing of their own to keep. Pure: records in, out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from memfix.records import Pair, Side

ENOUGH_KEEP = 4  # fewer non-memorized samples of a prompt than this, and shortened wordings of it are sampled too
MOST_WORDINGS = 4


def shortened(text: str) -> list[str]:
    """Beginnings of a text, longest first: wordings that say the same with less, and may not be memorized.

    At most MOST_WORDINGS, spread over its length.
    """
    words = text.split()
    lengths: Sequence[int] = range(len(words) - 1, 0, -1)
    if len(lengths) > MOST_WORDINGS:
        stride = len(lengths) / MOST_WORDINGS
        lengths = [lengths[int(i * stride)] for i in range(MOST_WORDINGS)]
    return [" ".join(words[:n]) for n in lengths]


def wordings(pairs: Sequence[Pair]) -> dict[str, Pair]:
    """What to sample for the targets with fewer than ENOUGH_KEEP keep images: an id for each wording → the pair to make
    of its samples, whose path is still empty."""
    own = Counter(p.prompt_id for p in pairs if p.side is Side.KEEP)
    targets = {p.prompt_id: p.text for p in pairs if p.side is Side.FORGET and own[p.prompt_id] < ENOUGH_KEEP}
    return {
        f"{i}-v{n}": Pair(side=Side.KEEP, path="", text=text, prompt_id=i, origin="variant", wording=wording)
        for i, text in targets.items()
        for n, wording in enumerate(shortened(text))
    }


def safe_wordings(variants: Sequence[Pair], each: int) -> dict[str, str | None]:
    """For each target that has variants: the longest wording all of whose `each` samples could be kept, if any."""
    kept = Counter((p.prompt_id, p.wording) for p in variants)
    return {
        i: next((w for w in shortened(text) if kept[i, w] == each), None)
        for i, text in {p.prompt_id: p.text for p in variants}.items()
    }
