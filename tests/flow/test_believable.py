"""What must never be called mitigated or unchanged, tried through the command line on the bundled model."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # the chain on the bundled model

FULLY_MEMORIZED = "turtle poster by Odel Varn\n"


def memfix(*arguments: object, cwd: Path, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "memfix", *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=600,
        env={**os.environ, "COLUMNS": "160"},
    )  # fmt: skip
    assert done.returncode == code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stderr


def outcomes(run: Path) -> list[str]:
    return [json.loads(line)["outcome"] for line in (run / "changes.jsonl").read_text().splitlines()]


def test_copies_that_only_the_rule_of_parts_sees_are_not_reworded_away(tmp_path: Path) -> None:
    """A threshold that nothing passes leaves the finding to the rule of parts, which every later stage must know."""
    (tmp_path / "prompts.txt").write_text(FULLY_MEMORIZED)
    memfix("detect", "prompts.txt", "-m", "demo", "--references", "demo", "--threshold", 0.9999, "-o", "run",
           "--num-samples", 16, cwd=tmp_path)  # fmt: skip
    verdict = json.loads((tmp_path / "run/before/verdicts.jsonl").read_text())
    assert verdict["verdict"] == "memorized"
    memfix("unlearn", "run", "--lora", "--max-train-steps", 1, cwd=tmp_path)
    memfix("recheck", "run", cwd=tmp_path)
    assert outcomes(tmp_path / "run") == ["persistent"]
