"""The weights of measures in a run: which are taken, and what the run says of them. On a tiny pipeline."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from memfix import flow
from memfix.config import DetectSettings
from memfix.console import Talk
from memfix.demo import DESCRIPTOR
from memfix.errors import MemfixError
from memfix.index.build import build
from memfix.index.store import Store
from memfix.measures import weights
from memfix.measures.descriptor import get_descriptor
from memfix.measures.weights import Known, Wanted
from memfix.opening import gallery_of
from memfix.records import Score
from memfix.runs import Run
from tests import tiny_clip


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in; nothing is cached, and downloads would fail."""
    monkeypatch.setenv("MEMFIX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "prompts.txt").write_text("a disc\ntwo discs\n")
    return tmp_path


def detect(work: Path, model: Path, **settings: Any) -> Run:
    given = {"model": str(model), "num_samples": 2, "num_inference_steps": 2, "mixed_precision": "no"} | settings
    checked = DetectSettings.model_validate(given)
    return flow.detect(str(work / "prompts.txt"), checked, work / "run", work, [], Talk(quiet=True))


def indexed(work: Path, pictures: Path, descriptor: str, wanted: Wanted) -> str:
    made = get_descriptor(descriptor, wanted)
    build(Store.create(work / "index", pictures, made), pictures, made)
    return str(work / "index")


def entry(run: Run) -> dict[str, Any]:
    return Run.open(run.path).header["stages"]["detect"]


@pytest.mark.parametrize("measure", ["ssim", "sscd"])
def test_an_index_brings_its_own_sscd_weights(
    work: Path, model_folder: Path, reference_folder: Path, measure: str
) -> None:
    index = indexed(work, reference_folder, "sscd", Wanted(sscd="demo"))
    run = detect(work, model_folder, references=index, measure=measure)
    assert entry(run)["weights"] == {"sscd": {
        "name": "demo", "file": str(DESCRIPTOR), "bytes": DESCRIPTOR.stat().st_size,
        "sha256": hashlib.sha256(DESCRIPTOR.read_bytes()).hexdigest(),
    }}  # fmt: skip
    assert len(gallery_of(run, DetectSettings.model_validate(run.settings("detect")))) == 4
    assert all(measure in score.measures for score in run.read("before/scores.jsonl", Score))


def test_other_sscd_weights_are_refused_before_they_are_downloaded(
    work: Path, model_folder: Path, reference_folder: Path
) -> None:
    index = indexed(work, reference_folder, "sscd", Wanted(sscd="demo"))
    with pytest.raises(MemfixError, match=r"made with sscd demo .*, not with sscd_disc_mixup"):
        detect(work, model_folder, references=index, sscd_weights="sscd_disc_mixup")
    assert not (work / "run").exists() and not (work / "cache").exists()


def test_an_index_brings_its_own_clip_model(work: Path, model_folder: Path, reference_folder: Path) -> None:
    clip = tiny_clip.make(work)
    index = indexed(work, reference_folder, "clip", Wanted(clip=clip))
    run = detect(work, model_folder, references=index)
    recorded = entry(run)["weights"]["clip"]
    file = Path(clip.partition("/")[2])
    assert (recorded["name"], recorded["file"], recorded["bytes"]) == (clip, str(file), file.stat().st_size)
    tiny_clip.make(work, seed=1)  # in the place of the first
    with pytest.raises(MemfixError, match=r"was made with clip \(open_clip tiny-clip, sha256"):
        gallery_of(run, DetectSettings.model_validate(run.settings("detect")))
    with pytest.raises(MemfixError, match="not with ViT-B-32/openai"):
        detect(work, model_folder, references=index, clip_model="ViT-B-32/openai")


def test_measures_on_pixels_have_no_weights(work: Path, model_folder: Path, reference_folder: Path) -> None:
    assert entry(detect(work, model_folder, references=str(reference_folder)))["weights"] == {}


def test_without_references_the_weights_are_recorded_too(work: Path, model_folder: Path) -> None:
    run = detect(work, model_folder, measure="sscd", sscd_weights="demo", num_samples=3)
    assert entry(run)["weights"]["sscd"]["bytes"] == DESCRIPTOR.stat().st_size


def test_published_weights_are_recorded_by_name(
    work: Path, model_folder: Path, reference_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = hashlib.sha256(DESCRIPTOR.read_bytes()).hexdigest()
    entry_of = Known("http://127.0.0.1:9/net.pt", DESCRIPTOR.stat().st_size, digest, "test")
    monkeypatch.setitem(weights.KNOWN, "net", entry_of)
    (work / "cache").mkdir()
    (work / "cache/net.pt").write_bytes(DESCRIPTOR.read_bytes())
    run = detect(work, model_folder, references=str(reference_folder), measure="sscd", sscd_weights="net")
    recorded = entry(run)["weights"]["sscd"]
    assert (recorded["name"], recorded["file"]) == ("net", str(work / "cache/net.pt"))
