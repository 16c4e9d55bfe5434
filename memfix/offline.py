"""Whether memfix may reach for the network. `--offline` sets the variable that is read here."""

from __future__ import annotations

import os
from collections.abc import Mapping

TRUE = {"1", "ON", "YES", "TRUE"}  # what huggingface_hub takes for true, in any case


def is_offline(environ: Mapping[str, str] = os.environ) -> bool:
    """As huggingface_hub reads it: HF_HUB_OFFLINE, else TRANSFORMERS_OFFLINE.

    The hub library reads them once, when it is imported; here they are read anew.
    """
    return (environ.get("HF_HUB_OFFLINE") or environ.get("TRANSFORMERS_OFFLINE") or "").upper() in TRUE
