"""Whether memfix may reach for the network, and whether there is one. `--offline` sets the variable read here."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from urllib.parse import urlsplit
from urllib.request import getproxies

TRUE = {"1", "ON", "YES", "TRUE"}  # what huggingface_hub takes for true, in any case


def is_offline(environ: Mapping[str, str] = os.environ) -> bool:
    """As huggingface_hub reads it: HF_HUB_OFFLINE, else TRANSFORMERS_OFFLINE.

    The hub library reads them once, when it is imported; here they are read anew.
    """
    return (environ.get("HF_HUB_OFFLINE") or environ.get("TRANSFORMERS_OFFLINE") or "").upper() in TRUE


def can_be_reached(address: str, seconds: float = 5.0) -> bool:
    """Whether a server answers at all; behind a proxy that is taken for granted. Quicker than a library's retries."""
    parts = urlsplit(address)
    if getproxies().get(parts.scheme):
        return True
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 443), seconds):
            return True
    except OSError:
        return False
