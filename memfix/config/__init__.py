"""Typed settings, one class per table of a settings file. The description of a field is its help on the command line.

Knows nothing of torch.
"""

from memfix.config.base import Settings
from memfix.config.checks import DetectSettings, RecheckSettings
from memfix.config.tools import FetchSettings, IndexSettings, ScreenSettings
from memfix.config.unlearn import UnlearnSettings

__all__ = [
    "STAGE_SETTINGS", "DetectSettings", "FetchSettings", "IndexSettings", "RecheckSettings", "ScreenSettings",
    "Settings", "UnlearnSettings",
]  # fmt: skip

STAGE_SETTINGS: dict[str, type[Settings]] = {
    "detect": DetectSettings, "unlearn": UnlearnSettings, "recheck": RecheckSettings, "screen": ScreenSettings,
    "fetch": FetchSettings, "index": IndexSettings,
}  # fmt: skip
