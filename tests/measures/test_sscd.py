"""Descriptors from TorchScript, in SSCD's form: a small network with that interface, exported as theirs is."""

import random
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torchvision import transforms

from memfix.demo import REFERENCES
from memfix.errors import MemfixError
from memfix.measures import get_measure
from memfix.measures.copy_rule import CopyRule
from memfix.measures.embedding import Embedding
from memfix.measures.sscd import Sscd
from memfix.measures.weights import Wanted, obtain
from memfix.records import Reference, Sample
from memfix.references.in_memory import HeldReferences
from memfix.references.judge import Judge
from tests.conftest import picture


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 5, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x).relu().pow(3).mean((2, 3)).pow(1 / 3)  # not yet of length one


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "net.torchscript.pt"
    torch.jit.script(Net()).save(str(path))
    return path


@pytest.fixture
def sscd(file: Path) -> Sscd:
    return Sscd(obtain(str(file), trust=True))


def test_the_authors_preprocessing(file: Path, sscd: Sscd) -> None:
    """Against torchvision's transforms, as the authors' page gives them: short side 288, ImageNet mean and std."""
    image = picture(1, 640).crop((0, 0, 640, 427))
    theirs = transforms.Compose(
        [
            transforms.Resize(288),
            transforms.ToTensor(),
            transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
        ]
    )
    wanted = F.normalize(torch.jit.load(str(file))(theirs(image)[None]), dim=1)
    torch.testing.assert_close(sscd([image]), wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("width", "height", "wanted"), [(640, 427, (431, 288)), (427, 640, (288, 431))])
def test_the_long_side_is_cut_off_as_torchvision_does(
    sscd: Sscd, width: int, height: int, wanted: tuple[int, int]
) -> None:
    """288 · 640 / 427 is 431.66."""
    assert sscd.input_size(width, height) == wanted


def test_every_size_is_that_of_torchvision(sscd: Sscd) -> None:
    draw = random.Random(0)
    sizes = [(1, 1), (288, 288), (80, 53), *((draw.randint(20, 800), draw.randint(20, 800)) for _ in range(60))]
    for size in sizes:
        assert sscd.input_size(*size) == transforms.functional.resize(Image.new("L", size), 288).size


def test_no_descriptor_depends_on_its_batch(sscd: Sscd) -> None:
    images: list[Image.Image] = [picture(i, 64 + 16 * (i % 3)) for i in range(40)]
    images[5] = images[5].resize((100, 64))
    together = sscd(images)
    alone = torch.cat([sscd([image]) for image in images])
    assert together.shape == (40, 8)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(together.norm(dim=1), torch.ones(40))


def test_as_a_measure(sscd: Sscd) -> None:
    measure = Embedding(sscd, 0.75, 0.1, "test")
    a, b = measure.features([picture(1), picture(2)]), measure.features([picture(2), picture(3)])
    table = measure.compare(a, b)
    assert table[1, 0] == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(measure.pair(a, b), table.diagonal())


def test_identity_names_weights_and_preprocessing(file: Path, sscd: Sscd) -> None:
    weights = obtain(str(file), trust=True)
    assert weights.sha256 in sscd.identity
    assert Sscd(weights, side=64).identity != sscd.identity


def test_what_is_no_program_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    path.write_bytes(b"nothing")
    with pytest.raises(MemfixError, match="not a TorchScript file"):
        Sscd(obtain(str(path), trust=True))


class Pair(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x.mean((2, 3)), x


class Whole(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :, :5, :5]


class Rounded(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3)).long()


class Fixed(nn.Module):
    """Takes pictures of one size only."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.linear = nn.Linear(3 * side * side, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x.flatten(1))


class Inputs(nn.Module):
    def forward(self, x: torch.Tensor, scale: float) -> torch.Tensor:
        return x.mean((2, 3)) * scale


def saved(network: nn.Module, path: Path) -> str:
    torch.jit.save(torch.jit.script(network), str(path))
    return str(path)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Pair(), "gives a tuple"),
        (Whole(), r"gives a float32 tensor \[1, 3, 5, 5\]"),
        (Rounded(), r"gives a int64 tensor \[1, 3\]"),
        (Fixed(64), "fails on a tensor"),
        (Inputs(), "fails on a tensor"),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, nn.Module) else "",
)
def test_a_program_of_another_form_is_an_error(network: nn.Module, message: str, tmp_path: Path) -> None:
    path = saved(network, tmp_path / "other.pt")
    with pytest.raises(MemfixError, match=message) as caught:
        Sscd(obtain(path, trust=True))
    assert path in caught.value.message
    assert "[n, 3, h, w]" in caught.value.hint and "[n, d]" in caught.value.hint


def test_a_program_that_fails_only_on_another_shape_is_an_error(tmp_path: Path) -> None:
    sscd = Sscd(obtain(saved(Fixed(64), tmp_path / "fixed.pt"), trust=True), side=64)
    assert sscd([picture(1)]).shape == (1, 4)
    with pytest.raises(MemfixError, match=r"fails on a tensor \[1, 3, 64, 128\]"):
        sscd([picture(1, 128).crop((0, 0, 128, 64))])


def test_the_nearest_reference_is_the_one_nearest_by_sscd(file: Path, sscd: Sscd, tmp_path: Path) -> None:
    references = []
    for i in range(6):
        picture(i).save(tmp_path / f"{i}.png")
        references.append(Reference(file_name=f"{i}.png", path=str(tmp_path / f"{i}.png")))
    measure = get_measure("sscd", Wanted(sscd=str(file), trust=True))
    gallery = HeldReferences(references, measure)
    images = [picture(3), picture(17)]
    samples = [Sample(file_name=f"{i}.png", text="", prompt_id="p", seed=i, steps=1, guidance=1) for i in range(2)]
    copy, other = Judge(gallery, CopyRule.default(measure)).score(samples, images)
    table = sscd(images) @ sscd([picture(i) for i in range(6)]).T
    assert copy.reference == "3.png" and copy.copy_
    assert other.reference == f"{int(table[1].argmax())}.png"
    assert other.measures["sscd"] == pytest.approx(float(table[1].max()), abs=1e-4)
    assert set(copy.measures) == {"sscd", "ssim", "tiled_l2"}


def test_clip_does_not_say_what_a_copy_is() -> None:
    with pytest.raises(MemfixError, match="not whether it is a copy"):
        get_measure("clip")


def test_the_bundled_descriptor_tells_changed_copies_from_other_posters() -> None:
    measure = get_measure("sscd", Wanted(sscd="demo"))
    posters = [Image.open(path) for path in sorted(REFERENCES.glob("poster-*.png"))[:60]]
    mirrored = [p.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for p in posters]
    cropped = [p.crop((5, 5, 60, 60)).resize((48, 48)) for p in posters]
    plain = measure.features(posters)
    others = measure.compare(plain, plain).fill_diagonal_(-1).amax(1)
    assert (others >= measure.threshold).sum() <= 1
    for changed in (mirrored, cropped):
        assert (measure.pair(measure.features(changed), plain) >= measure.threshold).float().mean() >= 0.95
