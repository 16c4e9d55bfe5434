"""Models and LoRAs that were distilled to sample in few steps and without guidance, told by name and sampler."""

from __future__ import annotations

import inspect
import re
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from memfix.config.layers import read_config
from memfix.demo import DEMO, SETTINGS
from memfix.errors import MemfixError
from memfix.models import lora

FEW_STEPS, SLIGHT_GUIDANCE = 12, 2.0
"""More than that is not what such a model was made for."""

ORDINARY_STEPS = 4
"""In fewer, a model that was not distilled draws hardly anything."""


class Distillation(NamedTuple):
    """A kind of it, by the word that its models have in their names, and what they are sampled with."""

    word: str
    sampler: str | None
    steps: int
    guidance: float


DISTILLATIONS = (
    Distillation("turbo", None, 4, 1.0), Distillation("lightning", None, 4, 1.0),
    Distillation("lcm", "LCMScheduler", 4, 1.0), Distillation("hyper", "TCDScheduler", 8, 1.0),
    Distillation("tcd", "TCDScheduler", 4, 1.0), Distillation("dmd", "LCMScheduler", 4, 1.0),
    Distillation("pcm", None, 4, 1.0), Distillation("turbovisionxl", None, 4, 1.0),
)  # fmt: skip
TITLES = ("modelspec.title", "ss_output_name")
"""In the metadata of a file, as kohya's scripts write them: what it was called as it was trained."""
CAMEL_CASE, CAPITALS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+"), re.compile(r"[A-Z]{2,}")
"""The words of `dreamshaperXL_v21TurboDPMSDE`, as sharing sites name files, and of `LCMlora`."""
CACHED = "models--"  # begins the folder of a repository in the hub's cache, snapshots/REVISION/FILE below it


def own_sampling(pipe: Any, name: str) -> Distillation | None:
    """How a model is distilled, as the last part of its name or its sampler says; None where neither does."""
    sampler = type(pipe.scheduler).__name__
    return next((kind for kind in DISTILLATIONS if kind.sampler == sampler), None) or _told(PurePath(name).name)


def lora_sampling(given: Path) -> Distillation | None:
    """How a LoRA is distilled, as its file, the folder of one that is called as all are, or its metadata says."""
    file = lora.file_of(given)
    with lora.opened_lora(file) as opened:
        metadata = opened.metadata() or {}
    cached = next((folder.name for folder in file.absolute().parents if folder.name.startswith(CACHED)), "")
    names = [file.parent.name if file.name in (lora.FILE, lora.OF_PEFT) else file.stem, cached]
    told = map(_told, [*names, *(metadata.get(title, "") for title in TITLES)])
    return next(filter(None, told), None)


def _told(name: str) -> Distillation | None:
    parted = [*re.split(r"[^a-z]+", name.lower()), *(word.lower() for word in CAMEL_CASE.findall(name))]
    words = {*parted, *(run.lower() for run in CAPITALS.findall(name))}
    return next((kind for kind in DISTILLATIONS if kind.word in words), None)


class UsualSampling(NamedTuple):
    """What a model that was not distilled is sampled with."""

    steps: int
    guidance: float


def usual_sampling(pipe: Any, name: str) -> UsualSampling:
    """What the bundled model is sampled with by its own settings, and any other one where diffusers is told nothing."""
    if name == DEMO and not Path(name).exists():
        own = read_config(SETTINGS)["detect"]
        return UsualSampling(own["num_inference_steps"], own["guidance_scale"])
    taken = inspect.signature(type(pipe).__call__).parameters
    return UsualSampling(taken["num_inference_steps"].default, taken["guidance_scale"].default)


def hardly_drawn(steps: int, guidance: float, usual: UsualSampling) -> str:
    """Why samples of a model that was not distilled are not what its users see; empty where nothing speaks for that."""
    few, unguided = steps < ORDINARY_STEPS, guidance <= 1
    if not few and not unguided:
        return ""
    drawn = f"in {steps} step{'s' * (steps > 1)}" * few + " and " * (few and unguided) + "without guidance" * unguided
    return (
        f"Samples are drawn {drawn}, as hardly anyone samples such a model: copies that its users see may be missed. "
        f"Give --num-inference-steps {usual.steps} --guidance-scale {usual.guidance:g}, or what its users take."
    )


def require_plain_guidance(pipe: Any, name: str) -> None:
    """Raise MemfixError for a network that is told the guidance as a number: training would leave it out."""
    if pipe.unet.config.get("time_cond_proj_dim") is not None:
        raise MemfixError(
            f"The network of {name} is told the guidance itself (time_cond_proj_dim), as models of latent consistency "
            "(LCM) are, which is not supported so far.",
            "Give the model that it was distilled from.",
        )
