"""What must never be called mitigated, tried through the command line on the bundled model."""

import json
from pathlib import Path

import pytest
import torch

from memfix import flow
from memfix.config.checks import DetectSettings
from memfix.console import Talk
from memfix.records import Label, Verdict
from tests.conftest import tiny_pipeline
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
    memfix("unlearn", "run", "--lora", "--reword", "--max-train-steps", 1, "--keep-variants", 2, "--keep-enough", 4,
           cwd=tmp_path)  # fmt: skip
    assert not any(r["applied"] for r in lines(tmp_path / "run/rewordings.jsonl"))
    memfix("recheck", "run", "--num-fresh", 4, "--attacks", "none", cwd=tmp_path)
    assert [c["outcome"] for c in lines(tmp_path / "run/changes.jsonl")] == ["persistent"] * 3


def test_pages_of_one_colour_are_undecided_without_references(tmp_path: Path) -> None:
    """They are copies of each other, as memorized pictures are, and of nothing."""
    pipe = tiny_pipeline()
    torch.nn.init.zeros_(pipe.vae.decoder.conv_out.weight)
    pipe.save_pretrained(tmp_path / "model")
    (tmp_path / "p.txt").write_text("a disc\n")
    settings = DetectSettings(
        model=str(tmp_path / "model"), measure="ssim", num_samples=4, num_inference_steps=1, mixed_precision="no"
    )
    run = flow.detect(str(tmp_path / "p.txt"), settings, tmp_path / "run", tmp_path, [], Talk(quiet=True))
    (verdict,) = run.read("before/verdicts.jsonl", Verdict)
    assert verdict.verdict is Label.UNDECIDED and "blank" in (verdict.reason or "")
