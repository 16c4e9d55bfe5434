"""Further sections of the page: there where a run has something to tell, and not where it has nothing."""

import json
from pathlib import Path

from memfix import flow
from memfix.config.checks import DetectSettings
from memfix.console import Talk
from memfix.records import Reference
from memfix.report.build import build
from tests.conftest import picture


def test_what_could_not_be_read_is_told(tmp_path: Path, model_folder: Path, reference_folder: Path) -> None:
    (tmp_path / "prompts.csv").write_text("text\ndisc\n\ncat,2,3\nsky\n")
    table = [f"{reference_folder}/{i}.png" for i in range(4)]
    (tmp_path / "references.csv").write_text("\n".join(["file_name", *table, f"{tmp_path}/gone.png"]) + "\n")
    settings = DetectSettings(
        model=str(model_folder), references=str(tmp_path / "references.csv"), num_samples=1, num_inference_steps=2,
        mixed_precision="no", skip_invalid=True, measure="ssim",
    )  # fmt: skip
    run = flow.detect(str(tmp_path / "prompts.csv"), settings, tmp_path / "run", tmp_path, [], Talk(quiet=True))
    stage = run.header.stages.detect
    assert stage and (stage.wrong_rows, stage.left_out_pictures) != (0, 0)
    assert build(run).sections["left_out"] == {"rows": stage.wrong_rows, "pictures": stage.left_out_pictures}
    page = flow.report(run).read_text()
    assert f"{stage.wrong_rows} row" in page and f"{stage.left_out_pictures} reference image" in page
    stage.wrong_rows = stage.left_out_pictures = 0
    with run.amending("detect"):  # as if so found
        pass
    assert build(run).sections.keys() == {"sources"}
    assert "What could not be read" not in flow.report(run).read_text()


def test_what_was_seen_in_each_source_is_told(tmp_path: Path, model_folder: Path) -> None:
    """A training set is the list of prompts, with its own pictures: the counts in the header, the JSON and the page."""
    train = tmp_path / "train"
    (train / "__MACOSX").mkdir(parents=True)
    for i, name in enumerate(["0.jfif", "1", "__MACOSX/._0.jfif"]):
        picture(i).save(train / name, "JPEG")
    (train / "0.txt").write_text("disc")
    (train / "1.txt").write_text("sky")
    (train / "2.heic").write_bytes(b"\0\0\0\x18ftypheic")
    settings = DetectSettings(
        model=str(model_folder), num_samples=1, num_inference_steps=2, mixed_precision="no", measure="ssim"
    )
    run = flow.detect(str(train), settings, tmp_path / "run", tmp_path, [], Talk(quiet=True))
    told = json.loads((tmp_path / "run/run.json").read_text())["stages"]["detect"]["sources"]
    passed_over = {
        "hidden and side files": 1, "pictures of formats that memfix does not read": 1,
        "texts and tables beside pictures": 2,
    }  # fmt: skip
    assert told["prompts"] == {
        "source": str(train), "seen": 6, "used": 2, "passed_over": passed_over, "altered": {},
    }  # fmt: skip
    assert told["references"] == {"source": "", "seen": 2, "used": 2, "passed_over": {}, "altered": {}}
    names = {r.file_name for r in run.read("references.jsonl", Reference)}
    assert names == {"0.jfif", "1"} and not run.header.stages.detect.medoids  # type: ignore[union-attr]
    assert build(run).sections["sources"] == {"sources": told}
    page = flow.report(run).read_text()
    assert "What was read" in page and "pictures of formats that memfix does not read (1)" in page
    stage = run.header.stages.detect
    assert stage
    stage.sources = {}  # as runs of an earlier time
    with run.amending("detect"):
        pass
    assert "sources" not in build(run).sections
