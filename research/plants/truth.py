"""Whether a sample is a copy of a planted picture, decided without any measure of memfix.

Structure decides, not colour: the luminance of both pictures is brought to 32x32, and the gradients of the two are
correlated. The sample may lie up to two of 64 pixels aside. The planted picture is taken as the model's autoencoder
draws it, since no sample can be finer than that.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

SIDE, ASIDE = 64, 2
COPY = 0.75
LUMINANCE = np.array([0.2126, 0.7152, 0.0722])


def gradients(image: Image.Image, aside: int = 0) -> np.ndarray:
    """Differences of luminance between neighbours at 32x32, across and down, of mean 0 and length 1.

    [n, 2 · 32 · 31], a row for each way of moving the picture by up to `aside` of 64 pixels. A picture without any
    structure gives zeros, and is no copy of anything.
    """
    whole = np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX), np.float64) @ LUMINANCE
    padded, steps = np.pad(whole, aside, mode="edge"), range(2 * aside + 1)
    moved = np.stack([padded[y : y + SIDE, x : x + SIDE] for y in steps for x in steps])
    light = moved.reshape(len(moved), SIDE // 2, 2, SIDE // 2, 2).mean((2, 4))
    both = np.concatenate([np.diff(light, axis=a).reshape(len(moved), -1) for a in (2, 1)], axis=1)
    both -= both.mean(1, keepdims=True)
    length = np.linalg.norm(both, axis=1, keepdims=True)
    return np.asarray(np.divide(both, length, out=np.zeros_like(both), where=length > 1e-6))


def likeness(samples: Sequence[Image.Image], planted: Sequence[Image.Image]) -> np.ndarray:
    """The highest correlation of each sample's gradients with those of each planted picture, [samples, planted]."""
    wanted = np.concatenate([gradients(image) for image in planted]).T
    return np.stack([(gradients(sample, ASIDE) @ wanted).max(0) for sample in samples])


class GroundTruth:
    """The training pictures of a plant, and which of them a sample copies."""

    def __init__(self, plant: Path) -> None:
        self.facts = json.loads((plant / "truth.json").read_text())
        planted = [file for target in self.facts["planted"] for file in target["files"]]
        rows = [json.loads(line) for line in (plant / "references/metadata.jsonl").read_text().splitlines()]
        self.files = [*planted, *(r["file_name"] for r in rows if r["file_name"] not in planted)]
        self.drawn = {file: Image.open(plant / "drawn" / file).convert("RGB") for file in self.files}

    @property
    def captions(self) -> list[str]:
        """Of the planted pictures, each once; a picture without a caption has none here."""
        return list(dict.fromkeys(target["caption"] for target in self.facts["planted"] if target["caption"]))

    def planted_under(self, caption: str) -> list[str]:
        """Files of the planted pictures that have a caption."""
        return [file for target in self.facts["planted"] if target["caption"] == caption for file in target["files"]]

    def nearest(self, samples: Sequence[Image.Image]) -> list[tuple[str, float]]:
        """For each sample the training picture that it is most like, and how much."""
        if not samples:
            return []
        found = likeness(samples, list(self.drawn.values()))
        return [(self.files[i], float(row[i])) for row, i in zip(found, found.argmax(1), strict=True)]

    def copied(self, samples: Sequence[Image.Image]) -> list[bool]:
        """Whether each sample is a copy of a training picture."""
        return [value >= COPY for _, value in self.nearest(samples)]


def diversity(samples: Sequence[Image.Image]) -> float:
    """1 less the mean correlation of two samples: 0 where all are alike, about 1 where they share no structure."""
    found, n = likeness(samples, samples), len(samples)
    return float(1 - (found.sum() - np.trace(found)) / (n * (n - 1)))
