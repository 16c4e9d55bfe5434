"""Settings of the commands that help before a run: screen, fetch and index."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from memfix.config.base import SEVERAL, Settings
from memfix.config.choices import Compression, Precision


class ScreenSettings(Settings):
    """`memfix screen`: how prompts are ranked. The model and its sampling are set in `[detect]`."""

    screen: Annotated[tuple[str, ...], SEVERAL] = Field(
        ("magnitude",),
        min_length=1,
        description="Screen to score prompts with; see 'memfix list screens'. It may be repeated: prompts are ranked "
        "by the first.",
    )
    num_seeds: int = Field(4, ge=1, description="Seeds per prompt.")
    steps: int = Field(1, ge=1, description="How many of the first denoising steps the screen uses.")
    top: int = Field(20, ge=0, description="Show the N prompts with the highest scores.")


class FetchSettings(Settings):
    """`memfix fetch`: how reference images are downloaded, and which ones are kept."""

    threads: int = Field(16, ge=1, description="Downloads that run at once.")
    per_host: int = Field(2, ge=1, description="Downloads that run at once from one host.")
    per_second: float = Field(5, ge=0.01, description="Downloads that are started per second on each host.")
    retries: int = Field(3, ge=0, description="How often a download that failed for a passing reason is tried again.")
    backoff: float = Field(
        1, ge=0, description="Seconds to wait before the first retry; each further wait is twice as long."
    )
    longest_wait: float = Field(
        120,
        ge=0,
        description="Longest wait, in seconds, that a host may ask for (Retry-After). A host that asks for more is "
        "left out until the command is run again.",
    )
    timeout: float = Field(60, ge=0.1, description="Seconds that one download may take, including redirects.")
    max_bytes: int = Field(
        32 << 20, ge=1, description="Largest size of a file, in bytes; larger downloads are cut off and refused."
    )
    max_pixels: int = Field(
        50_000_000, ge=1, description="Largest number of pixels; pictures with more are not decoded."
    )
    min_side: int = Field(64, ge=1, description="Shortest side, in pixels; smaller pictures are refused.")
    limit: int | None = Field(None, ge=1, description="Read only the first N rows that have a URL.")
    skip_invalid: bool = Field(False, description="Leave out invalid rows and count them.")
    user_agent: str | None = Field(None, description="User-Agent header that is sent to hosts.")
    allow_port: Annotated[tuple[int, ...], SEVERAL] = Field(
        (), description="Allow this port besides 80, 443, 8080 and 8443; may be repeated."
    )
    allow_private: bool = Field(
        False, description="Also download from this machine and from private networks (intranets)."
    )


class IndexSettings(Settings):
    """`memfix index`: which descriptor is used, how its vectors are stored, and what is computed from them."""

    descriptor: str = Field(
        "pixels",
        description="Descriptor of the pictures: pixels, or a measure that compares descriptors, such as sscd or clip.",
    )
    sscd_weights: str = Field(
        "sscd_disc_mixup", description="Weights of sscd: the name of the authors' weights, or a TorchScript file."
    )
    clip_model: str = Field(
        "ViT-B-32/laion2b_s34b_b79k",
        description="CLIP model: NAME/TAG as in open_clip, or NAME/PATH with a .safetensors checkpoint.",
    )
    trust_weights: bool = Field(False, description="Run a TorchScript file even if its hash is unknown.")
    precision: Precision | None = Field(
        None, description="Precision of the stored vectors; by default float16 for a new index."
    )
    batch_size: int = Field(32, ge=1, description="Pictures that are described at once.")
    workers: int | None = Field(
        None, ge=1, description="Threads that read and decode pictures; by default one per core."
    )
    approximate: Compression | None = Field(
        None, description="Also write an approximate index: sq8 (one byte per number) or pq (64 bytes per vector)."
    )
    recall: float = Field(
        0.95, ge=0, le=1, description="Share of nearest neighbours that the approximate index has to find."
    )
    groups: float | None = Field(
        None,
        ge=-1,
        le=1,
        description="Also list groups of near-copies: pictures that are at least this similar (cosine).",
    )
