"""Weights and thresholds of a run: which are taken, and what the run says of them. On a tiny pipeline."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from memfix import flow
from memfix.cli import app
from memfix.config.checks import DetectSettings
from memfix.console import Talk
from memfix.demo import DESCRIPTOR
from memfix.download.pinned import Pinned
from memfix.errors import ExitCode, MemfixError
from memfix.flow.detection import Detection
from memfix.index.build import build
from memfix.index.store import Store
from memfix.measures import weights
from memfix.measures.descriptor import get_descriptor
from memfix.measures.weights import Wanted
from memfix.records import Score
from memfix.report.build import build as build_report
from memfix.run.folder import Run
from tests import tiny_clip


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in; nothing is cached, and downloads would fail."""
    monkeypatch.setenv("MEMFIX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "prompts.txt").write_text("a disc\ntwo discs\n")
    return tmp_path


def detect(work: Path, model: Path, **settings: Any) -> Run:
    given = {
        "measure": "ssim",
        "model": str(model),
        "num_samples": 2,
        "num_inference_steps": 2,
        "mixed_precision": "no",
    } | settings
    checked = DetectSettings.model_validate(given)
    return flow.detect(str(work / "prompts.txt"), checked, work / "run", work, [], Talk(quiet=True))


def indexed(work: Path, pictures: Path, descriptor: str, wanted: Wanted) -> str:
    made = get_descriptor(descriptor, wanted)
    build(Store.create(work / "index", pictures, made), pictures, made)
    return str(work / "index")


def entry(run: Run) -> dict[str, Any]:
    return Run.open(run.path).header.stages.detect.model_dump(mode="json")


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
    assert len(Detection.of(run).judge().references) == 4
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
        Detection.of(run).judge()
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
    entry_of = Pinned("http://127.0.0.1:9/net.pt", digest, DESCRIPTOR.stat().st_size)
    monkeypatch.setitem(weights.KNOWN, "net", entry_of)
    (work / "cache").mkdir()
    (work / "cache/net.pt").write_bytes(DESCRIPTOR.read_bytes())
    run = detect(work, model_folder, references=str(reference_folder), measure="sscd", sscd_weights="net")
    recorded = entry(run)["weights"]["sscd"]
    assert (recorded["name"], recorded["file"]) == ("net", str(work / "cache/net.pt"))


@pytest.mark.parametrize(
    ("settings", "value", "name", "source"),
    [
        ({}, 0.72, None, "default of ssim: Wang et al. 2004"),
        ({"threshold": 0.6}, 0.6, None, "given"),
        ({"threshold": "0.6"}, 0.6, None, "given"),
        ({"threshold": "nemo-sscd", "measure": "sscd"}, 0.7, "nemo-sscd", "Hintersdorf et al., NeurIPS 2024"),
        ({"false_alarm_rate": 0.5, "chance": 0.1}, None, None, "calibrated at rate 0.5 on the references"),
    ],
)
def test_where_the_threshold_comes_from(
    work: Path, model_folder: Path, reference_folder: Path, monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any], value: float | None, name: str | None, source: str,
) -> None:  # fmt: skip
    digest = hashlib.sha256(DESCRIPTOR.read_bytes()).hexdigest()
    monkeypatch.setitem(weights.KNOWN, "net", Pinned("", digest, DESCRIPTOR.stat().st_size))
    (work / "net.pt").write_bytes(DESCRIPTOR.read_bytes())
    settings = {"sscd_weights": str(work / "net.pt"), **settings}
    run = detect(work, model_folder, references=str(reference_folder), **settings)
    found = entry(run)["rule"]
    assert value in (found["threshold"], None)
    assert found["name"] == name
    assert found["source"].startswith(source)
    page = flow.report(run).read_text()
    scores = build_report(run).prompts[0].scores_before
    assert (scores.threshold, scores.threshold_source) == (found["threshold"], found["source"])
    assert f"({name + ', ' if name else ''}{source}" in page
    assert (f"threshold 0.7 ({name})" in page) == (name is not None)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"threshold": "nemo-sscd", "measure": "ssim"}, "is for the measure sscd, but the measure is ssim"),
        ({"threshold": "nemo"}, "Unknown threshold 'nemo'"),
        ({"threshold": 0.5, "false_alarm_rate": 0.5}, "cannot be given together"),
    ],
)
def test_a_threshold_that_makes_no_sense_is_refused_first(work: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(MemfixError, match=message) as caught:
        detect(work, Path("no/such/model/at/all"), **settings)
    assert caught.value.exit_code is ExitCode.USAGE
    assert not (work / "run").exists()


def test_the_command_line_takes_numbers_and_names(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(work)
    common = ["detect", "prompts.txt", "-m", "demo", "--dry-run", "--json"]
    for given, wanted in (("0.6", 0.6), ("bundled-ssim", "bundled-ssim")):
        done = CliRunner().invoke(app, [*common, "--threshold", given])
        assert json.loads(done.stdout)["settings"]["detect"]["threshold"] == wanted
    monkeypatch.setenv("MEMFIX_THRESHOLD", ".65")
    assert json.loads(CliRunner().invoke(app, common).stdout)["settings"]["detect"]["threshold"] == 0.65
    done = CliRunner().invoke(app, [*common, "--threshold", "bundled-sim"])
    assert done.exit_code == 2 and "Did you mean 'bundled-ssim'?" in done.stderr
    done = CliRunner().invoke(app, ["list", "thresholds", "--json"])
    assert {"name": "nemo-sscd", "measure": "sscd", "copy past": 0.7}.items() <= json.loads(done.stdout)[5].items()


@pytest.mark.parametrize("name", ["sscd-precision-90", "nemo-sscd", "somepalli-sscd"])
@pytest.mark.slow
def test_a_published_threshold_is_refused_for_weights_of_unknown_hash(
    work: Path, model_folder: Path, reference_folder: Path, name: str
) -> None:
    own = {"references": str(reference_folder), "measure": "sscd", "trust_weights": True}
    own["sscd_weights"] = str(work / "own.pt")
    (work / "own.pt").write_bytes(DESCRIPTOR.read_bytes())  # the hash is none of those that are published
    with pytest.raises(MemfixError, match=f"'{name}' is for the authors' weights") as caught:
        detect(work, model_folder, threshold=name, **own)
    assert caught.value.exit_code is ExitCode.USAGE
    assert not (work / "run").exists()
    assert entry(detect(work, model_folder, threshold=0.7, **own))["rule"]["source"] == "given"


@pytest.mark.slow
def test_a_run_from_elsewhere_vouches_for_no_program(
    work: Path, model_folder: Path, reference_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its header says what it likes; here its weights are run once the user has said so here."""
    (work / "own.pt").write_bytes(DESCRIPTOR.read_bytes())
    own = {"measure": "sscd", "sscd_weights": str(work / "own.pt"), "trust_weights": True, "threshold": 0.7}
    run = detect(work, model_folder, references=str(reference_folder), **own)
    assert Detection.of(run).measure.name == "sscd"
    monkeypatch.setattr(weights, "vouched_file", lambda: work / "nothing")
    monkeypatch.setattr(weights, "_vouched", set())
    with pytest.raises(MemfixError, match="contains a program") as caught:
        _ = Detection.of(run).measure
    assert "--trust-weights" in caught.value.hint


def test_the_report_tells_name_size_and_hash_of_weights(work: Path, model_folder: Path, reference_folder: Path) -> None:
    clip = tiny_clip.make(work)
    run = detect(
        work, model_folder, references=str(reference_folder), measure="sscd", sscd_weights="demo", clip_score=True,
        clip_model=clip,
    )  # fmt: skip
    page, file = flow.report(run).read_text(), Path(clip.partition("/")[2])
    for name, of, path in (("sscd", "demo", DESCRIPTOR), ("clip", clip, file)):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert entry(run)["weights"][name] == {
            "name": of, "file": str(path), "bytes": path.stat().st_size, "sha256": digest,
        }  # fmt: skip
        told = f"{of}, {path.stat().st_size:,} bytes, <code>sha256 {digest}</code>"
        assert f"<dt>Weights of {name}</dt><dd>{told}</dd>" in page


def test_without_a_measure_sscd_decides_and_is_asked_for_before_anything_is_sampled(
    work: Path, model_folder: Path
) -> None:
    """Nothing is cached and there is no network: where to put the file, and what ssim cannot do, is said at once."""
    with pytest.raises(MemfixError, match="decides by default is SSCD") as caught:
        flow.detect(
            str(work / "prompts.txt"), DetectSettings(model=str(model_folder)), work / "run", work, [], Talk(quiet=True)
        )  # fmt: skip
    assert str(work / "cache" / "sscd_disc_mixup.torchscript.pt") in caught.value.hint
    assert weights.KNOWN["sscd_disc_mixup"].sha256 in caught.value.hint
    assert "--measure ssim" in caught.value.hint and "white product shots" in caught.value.hint
    assert not (work / "run").exists()
    with pytest.raises(MemfixError) as named:  # who names it need not be told of others
        flow.detect(
            str(work / "prompts.txt"), DetectSettings(model=str(model_folder), measure="sscd"), work / "run", work, [],
            Talk(quiet=True),
        )  # fmt: skip
    assert "--measure ssim" not in named.value.hint


def test_without_a_measure_sscd_decides_off_the_bundled_model(
    work: Path, model_folder: Path, reference_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = detect(work, model_folder, measure="auto", sscd_weights="demo", references=str(reference_folder))
    detected = run.header.stages.detect
    assert detected and detected.rule and detected.settings.measure == "auto"
    assert (detected.rule.measure, detected.rule.threshold) == ("sscd", 0.65)
    assert {w.measure for w in detected.witnesses} == {"structure"}
    assert Detection.of(run).measure.name == "sscd"
    assert "published thresholds do not hold" not in capsys.readouterr().err  # these weights know 64 pixels


def test_pictures_that_are_too_small_for_the_authors_weights_are_warned_of(
    work: Path, model_folder: Path, reference_folder: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    known = weights.KNOWN["sscd_disc_mixup"]
    pinned = Pinned(known.url, hashlib.sha256(DESCRIPTOR.read_bytes()).hexdigest(), None)
    monkeypatch.setitem(weights.KNOWN, "sscd_disc_mixup", pinned)  # another network of the same form takes their place
    place = weights.cache_folder() / "sscd_disc_mixup.torchscript.pt"
    place.parent.mkdir(parents=True)
    place.write_bytes(DESCRIPTOR.read_bytes())
    run = detect(work, model_folder, measure="auto", references=str(reference_folder), num_samples=1)
    detected = run.header.stages.detect
    assert detected and detected.rule and (detected.rule.measure, detected.rule.threshold) == ("sscd", 0.75)
    said = " ".join(capsys.readouterr().err.split())
    assert "The samples and training images have fewer than 256 pixels." in said


def test_the_bundled_model_is_judged_by_ssim(work: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(work)
    for model, wanted in (("demo", "ssim"), (str(model_folder), "auto")):
        done = CliRunner().invoke(app, ["detect", "prompts.txt", "-m", model, "--dry-run", "--json"])
        assert json.loads(done.stdout)["settings"]["detect"]["measure"] == wanted
