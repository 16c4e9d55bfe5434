"""Whose references are drawn, and that copies are found for it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from memfix.demo import REFERENCES
from memfix.measures.descriptor import Pixels
from memfix.measures.embedding import Embedding
from memfix.measures.pixels import Ssim
from memfix.measures.structure import Structure
from memfix.models import loading
from memfix.records import Reference
from memfix.references.altered import ALTERATIONS
from memfix.references.appearance import AS_DRAWN, Appearance
from memfix.references.in_memory import HeldReferences

FINE = 64


def photograph(seed: int) -> Image.Image:
    """A shape under fine texture that is stronger than it."""
    draw = np.random.default_rng(seed)
    coarse = Image.fromarray(draw.integers(90, 166, (5, 5), np.uint8)).resize((FINE, FINE), Image.Resampling.BICUBIC)
    texture = draw.normal(0, 45, (FINE, FINE, 1))
    return Image.fromarray((np.asarray(coarse)[..., None] + texture).clip(0, 255).repeat(3, 2).astype(np.uint8))


def coarsely(images: Sequence[Image.Image]) -> list[Image.Image]:
    """What an autoencoder makes of pictures that are too fine for it."""
    return [i.resize((12, 12), Image.Resampling.BOX).resize(i.size, Image.Resampling.BICUBIC) for i in images]


@pytest.fixture
def listed(tmp_path: Path) -> list[Reference]:
    for i in range(6):
        photograph(i).save(tmp_path / f"{i}.png")
    return [Reference(file_name=f"{i}.png", path=str(tmp_path / f"{i}.png")) for i in range(6)]


def test_only_a_drawn_reference_shows_that_a_coarse_sample_is_its_copy(listed: list[Reference]) -> None:
    samples = coarsely([photograph(i) for i in range(6)])
    raw = HeldReferences(listed, Ssim(), witnesses=[Structure()]).nearest(samples)
    drawn = HeldReferences(listed, Ssim(), witnesses=[Structure()], draw=coarsely).nearest(samples)
    assert raw.witnesses["structure"][1].max() < Structure.threshold < 0.95 < drawn.witnesses["structure"][1].min()
    assert drawn.witnesses["structure"][0] == [r.file_name for r in listed]
    assert all((raw.values[name] == drawn.values[name]).all() for name in raw.values)  # what decides sees the picture


def test_structure_sees_references_as_drawn_where_it_decides(listed: list[Reference]) -> None:
    samples = coarsely([photograph(i) for i in range(6)])
    found = HeldReferences(listed, Structure(), draw=coarsely).nearest(samples)
    assert found.names == [r.file_name for r in listed] and found.values["structure"].min() > 0.95


@pytest.mark.slow  # the bundled model
def test_a_wide_reference_that_a_model_learned_squeezed_is_not_hidden_by_its_middle(tmp_path: Path) -> None:
    """Two posters side by side, as a square model sees them, and tinted: one is no copy to the deciding measure."""
    files = sorted(REFERENCES.glob("*.png"))[:12]
    for i, pair in enumerate(zip(files[::2], files[1::2], strict=True)):
        wide = Image.new("RGB", (128, 64))
        for x, file in zip((0, 64), pair, strict=True):
            wide.paste(Image.open(file).convert("RGB"), (x, 0))
        wide.save(tmp_path / f"{i}.png")
    listed = [Reference(file_name=f"{i}.png", path=str(tmp_path / f"{i}.png")) for i in range(6)]
    draw = loading.load(loading.locate("demo")).latents.drawn
    learned = [Image.open(r.path).resize((64, 64), Image.Resampling.LANCZOS) for r in listed]
    copies = draw([ALTERATIONS["tinted"](image, i) for i, image in enumerate(learned)])
    found = HeldReferences(listed, Ssim(), witnesses=[Structure()], draw=draw).nearest(copies)
    assert (found.values["ssim"] < Ssim.threshold).any()  # there is something for the witness to dispute
    assert found.witnesses["structure"][0] == [r.file_name for r in listed]
    assert found.witnesses["structure"][1].min() > Structure.threshold


def test_nothing_is_drawn_that_nobody_looks_at() -> None:
    calls = list[int]()

    def draw(images: Sequence[Image.Image]) -> Sequence[Image.Image]:
        calls.append(len(images))
        return images

    pictures = [photograph(0)]
    Appearance({"ssim": Ssim()}, draw=draw).features(pictures)
    assert not calls
    sscd = Embedding(Pixels(), 0.9, 0.1, "test")
    Appearance({"ssim": Ssim(), "pixels": sscd, "structure": Structure()}, [sscd, Structure()], draw).features(pictures)
    assert calls == [1]


def test_what_is_kept_of_drawn_pictures_is_not_taken_for_pictures_as_they_are(
    listed: list[Reference], tmp_path: Path
) -> None:
    HeldReferences(listed, Structure(), draw=coarsely).keep(tmp_path / "kept")
    samples = coarsely([photograph(0)])
    again = HeldReferences(listed, Structure(), described=tmp_path / "kept", draw=None).nearest(samples)
    assert again.values["structure"].max() < Structure.threshold
    same = HeldReferences(listed, Structure(), described=tmp_path / "kept", draw=coarsely).nearest(samples)
    assert same.values["structure"].min() > 0.95


def test_identities_tell_who_sees_drawn_pictures() -> None:
    measures = {"ssim": Ssim(), "structure": Structure()}
    plain, drawn = Appearance(measures).identities, Appearance(measures, draw=coarsely).identities
    assert plain == {name: m.identity for name, m in measures.items()}
    assert drawn == {**plain, "structure": f"{Structure.identity}, {AS_DRAWN}"}
