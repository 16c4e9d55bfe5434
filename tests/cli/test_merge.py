"""`memfix merge`: where it may write. What it writes is tested with models and runs."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from memfix.cli import app


@pytest.mark.parametrize("out", ["notes.txt", "notes.txt/in"])
@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_a_file_is_no_place_for_a_folder(tmp_path: Path, out: str, more: list[str]) -> None:
    (tmp_path / "notes.txt").write_text("my notes")
    done = CliRunner().invoke(app, ["merge", "one", "two", "-o", str(tmp_path / out), *more], env={"COLUMNS": "200"})
    assert done.exit_code == 1
    assert "notes.txt is a file, not a folder" in done.stderr and "Give a folder to --out" in done.stderr
    assert (tmp_path / "notes.txt").read_text() == "my notes"
