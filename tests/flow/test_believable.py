"""What must never be called mitigated, tried through the command line on the bundled model."""

import json
from pathlib import Path

import pytest

from tests.processes import memfix

pytestmark = pytest.mark.slow  # the chain on the bundled model

FULLY_MEMORIZED = ["turtle poster by Odel Varn", "owl poster by Mirek Tosh", "rocket poster by Vesna Korr"]


def lines(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_copies_that_only_the_rule_of_parts_sees_are_not_reworded_away(tmp_path: Path) -> None:
    """A threshold that nothing passes leaves the finding to the rule of parts, which every later stage must know."""
    (tmp_path / "prompts.txt").write_text("".join(f"{text}\n" for text in FULLY_MEMORIZED))
    memfix("detect", "prompts.txt", "-m", "demo", "--references", "demo", "--threshold", 0.9999, "--num-samples", 6,
           "-o", "run", cwd=tmp_path)  # fmt: skip
    assert [v["verdict"] for v in lines(tmp_path / "run/before/verdicts.jsonl")] == ["memorized"] * 3
    memfix("unlearn", "run", "--lora", "--max-train-steps", 1, "--keep-variants", 2, "--keep-enough", 4, cwd=tmp_path)
    assert not any(r["applied"] for r in lines(tmp_path / "run/rewordings.jsonl"))
    memfix("recheck", "run", "--num-fresh", 4, "--attacks", "none", cwd=tmp_path)
    assert [c["outcome"] for c in lines(tmp_path / "run/changes.jsonl")] == ["persistent"] * 3
