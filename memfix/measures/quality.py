"""The names of `memfix/quality.py` for those who look for them beside the other measures."""

from memfix.quality import MOST_BROKEN, broken_share, detail_range

__all__ = ["MOST_BROKEN", "broken_share", "detail_range"]
