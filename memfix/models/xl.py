"""Stable Diffusion XL: two text encoders, and a denoiser that is also told what became of a picture before training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from diffusers import StableDiffusionXLImg2ImgPipeline, StableDiffusionXLPipeline
from PIL import Image

from memfix.errors import MemfixError
from memfix.models.conditioning import Conditioning
from memfix.models.latents import LatentSpace, covered
from memfix.models.model import DiffusionModel
from memfix.models.text import TextReader

NEEDED = ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")


class XLReader(TextReader):
    """Texts as two encoders read them, for pictures in the model's own size that nothing was cut off."""

    pools = True

    def __init__(self, pipe: StableDiffusionXLPipeline, latents: LatentSpace) -> None:
        super().__init__(pipe)
        self._latents = latents

    def _encode(self, texts: Sequence[str | None]) -> Conditioning:
        """On the CPU. No prompt is told by zeros if the model's index says so (force_zeros_for_empty_prompt); an empty
        one is read like any other text, as by the pipeline itself."""
        told = self._read([text or "" for text in texts])
        if self._pipe.config.force_zeros_for_empty_prompt:
            worded = torch.tensor([text is not None for text in texts])
            nothing = Conditioning(*(torch.zeros_like(part) for part in told.parts()))
            told = replace(told.where(worded, nothing), time_ids=told.time_ids)
        return told

    def _read(self, texts: Sequence[str], skipped: int | None = None) -> Conditioning:
        """On the CPU; `skipped` as in `encode_early`."""
        tokens, _, pooled, _ = self._pipe.encode_prompt(
            list(texts), device=self._pipe.device, num_images_per_prompt=1, do_classifier_free_guidance=False,
            clip_skip=skipped,
        )  # fmt: skip
        height, width = self._latents.picture_size
        own = torch.tensor([[height, width, 0, 0, height, width]], dtype=torch.float32)
        return Conditioning(tokens.float().cpu(), pooled.float().cpu(), own.repeat(len(tokens), 1))

    @torch.no_grad()
    def encode_early(self, text: str, skipped: int) -> Conditioning | None:
        """What the denoiser is told of a text by both encoders without their last layers, one row; None if one of them
        has no more layers than these. The last layer is left out anyway, and the pooled embedding stays the same."""
        encoders = (self._pipe.text_encoder, self._pipe.text_encoder_2)
        if any(skipped >= encoder.config.num_hidden_layers for encoder in encoders):
            return None
        return self._read([text], skipped).to(self._pipe.device)

    def cut_tokens(self, text: str) -> int:
        """How many tokens of a text no encoder sees, or only one of them."""
        return max(self._cut(tokenizer, text) for tokenizer in (self._pipe.tokenizer, self._pipe.tokenizer_2))


class XLModel(DiffusionModel):
    """A model with two text encoders, whose pictures come with sizes and crops."""

    def __init__(self, pipe: StableDiffusionXLPipeline) -> None:
        if missing := [part for part in NEEDED if getattr(pipe, part) is None]:
            raise MemfixError(
                f"The model has no {missing[0]}, as the refiner of Stable Diffusion XL, which is not supported.",
                "Give a base model of Stable Diffusion XL.",
            )
        if pipe.vae.config.get("latents_mean") is not None:
            raise MemfixError(
                "The model's latents are shifted by a mean of their own (latents_mean of its VAE), as those of "
                "Playground 2.5 are, which is not supported so far.",
                "Give a model with the VAE of Stable Diffusion XL.",
            )
        super().__init__(pipe)
        pipe.watermark = None  # which would change every picture where the package for it is installed
        self.latents = LatentSpace(pipe, full_precision=bool(pipe.vae.config.force_upcast))
        self.text = XLReader(pipe, self.latents)

    def frames(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """What the denoiser is told of pictures that are fitted into its size: [n, 6].

        Height and width of the picture; rows and columns that are cut off at its top and left, once it has the size
        that it is cut in; height and width of what is left.
        """
        height, width = self.latents.picture_size
        return torch.tensor([_frame(image, height, width) for image in images], dtype=torch.float32).reshape(-1, 6)

    def _framed(self, told: Conditioning) -> dict[str, Any]:
        """Raises ValueError for rows that differ in it, which a pipeline cannot draw together."""
        if told.time_ids is None or not (told.time_ids == told.time_ids[:1]).all():
            raise ValueError("all pictures of a batch are told of one size and crop")
        height, width, top, left, high, wide = (int(number) for number in told.time_ids[0])
        sizes = {"original_size": (height, width), "target_size": (high, wide)}
        return {**sizes, "crops_coords_top_left": (top, left)}

    def _start(self, images: Sequence[Image.Image]) -> Any:
        """As latents, encoded here: under autocast to half precision the autoencoder would overflow."""
        return torch.stack(list(self.latents.encode(images))).to(self.device)

    def _img2img(self) -> Any:
        return StableDiffusionXLImg2ImgPipeline(
            **self._pipe.components, add_watermarker=False,
            force_zeros_for_empty_prompt=self._pipe.config.force_zeros_for_empty_prompt,
        )  # fmt: skip


def _frame(image: Image.Image, height: int, width: int) -> tuple[int, ...]:
    high, wide = covered(image, height, width)
    return image.height, image.width, (high - height) // 2, (wide - width) // 2, height, width
