"""What became of everything that was seen in a source: used, or passed over and why. Nothing goes uncounted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum

from memfix.findings import SourceRecord
from memfix.inputs.wrong_rows import WrongRows


class PassedOver(StrEnum):
    """Why something in a source is not used."""

    HIDDEN = "hidden and side files"
    CAPTIONS = "texts and tables beside pictures"
    MASK = "masks of pictures beside them"
    OTHER = "files that are no pictures"
    FOREIGN = "pictures of formats that memfix does not read"
    CLOSED = "archives and databases that memfix cannot look into"
    UNREAD = "columns of tables that may hold pictures and are not read"
    LINKED = "links and sparse files in a tar"
    FRAMES = "frames and pages that are previews, broken, or of more than are looked at"
    LARGE = "files in a tar that are too large for a picture"
    AGAIN = "pictures that were there already"
    BROKEN = "pictures that are missing or broken"
    UNINDEXED = "files that the index could not read"
    NEWER = "pictures that were added or changed since the index was made"
    WRONG = "wrong rows"
    REPEATED = "texts that were there already"
    EMPTY = "rows without a text"
    NO_PICTURE = "rows without a picture"
    COMMENT = "comments and names of columns"
    LISTED = "texts that are prompts of the list as well"
    UNCAPTIONED = "pictures without a caption"


LOUD = (
    PassedOver.FOREIGN,
    PassedOver.CLOSED,
    PassedOver.UNREAD,
    PassedOver.LINKED,
    PassedOver.FRAMES,
    PassedOver.LARGE,
    PassedOver.UNINDEXED,
    PassedOver.NEWER,
)
"""What may be a training image that nothing is compared with."""


def listed(passed_over: Mapping[str, int] | Mapping[PassedOver, int]) -> str:
    """Reasons with their counts, for the user."""
    return ", ".join(f"{why} ({count:,})" for why, count in passed_over.items() if count)


class Tally:
    """Counts of one source."""

    def __init__(self) -> None:
        self.used = 0
        self.passed_over: Counter[PassedOver] = Counter()
        self.altered: Counter[str] = Counter()
        """What was used, but not as it is written: how → how often."""
        self.first: dict[str, str] = {}
        """The first of each kind, for the user."""

    def use(self, count: int = 1) -> None:
        """So many things were used."""
        self.used += count

    def pass_over(self, why: PassedOver, what: str = "", count: int = 1) -> None:
        """So many things were not used; `what` is one of them."""
        if count:
            self.passed_over[why] += count
            self.first.setdefault(why, what)

    def alter(self, how: str, what: str = "") -> None:
        """One thing was not used as it is written."""
        self.altered[how] += 1
        self.first.setdefault(how, what)

    @contextmanager
    def wrong(self, wrong: WrongRows) -> Iterator[None]:
        """Count what is added to `wrong` within the block."""
        rows, pictures = wrong.count, wrong.pictures
        yield
        for why, more in ((PassedOver.WRONG, wrong.count - rows), (PassedOver.BROKEN, wrong.pictures - pictures)):
            self.pass_over(why, count=more)

    def record(self, source: str) -> SourceRecord:
        """The counts, as a run writes them down."""
        passed_over = {str(why): count for why, count in sorted(self.passed_over.items()) if count}
        seen = self.used + sum(passed_over.values())
        return SourceRecord(
            source=source, seen=seen, used=self.used, passed_over=passed_over, altered=dict(self.altered)
        )

    def warning(self, why: PassedOver) -> str:
        """What the user must know of what was passed over for one reason."""
        return f"Passed over: {listed({why: self.passed_over[why]})}, {self.first[why]} among them."

    def warnings(self) -> list[str]:
        """What the user must know: what may be a training image and is not compared, and what was altered."""
        lines = [self.warning(why) for why in LOUD if self.passed_over[why]]
        altered = [f"{how} ({count:,}), {self.first[how]} among them." for how, count in self.altered.items()]
        return lines + [line[0].upper() + line[1:] for line in altered]
