"""One object for a model. Outside this folder nothing knows what it is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionPipeline
from PIL import Image
from torch import nn

from memfix.models.adapters import Adapters
from memfix.models.conditioning import Conditioning
from memfix.models.context import ContextEdit, taken_off
from memfix.models.course import Course, sampler
from memfix.models.denoiser import Denoiser
from memfix.models.device import autocast
from memfix.models.distilled import (
    FEW_STEPS,
    SLIGHT_GUIDANCE,
    hardly_drawn,
    lora_sampling,
    own_sampling,
    usual_sampling,
)
from memfix.models.finite import require_finite, require_finite_weights
from memfix.models.latents import LatentSpace, generators
from memfix.models.probe import EPSILON, V, asked_prediction
from memfix.models.room import Room
from memfix.models.samplers import other_sampler
from memfix.models.schedule import NoiseSchedule
from memfix.models.text import TextReader
from memfix.records import Condition, Sample

Instead = Mapping[tuple[str, Condition], Conditioning]


class DiffusionModel:
    """A model that draws pictures of texts: its parts, and how it samples.

    text: text → what the denoiser is told of it.  latents: picture → latents; their shape; noise.
    denoiser: noisy latents → prediction; the weights that are trained.  adapters: LoRAs on top of it.
    schedule: the noise that it was trained on, and what its predictions mean.
    remarks: what users are to know of how it was loaded.
    """

    def __init__(self, pipe: StableDiffusionPipeline) -> None:
        self._pipe = pipe
        self.schedule = NoiseSchedule(pipe.scheduler)
        self.text = TextReader(pipe)
        self.latents = LatentSpace(pipe)
        self.denoiser = Denoiser(pipe)
        self.adapters = Adapters(pipe)
        self.remarks = list[str]()
        self._room = Room()
        self._away: torch.device | None = None

    @property
    def device(self) -> torch.device:
        """Where all of it computes."""
        return torch.device(self._pipe.device)

    @property
    def loaded_by(self) -> str:
        """Name of the class of diffusers that loads it: a row of `loading.FAMILIES`, or a subclass of one."""
        return type(self._pipe).__name__

    def doubt(self) -> str:
        """Why it may not predict what its scheduler says; empty where nothing speaks for that.

        Untrained networks are told from those of ε and of v, but the latter only by one answer, which is why this is
        no error.
        """
        said, asked = self.schedule.prediction_type, self.asked_prediction()
        if asked == said:
            return ""
        kind = f"as one of '{asked}' does" if asked else f"neither as one of '{EPSILON}' nor as one of '{V}' does"
        return (
            f"The scheduler says that the model predicts '{said}' (prediction_type), but it answers noise {kind}"
            f"{'' if asked else ', as damaged and untrained networks do'}. If it is so, all samples are noise, and no "
            "copy is found in them."
        )

    def asked_prediction(self) -> str | None:
        """What its network predicts by its answers to noise; see `probe`."""
        with self.denoiser.as_held():
            return asked_prediction(self._pipe, self.text.encode([None]))

    def ill_sampled(self, name: str, steps: int, guidance: float, adapters: Iterable[Path] = ()) -> str:
        """Why samples of these steps and guidance are not what its users see; empty where nothing speaks for that.

        adapters: LoRAs that are a part of it, by which it may be distilled as well.
        """
        kinds = [(name, own_sampling(self._pipe, name)), *((str(path), lora_sampling(path)) for path in adapters)]
        what, kind = next(((what, kind) for what, kind in kinds if kind), (name, None))
        if kind is None:
            return hardly_drawn(steps, guidance, usual_sampling(self._pipe, name))
        if steps <= FEW_STEPS and guidance <= SLIGHT_GUIDANCE:
            return ""
        return (
            f"{what} looks like a model or a LoRA that was distilled to be sampled in few steps ({kind.word}). With "
            f"{steps} steps and guidance {guidance:g} it does not draw what its users see, and copies may be missed. "
            f"Give --num-inference-steps {kind.steps} --guidance-scale {kind.guidance:g}, or what its makers say."
        )

    def frames(self, images: Sequence[Image.Image]) -> torch.Tensor | None:
        """What the denoiser is told of pictures beside their texts, as `Conditioning.time_ids`; None if it is not."""
        return None

    def modules(self) -> list[nn.Module]:
        """All of its networks."""
        return list(self._parts.values())

    def count_weights(self) -> int:
        """How many numbers all of its weights are, adapters included."""
        return sum(p.numel() for module in self._parts.values() for p in module.parameters())

    def count_bytes(self, halves: bool) -> int:
        """Bytes of all of its weights as they are sampled, those of the denoiser in `halves` where these are held."""
        denoiser = sum(p.numel() for p in self.denoiser.module.parameters())
        return 4 * (self.count_weights() - denoiser) + self.denoiser.count_bytes(halves)

    def prepare_training(self, weights: str, rank: int, seed: int, dora: bool) -> None:
        """Get the denoiser ready to be trained: all of it ("full"), or a fresh adapter ("lora")."""
        if weights == "full":
            self.denoiser.module.requires_grad_(True)
        else:
            self.adapters.add(rank, seed, dora)
        self.denoiser.module.train()

    @contextmanager
    def denoiser_alone(self) -> Iterator[None]:
        """The model for a while with all but its denoiser off the GPU, and only that may be asked; see `together`."""
        self._away = None if self.device.type == "cpu" else self.device
        self._move_others("cpu")
        try:
            yield
        finally:
            self._move_others(self._away)
            self._away = None

    @contextmanager
    def together(self) -> Iterator[None]:
        """All of the model where its denoiser is, for a while, whatever else is so."""
        away, self._away = self._away, None
        self._move_others(away)
        try:
            yield
        finally:
            if away is not None:
                self._away = away
                self._move_others("cpu")

    def _move_others(self, place: torch.device | str | None) -> None:
        """All but the denoiser, if there is a place."""
        for part in self._parts.values() if place is not None else ():
            if part is not self.denoiser.module:
                part.to(place)

    @contextmanager
    def without(self, edit: ContextEdit) -> Iterator[None]:
        """The model for a while as it is without an edit that is built into it."""
        with self.denoiser.in_full(), taken_off(self.denoiser.module, edit):
            yield

    def sampled_by(self, name: str) -> AbstractContextManager[None]:
        """The model for a while with another sampler: a row of `samplers.SAMPLERS`."""
        return other_sampler(self._pipe, name)

    def save(self, folder: Path) -> None:
        """Write all of it, as `loading.load` reads it."""
        self._pipe.save_pretrained(folder)

    def timesteps(self, steps: int) -> list[float]:
        """The times of its own sampler, from noise to pictures."""
        return [float(t) for t in sampler(self._pipe, steps).timesteps]

    def course(self, seeds: Sequence[int], steps: int) -> Course:
        """The steps of its own sampler from the noise of each seed, to be taken one by one."""
        return Course(self._pipe, seeds, steps)

    @torch.no_grad()
    def sample(
        self, batch: Sequence[Sample], mixed_precision: str, instead: Instead | None = None
    ) -> list[Image.Image]:
        """Sample one batch. All its samples share steps and guidance; each starts from its own seed's noise.

        instead: (prompt id, condition) → one row that takes the place of what the denoiser is told of the text.
        """
        height, width = self.latents.picture_size

        def drawn(part: slice) -> torch.Tensor:
            told = self._told(batch[part], instead or {})
            latents: torch.Tensor = self._pipe(height=height, width=width, **told).images
            return latents

        return self._drawn(drawn, len(batch), mixed_precision)

    @torch.no_grad()
    def sample_from(
        self, images: Sequence[Image.Image], batch: Sequence[Sample], strength: float, mixed_precision: str
    ) -> list[Image.Image]:
        """Sample one batch from pictures that are noised up to `strength`, the share of the steps that is then taken.

        The start is the noisy picture, as in SDEdit (Meng et al., ICLR 2022).
        """
        start, img2img = self._start(images), self._from_pictures()

        def drawn(part: slice) -> torch.Tensor:
            told = self._told(batch[part], {})
            latents: torch.Tensor = img2img(image=start[part], strength=strength, **told).images
            return latents

        return self._drawn(drawn, len(batch), mixed_precision)

    def _drawn(self, draw: Callable[[slice], torch.Tensor], n: int, mixed_precision: str) -> list[Image.Image]:
        """Pictures of latents, [n, C, h, w], in parts if memory does not hold all at once. Raises MemfixError where
        either are not numbers."""

        def drawn() -> list[Image.Image]:
            pictures = list[Image.Image]()
            with autocast(mixed_precision):
                for part in self._room.parts(n):
                    latents = draw(part)
                    require_finite(latents, self._parts, partial(draw, part))
                    pictures += self.latents.decode(latents)
            return pictures

        return self._room.fit(drawn, n)

    def _framed(self, told: Conditioning) -> dict[str, Any]:
        """What a pipeline is called with so that it tells the denoiser of sizes and crops; nothing if it does not."""
        return {}

    def _start(self, images: Sequence[Image.Image]) -> Any:
        """Pictures as a pipeline that starts from some takes them."""
        return [self.latents.fit(image) for image in images]

    def _from_pictures(self) -> Any:
        """The same parts as a pipeline that starts from pictures.

        When it is made, diffusers compares `sample_size` with a number, which a pair cannot be; the pictures have their
        size anyway.
        """
        unet = self._pipe.unet
        size = unet.config.sample_size
        unet.register_to_config(sample_size=size if isinstance(size, int) else min(size))
        img2img = self._img2img()
        unet.register_to_config(sample_size=size)
        img2img.set_progress_bar_config(disable=True)
        return img2img

    def _img2img(self) -> Any:
        """A pipeline of this family that starts from pictures."""
        return StableDiffusionImg2ImgPipeline(**self._pipe.components, requires_safety_checker=False)

    def require_finite_weights(self, name: str) -> None:
        """Raise MemfixError if a weight is not a number; `name` is what the weights are called."""
        require_finite_weights(self._parts, name)

    @property
    def _parts(self) -> dict[str, nn.Module]:
        return {name: part for name, part in self._pipe.components.items() if isinstance(part, nn.Module)}

    def _told(self, batch: Sequence[Sample], instead: Instead) -> dict[str, Any]:
        """What a pipeline is called with, whatever it starts from."""
        rows = self.text.keep([*(s.text for s in batch), None])
        own = [instead.get((s.prompt_id, s.condition)) or rows.stack([s.text]) for s in batch]
        told, without = Conditioning.cat([row.to(self.device) for row in own]), rows.stack([None] * len(batch))
        whole = {"pooled_prompt_embeds": told.pooled, "negative_pooled_prompt_embeds": without.pooled}
        return {
            "prompt_embeds": told.tokens,
            "negative_prompt_embeds": without.tokens,
            **(whole if told.pooled is not None else {}),
            **self._framed(told),
            "generator": generators([s.seed for s in batch]),
            "num_inference_steps": batch[0].steps,
            "guidance_scale": batch[0].guidance,
            "output_type": "latent",
        }
