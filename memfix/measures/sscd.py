"""SSCD copy detection (Pizzi et al., CVPR 2022, arXiv 2202.10261), and any network exported in its form.

That form: TorchScript, ImageNet-normalised [n, 3, h, w] → [n, d].
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from memfix.errors import MemfixError
from memfix.measures.weights import Weights
from memfix.models.device import device

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
SHORT_SIDE = 288  # the authors' input; they crop nothing
BATCH = 32


class Sscd:
    """Descriptors of pictures, whatever their size; none depends on what it is batched with.

    `side` is the length that the short side is scaled to. `identity` names weights and preprocessing: two descriptors
    compare only if theirs is the same.
    """

    def __init__(self, weights: Weights, name: str = "sscd", side: int = SHORT_SIDE) -> None:
        try:
            with warnings.catch_warnings():  # torch announces the end of TorchScript, in which SSCD is published
                warnings.simplefilter("ignore", FutureWarning)
                network = torch.jit.load(  # type: ignore[no-untyped-call]  # torch leaves load untyped
                    str(weights.path), map_location=device()
                )
        except RuntimeError as error:
            raise MemfixError(
                f"{weights.path} is not TorchScript: {str(error).strip().splitlines()[0]}",
                "Give the file ending in .torchscript.pt that the authors of SSCD publish.",
            ) from None
        self._network = network.eval()
        self.name, self.side = name, side
        self.identity = f"sha256 {weights.sha256}, short side {side}, bilinear, ImageNet mean and std"
        self.dimension = int(self._describe(torch.zeros(1, 3, side, side)).shape[1])

    def __call__(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """[n, dimension] float32 on the CPU, rows of length one."""
        inputs = [self._input(image) for image in images]
        by_shape: dict[torch.Size, list[int]] = {}
        for i, x in enumerate(inputs):
            by_shape.setdefault(x.shape, []).append(i)
        out = torch.empty(len(inputs), self.dimension)
        for places in by_shape.values():
            for start in range(0, len(places), BATCH):
                chosen = places[start : start + BATCH]
                out[chosen] = self._describe(torch.stack([inputs[i] for i in chosen]))
        return out

    def _input(self, image: Image.Image) -> torch.Tensor:
        scale = self.side / min(image.size)
        size = max(self.side, round(image.width * scale)), max(self.side, round(image.height * scale))
        pixels = np.asarray(image.convert("RGB").resize(size, Image.Resampling.BILINEAR), np.float32) / 255
        return ((torch.from_numpy(pixels) - MEAN) / STD).permute(2, 0, 1)

    @torch.no_grad()
    def _describe(self, x: torch.Tensor) -> torch.Tensor:
        return F.normalize(self._network(x.to(device())).float(), dim=1).cpu()
