"""Pictures of the user's own."""

from pathlib import Path

import pytest
from PIL import Image

from memfix.console import Talk
from memfix.measures.copy_rule import CopyRule
from memfix.measures.pixels import Ssim
from memfix.records import Pair, Reference, Side
from memfix.references.in_memory import HeldReferences
from memfix.references.judge import Judge
from memfix.unlearn.data.given import given_surrogates, given_to_keep
from tests.conftest import picture


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(4):
        picture(i).save(tmp_path / f"{i}.png")
    return tmp_path


def reference(folder: Path, number: int, text: str = "", name: str = "") -> Reference:
    return Reference(file_name=name or f"{number}.png", path=str(folder / f"{number}.png"), text=text)


def forget(folder: Path, number: int, prompt: str) -> Pair:
    return Pair(
        side=Side.FORGET, path=str(folder / f"{number}.png"), text=f"text of {prompt}", prompt_id=prompt,
        origin="reference", reference=f"all/{number}.png",
    )  # fmt: skip


def test_pictures_are_kept_under_their_captions(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = [
        forget(folder, 0, "p1"),
        Pair(side=Side.KEEP, path="x.png", text="a control", prompt_id="c1", origin="control"),
    ]
    given = [
        reference(folder, 1, "text of p1"), reference(folder, 1, "a control"), reference(folder, 2, "another"),
        reference(folder, 3, "another"), reference(folder, 2), reference(folder, 0, "another"),
    ]  # fmt: skip
    every = [reference(folder, i) for i in range(4)]  # all of them are training images
    judge = Judge(HeldReferences(every, Ssim()), CopyRule.default(Ssim()))
    kept = given_to_keep(pairs, given, judge, 0.0, Talk())
    assert [(Path(p.path).name, p.text) for p in kept] == [
        ("1.png", "text of p1"), ("1.png", "a control"), ("2.png", "another"), ("3.png", "another"), ("2.png", ""),
    ]  # fmt: skip
    assert {(p.side, p.origin) for p in kept} == {(Side.KEEP, "given")}
    ids = [p.prompt_id for p in kept]
    assert ids[:2] == ["p1", "c1"]
    assert ids[2] == ids[3] != ids[4]
    assert not {*ids[2:]} & {"p1", "c1"}
    told = "".join(capsys.readouterr().err.split())  # lines end where the path's length has them end
    assert "0.pngisnotkept" in told
    assert told.count("notkept") == 1


def test_surrogates_are_found_by_name(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = forget(folder, 0, "p1").model_copy(update={"origin": "sample", "path": "sample.png"})
    pairs = [forget(folder, 0, "p1"), copy, forget(folder, 1, "p2")]
    Image.open(folder / "2.png").save(folder / "new.jpg")
    given = [
        Reference(file_name="all/0.jpg", path=str(folder / "new.jpg")), reference(folder, 3, name="elsewhere/1.png"),
    ]  # fmt: skip
    judge = Judge(HeldReferences([reference(folder, i) for i in (0, 1)], Ssim()), CopyRule.default(Ssim()))
    found = given_surrogates(pairs, given, judge, Talk())
    assert [p.surrogate for p in found] == [str(folder / "new.jpg")] * 2 + [None]
    assert capsys.readouterr().err == ""
    given_surrogates(pairs, [reference(folder, 1, name="all/0.png")], judge, Talk())
    assert "is itself a copy of 1.png" in " ".join(capsys.readouterr().err.split())
