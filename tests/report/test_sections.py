"""Further sections of the page: there where a run has something to tell, and not where it has nothing."""

from pathlib import Path

from memfix import flow
from memfix.config.checks import DetectSettings
from memfix.console import Talk
from memfix.report.build import build


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
    run.seal_again("detect", "run.json")  # as if so found
    assert build(run).sections.keys() == {"sources"}
    assert "What could not be read" not in flow.report(run).read_text()
