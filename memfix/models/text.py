"""Text embeddings, each text encoded once."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from diffusers import StableDiffusionPipeline

BATCH = 32


class TextCache:
    """Embeddings [tokens, width] by text, kept on the CPU."""

    def __init__(self, pipe: StableDiffusionPipeline) -> None:
        self._pipe = pipe
        self._known: dict[str, torch.Tensor] = {}

    @torch.no_grad()
    def add(self, texts: Iterable[str]) -> None:
        """Encode those not known yet."""
        new = [t for t in dict.fromkeys(texts) if t not in self._known]
        for i in range(0, len(new), BATCH):
            batch = new[i : i + BATCH]
            embeds, _ = self._pipe.encode_prompt(
                batch, self._pipe.device, num_images_per_prompt=1, do_classifier_free_guidance=False
            )
            self._known.update(zip(batch, embeds.float().cpu(), strict=True))

    def __getitem__(self, text: str) -> torch.Tensor:
        return self._known[text]

    def stack(self, texts: Iterable[str]) -> torch.Tensor:
        """[n, tokens, width] on the pipeline's device."""
        return torch.stack([self._known[t] for t in texts]).to(self._pipe.device)
