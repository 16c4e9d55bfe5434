"""Settings of the commands that help before a run: screen, fetch, index."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from memfix.config.base import SEVERAL, Settings
from memfix.config.choices import Compression, Precision


class ScreenSettings(Settings):
    """`memfix screen`: by what prompts are ranked. The model and its sampling are those of `[detect]`."""

    screen: Annotated[tuple[str, ...], SEVERAL] = Field(
        ("magnitude",),
        min_length=1,
        description="Screen to score by, see 'memfix list screens'; the first of several ranks.",
    )
    num_seeds: int = Field(4, ge=1, description="Seeds a prompt.")
    steps: int = Field(1, ge=1, description="How many of the first denoising steps a screen looks at.")
    top: int = Field(20, ge=0, description="Show the N highest.")


class FetchSettings(Settings):
    """`memfix fetch`: how reference images are downloaded, and which are kept."""

    threads: int = Field(16, ge=1, description="Downloads at once.")
    per_host: int = Field(2, ge=1, description="Downloads at once from one host.")
    per_second: float = Field(5, ge=0.01, description="Downloads started a second, of each host.")
    retries: int = Field(3, ge=0, description="Further tries after a failure that may pass.")
    backoff: float = Field(1, ge=0, description="Seconds before the first of them, then doubled.")
    longest_wait: float = Field(
        120,
        ge=0,
        description="Seconds of Retry-After that are waited for; a host that asks for more is left for another run.",
    )
    timeout: float = Field(60, ge=0.1, description="Seconds for one download, redirects and all.")
    max_bytes: int = Field(32 << 20, ge=1, description="Larger files are refused while they come.")
    max_pixels: int = Field(50_000_000, ge=1, description="Pictures with more are not decoded.")
    min_side: int = Field(64, ge=1, description="Pictures with a shorter side are refused, in pixels.")
    limit: int | None = Field(None, ge=1, description="Only the first N rows that have a URL.")
    skip_invalid: bool = Field(False, description="Leave out wrong rows, and count them.")
    user_agent: str | None = Field(None, description="How to introduce itself to hosts.")
    allow_port: Annotated[tuple[int, ...], SEVERAL] = Field(
        (), description="A port beside 80, 443, 8080 and 8443; may come again."
    )
    allow_private: bool = Field(False, description="Also reach this machine and its private networks (intranets).")


class IndexSettings(Settings):
    """`memfix index`: what describes the pictures, how it is stored, and what is made of it."""

    descriptor: str = Field("pixels", description="What describes a picture: pixels, sscd or clip.")
    sscd_weights: str = Field(
        "sscd_disc_mixup", description="Weights of sscd: the authors' name, or a TorchScript file."
    )
    clip_model: str = Field(
        "ViT-B-32/laion2b_s34b_b79k",
        description="open_clip's NAME/TAG, or NAME/PATH of a .safetensors checkpoint.",
    )
    trust_weights: bool = Field(False, description="Run a TorchScript file of unknown hash.")
    precision: Precision | None = Field(
        None, description="Of the stored vectors; float16 for a new index when not given."
    )
    batch_size: int = Field(32, ge=1, description="Pictures described at once.")
    workers: int | None = Field(None, ge=1, description="Threads that read and decode; one a core when not given.")
    approximate: Compression | None = Field(
        None, description="Also write an approximate index: sq8 (a byte a number) or pq (64 a vector)."
    )
    recall: float = Field(0.95, ge=0, le=1, description="Share of nearest neighbours it has to find.")
    groups: float | None = Field(
        None, ge=-1, le=1, description="Also list near-copies: groups of pictures at least this similar."
    )
