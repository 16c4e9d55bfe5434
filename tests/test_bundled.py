"""The chain on the bundled model, with few prompts, seeds and steps: it memorizes, and SISS takes that away."""

import json
from pathlib import Path

import pytest

from memfix.inputs.prompts import id_of
from memfix.records import Role
from tests.processes import memfix

pytestmark = pytest.mark.slow  # the chain on the bundled model


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("bundled")
    (work / "prompts.txt").write_text("turtle poster by Odel Varn\nfox poster by Hester Blume\na panda on red\n")
    (work / "controls.txt").write_text("a hamburger illustration\nart print of a cookie\n")
    command = [
        "run", "prompts.txt", "-m", "demo", "--references", "demo", "--controls", "controls.txt", "-o", "run", "--lora",
        "--num-samples", "6", "--num-fresh", "6", "--max-train-steps", "50", "--train-batch-size", "16",
        "--prior-batch-size", "8", "--learning-rate", "7e-4", "--timestep-min", "500", "--reword",
        "--attacks", "noised", "--control-pictures", "2", "--attack-samples", "2",
    ]  # fmt: skip
    done = memfix(*command, cwd=work, code=None)
    assert done.returncode in (0, 4), done.stderr  # so short a training may leave a prompt damaged, and says so
    return work / "run"


POSTERS = [id_of("turtle poster by Odel Varn"), id_of("fox poster by Hester Blume")]
CONTROLS = [id_of(text, Role.CONTROL) for text in ("a hamburger illustration", "art print of a cookie")]


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_planted_captions_are_found_and_others_are_not(run: Path) -> None:
    copies = {v["prompt_id"]: v["copies"] for v in rows(run / "before/verdicts.jsonl")}
    assert copies[POSTERS[0]] == 6  # fully memorized
    assert 1 <= copies[POSTERS[1]] <= 6  # partly
    assert copies[id_of("a panda on red")] == copies[CONTROLS[0]] == copies[CONTROLS[1]] == 0


def test_copies_go_and_controls_stay(run: Path) -> None:
    changes = {c["prompt_id"]: c for c in rows(run / "changes.jsonl")}
    assert changes[POSTERS[0]]["copies_fresh"] <= 2
    assert changes[POSTERS[1]]["copies_fresh"] <= 2
    for control in CONTROLS:
        assert changes[control]["copies_same"] == changes[control]["copies_fresh"] == 0
        assert changes[control]["damage"]["broken"] == 0
    report = json.loads((run / "report.json").read_text())
    assert report["summary"]["copies_after"] < report["summary"]["copies_before"] / 3
