"""CLIP through open_clip: what a picture is of. It finds candidates and says whether a picture fits its prompt.

No criterion for copies: two photographs of the same kind of scene are alike to CLIP.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from PIL import Image
from safetensors import SafetensorError

from memfix.errors import MemfixError
from memfix.models.device import device

BATCH = 64


class Clip:
    """Descriptors of pictures and of texts in one space. `model` is open_clip's NAME/TAG, or NAME/PATH of a checkpoint.

    Checkpoints must be safetensors; open_clip's own tags come as such from the hub.
    """

    name = "clip"

    def __init__(self, model: str) -> None:
        import open_clip

        name, _, tag = model.partition("/")
        if name not in open_clip.list_models():
            raise MemfixError(f"open_clip knows no model {name}.", "Write NAME/TAG, as in ViT-B-32/laion2b_s34b_b79k.")
        if tag.endswith((".pt", ".pth", ".bin", ".ckpt")):
            raise MemfixError(f"{tag} is a pickle, and those are not loaded.", "Give a .safetensors checkpoint.")
        try:
            self._network, _, self._transform = open_clip.create_model_and_transforms(
                name, pretrained=tag or None, device=device()
            )
        except (OSError, RuntimeError, ValueError, SafetensorError) as error:
            raise MemfixError(
                f"CLIP model {model} cannot be loaded: {str(error).strip().splitlines()[0]}",
                "Check the tag with open_clip.list_pretrained(), or give NAME/PATH of a checkpoint.",
            ) from None
        self._network.eval()
        self._tokenizer = open_clip.get_tokenizer(name)
        self.identity = f"open_clip {model}"
        self.dimension = int(self.texts([""]).shape[1])

    @torch.no_grad()
    def __call__(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """[n, dimension] float32 on the CPU, rows of length one."""
        parts = []
        for start in range(0, len(images), BATCH):
            batch = torch.stack([self._transform(image.convert("RGB")) for image in images[start : start + BATCH]])
            parts.append(F.normalize(self._network.encode_image(batch.to(device())).float(), dim=1).cpu())
        return torch.cat(parts) if parts else torch.empty(0, self.dimension)

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> torch.Tensor:
        """[n, dimension] of texts: the cosine with a picture says how well it fits."""
        tokens = self._tokenizer(list(texts)).to(device())
        return F.normalize(self._network.encode_text(tokens).float(), dim=1).cpu()
