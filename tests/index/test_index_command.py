"""`memfix index`: what it says, writes and refuses."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from memfix.cli import app
from tests.conftest import picture


def run(*arguments: str, code: int = 0, env: dict[str, str] | None = None) -> tuple[str, str]:
    done = CliRunner().invoke(app, ["index", *arguments], env=env)
    assert done.exit_code == code, done.output
    return done.stdout, done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pictures").mkdir()
    for i in range(12):
        picture(i % 8).save(tmp_path / f"pictures/{i:02d}.png")
    (tmp_path / "pictures/broken[red].png").write_bytes(b"nothing")
    return tmp_path / "pictures"


def test_index_then_again(folder: Path) -> None:
    planned = run(str(folder), "--dry-run")[0]
    assert "13 new" in " ".join(planned.split()) and not (folder.parent / "pictures.index").exists()
    out, err = run(str(folder), "--groups", "0.999")
    out, err = (" ".join(told.split()) for told in (out, err))  # where a line breaks depends on the length of a path
    assert "13 new" in out and "broken[red].png: cannot be read" in err and "4 groups" in out
    out, _ = run(str(folder), "--groups", "0.999", "--approximate", "sq8", "--json", code=1)
    assert out == ""
    for i in range(12, 60):
        picture(i).save(folder / f"{i:02d}.png")
    out, _ = run(str(folder), "--groups", "0.999", "--approximate", "sq8", "--json")
    result = json.loads(out)
    assert (result["new"], result["same"], result["vectors"], result["complete"]) == (48, 13, 60, True)
    assert result["groups"][:4] == [[f"{i:02d}.png", f"{i + 8:02d}.png"] for i in range(4)]
    assert result["approximate"]["recall"] == 1.0 and result["unreadable"][0]["file_name"] == "broken[red].png"


def test_ranks_from_the_environment(folder: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    _, err = run(str(folder), "--out", out, env={"RANK": "1", "WORLD_SIZE": "2"})
    assert "once the other ranks" in err
    told, err = run(str(folder), "--out", out, env={"RANK": "0", "WORLD_SIZE": "2"})
    assert "12 vectors" in told and "other ranks" not in err
    run(str(folder), "--out", out, "--process-index", "2", "--num-processes", "2", code=2)


def test_refusals(folder: Path, tmp_path: Path) -> None:
    _, err = run(str(folder / "nowhere"), code=1)
    assert "no folder" in err.replace("\n", " ") and not (folder / "nowhere.index").exists()
    assert "Did you mean 'pixels'" in run(str(folder), "--descriptor", "pixel", code=2)[1]
    (tmp_path / "file").write_text("")
    assert "is a file" in run(str(folder), "--out", str(tmp_path / "file"), code=1)[1]
    run(str(folder), "--precision", "int8", code=2)
