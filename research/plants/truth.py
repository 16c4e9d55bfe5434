"""Whether a sample is a copy of a planted picture, decided without any measure of memfix.

Structure decides, not colour: the luminance of both pictures is brought to 32x32, and the gradients of the two are
correlated. The planted picture is taken as the model's autoencoder draws it, since no sample can be finer than that.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 32
COPY = 0.8
LUMINANCE = np.array([0.2126, 0.7152, 0.0722])


def gradients(image: Image.Image) -> np.ndarray:
    """Differences of luminance between neighbours, across and down, [2 · 32 · 31], of mean 0 and length 1.

    A picture without any structure gives zeros, and is no copy of anything.
    """
    small = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX)
    light = np.asarray(small, np.float64) @ LUMINANCE
    both = np.concatenate([np.diff(light, axis=1).ravel(), np.diff(light, axis=0).ravel()])
    both -= both.mean()
    length = np.linalg.norm(both)
    return both / length if length > 1e-6 else np.zeros_like(both)


def likeness(samples: Sequence[Image.Image], planted: Sequence[Image.Image]) -> np.ndarray:
    """Correlation of the gradients of each sample and each planted picture, [samples, planted], -1 to 1."""
    return np.stack([gradients(s) for s in samples]) @ np.stack([gradients(p) for p in planted]).T


class GroundTruth:
    """The training pictures of a plant, and which of them a sample copies."""

    def __init__(self, plant: Path) -> None:
        self.facts = json.loads((plant / "truth.json").read_text())
        planted = [file for target in self.facts["planted"] for file in target["files"]]
        rows = [json.loads(line) for line in (plant / "references/metadata.jsonl").read_text().splitlines()]
        self.files = [*planted, *(r["file_name"] for r in rows if r["file_name"] not in planted)]
        self.drawn = {file: Image.open(plant / "drawn" / file).convert("RGB") for file in self.files}
        self._gradients = np.stack([gradients(image) for image in self.drawn.values()])

    @property
    def captions(self) -> list[str]:
        """Of the planted pictures, each once; a picture without a caption has none here."""
        return list(dict.fromkeys(target["caption"] for target in self.facts["planted"] if target["caption"]))

    def planted_under(self, caption: str) -> list[str]:
        """Files of the planted pictures that have a caption."""
        return [file for target in self.facts["planted"] if target["caption"] == caption for file in target["files"]]

    def nearest(self, samples: Sequence[Image.Image]) -> list[tuple[str, float]]:
        """For each sample the training picture that it is most like, and how much."""
        found = np.stack([gradients(s) for s in samples]) @ self._gradients.T
        return [(self.files[i], float(row[i])) for row, i in zip(found, found.argmax(1), strict=True)]

    def copied(self, samples: Sequence[Image.Image]) -> list[bool]:
        """Whether each sample is a copy of a training picture."""
        return [value >= COPY for _, value in self.nearest(samples)]


def diversity(samples: Sequence[Image.Image]) -> float:
    """1 less the mean correlation of two samples: 0 where all are alike, about 1 where they share no structure."""
    found, n = likeness(samples, samples), len(samples)
    return float(1 - (found.sum() - np.trace(found)) / (n * (n - 1)))
