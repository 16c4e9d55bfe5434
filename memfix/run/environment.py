"""Versions and machine that a run was made with."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import Field

from memfix import __version__
from memfix.records import Record

PACKAGES = (
    "torch", "diffusers", "transformers", "accelerate", "peft", "safetensors", "scikit-image", "numpy", "pillow",
)  # fmt: skip


class Environment(Record):
    """What a stage ran on."""

    memfix: str = Field(description="version of memfix")
    commit: str | None = Field(description="of memfix, where it runs from its own repository")
    dirty: bool | None = Field(description="whether files there differed from that commit")
    python: str = Field(description="version of Python")
    platform: str = Field(description="operating system and processor type")
    cpus: int | None = Field(description="number of processor threads of the machine; none where it does not tell")
    packages: dict[str, str] = Field(description="versions of the libraries that pictures depend on")


def environment() -> Environment:
    """Versions and machine, as they are now."""
    commit, dirty = _commit()
    return Environment(
        memfix=__version__, commit=commit, dirty=dirty, python=sys.version.split()[0], platform=platform.platform(),
        cpus=os.cpu_count(), packages={name: _version(name) for name in PACKAGES},
    )  # fmt: skip


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def _commit() -> tuple[str | None, bool | None]:
    """Commit and dirty flag, when memfix runs from its own repository; an installed wheel has its version."""
    root = Path(__file__).parent.parent.parent
    if not (root / ".git").exists():
        return None, None

    def git(*args: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(root), *args], capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    status = git("status", "--porcelain", "--untracked-files=no")
    return git("rev-parse", "HEAD"), None if status is None else bool(status)
