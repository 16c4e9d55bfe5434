"""The first check on a tiny pipeline: looks, what a screen left out, and what the run records of both."""

from collections.abc import Callable
from pathlib import Path

import pytest

from memfix.config.checks import DetectSettings
from memfix.console import Talk
from memfix.detect.check import Check
from memfix.detect.first import FirstCheck
from memfix.errors import MemfixError
from memfix.inputs.references import read_references
from memfix.measures import get_measure
from memfix.measures.copy_rule import CopyRule
from memfix.models import loading
from memfix.models.model import DiffusionModel
from memfix.records import Label, Prompt, Role, Sample, Score, Verdict
from memfix.references.judge import Judge
from memfix.references.reference_set import open_references
from memfix.run.folder import Run
from memfix.screens.skipping import Skipping, audit_bound

ALL, NONE = 1e9, 1e-9  # thresholds of a distance
PROMPTS = [
    Prompt(id="p0001", text="disc"), Prompt(id="p0002", text="cat"), Prompt(id="p0003", text="sea"),
    Prompt(id="c0001", text="sky", role=Role.CONTROL),
]  # fmt: skip
LEFT_OUT = Skipping(
    screen="fine_detail", miss_rate=0.1, threshold=0.5, scores={"p0001": 0.9, "p0002": 0.3, "p0003": 0.2},
    skipped=("p0003", "p0002"), audited=("p0003",), expected_memorized=1, expected_missed=0.05, odd_controls=(0,),
)  # fmt: skip


@pytest.fixture(scope="module")
def model(model_folder: Path) -> DiffusionModel:
    return loading.load(loading.locate(str(model_folder)))


Make = Callable[..., FirstCheck]


@pytest.fixture
def make(model: DiffusionModel, reference_folder: Path, tmp_path: Path) -> Make:
    """A check whose every sample is a copy, or none, by the threshold."""

    def make(threshold: float, **values: object) -> FirstCheck:
        settings = DetectSettings(
            num_samples=4, num_inference_steps=2, mixed_precision="no", measure="tiled_l2", similar_prompts=0, **values
        )  # fmt: skip
        measure = get_measure("tiled_l2")
        rule = CopyRule(measure, threshold, "a test")
        references = open_references(read_references(str(reference_folder), []), measure)
        run = Run.create(tmp_path / "run")
        return FirstCheck(Check(run, "before", model, rule, Judge(references, rule), settings), Talk(quiet=True))

    return make


def sampled(first: FirstCheck) -> dict[str, list[int]]:
    """Prompt id → seeds that were drawn."""
    found: dict[str, list[int]] = {}
    for sample in first.run.read("before/metadata.jsonl", Sample):
        found.setdefault(sample.prompt_id, []).append(sample.seed)
    return {i: sorted(seeds) for i, seeds in found.items()}


def test_every_prompt_has_a_verdict_in_its_order(make: Make) -> None:
    first = make(ALL, seed=7)
    found = first(PROMPTS)
    assert [(v.prompt_id, v.verdict, v.copies, v.samples) for v in found] == [
        (p.id, Label.MEMORIZED, 4, 4) for p in PROMPTS
    ]
    assert sampled(first) == {p.id: [7, 8, 9, 10] for p in PROMPTS}
    assert len(first.run.read("before/scores.jsonl", Score)) == 16
    assert {r.file_name for r in first.references(PROMPTS)} == {f"{i}.png" for i in range(4)}
    assert first.screening(PROMPTS, found) is None


def test_sampling_ends_at_the_look_that_decides(make: Make) -> None:
    first = make(ALL, first_look=2)
    assert first.design().looks == (2, 4)
    assert [v.samples for v in first(PROMPTS)] == [2] * 4
    assert sampled(first) == {p.id: [0, 1] for p in PROMPTS}


def test_sampling_goes_on_while_nothing_is_decided(make: Make) -> None:
    first = make(NONE, first_look=2)
    found = first(PROMPTS)
    assert [(v.copies, v.samples) for v in found] == [(0, 4)] * 4
    assert {v.verdict for v in found} == {Label.UNDECIDED}  # four samples are too few to call a prompt clean


def test_a_first_look_beyond_all_samples_is_the_only_one(make: Make) -> None:
    assert make(ALL, first_look=99).design().looks == (4,)
    assert make(ALL).design().looks == (4,)


def test_what_was_skipped_is_not_sampled_and_says_why(make: Make) -> None:
    """As a run goes on that was killed after its screen."""
    first = make(NONE, screen="fine_detail")
    first.run.write("before/skipping.jsonl", [LEFT_OUT])
    found = {v.prompt_id: v for v in first(PROMPTS)}
    assert list(found) == [p.id for p in PROMPTS]
    assert sampled(first).keys() == {"p0001", "p0003", "c0001"}  # the audited one is sampled
    left = found["p0002"]
    assert (left.verdict, left.samples, left.interval, left.score) == (Label.CLEAN, 0, (0, 1), None)
    assert left.reason == f"not sampled: {LEFT_OUT.reason('p0002')}"
    record = first.screening(PROMPTS, list(found.values()))
    assert record is not None
    assert (record.skipped, record.audited, record.audited_memorized) == (2, 1, 0)
    assert (record.odd_controls, record.similar, record.similar_memorized) == (["sky"], 0, 0)
    assert record.share_bound == audit_bound(0, 1, 2)


def test_an_audit_that_finds_a_memorized_prompt_has_all_prompts_sampled(
    make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    first = make(ALL, screen="fine_detail")
    first.run.write("before/skipping.jsonl", [LEFT_OUT])
    found: list[Verdict] = first(PROMPTS)
    assert [(v.prompt_id, v.verdict, v.samples) for v in found] == [(p.id, Label.MEMORIZED, 4) for p in PROMPTS]
    said = " ".join(capsys.readouterr().err.split())
    assert "1 of 1 prompt that the screen would have left out is memorized, so all prompts are sampled." in said
    record = first.screening(PROMPTS, found)
    assert record is not None and (record.audited_memorized, record.share_bound) == (1, audit_bound(1, 1, 2))


def test_a_check_that_goes_on_draws_only_what_is_missing(make: Make) -> None:
    first = make(ALL)
    whole = first(PROMPTS)
    lost = first.run.path / "before/p0002-1.png"
    content, others = lost.read_bytes(), first.run.path / "before/p0001-1.png"
    lost.unlink()
    before = others.stat().st_mtime_ns
    assert make(ALL)(PROMPTS) == whole
    assert lost.read_bytes() == content
    assert others.stat().st_mtime_ns == before


def test_a_picture_that_is_edited_before_its_stage_ends_is_refused(make: Make) -> None:
    """Else its score would be of another picture than the one that the run shows."""
    first = make(ALL)
    found, folder = first(PROMPTS), first.run.path / "before"
    edited, other = sorted(folder.glob("*.png"))[:2]
    drawn = edited.read_bytes()
    edited.write_bytes(other.read_bytes())
    with pytest.raises(MemfixError, match=f"{edited.name} is not what was drawn before the interruption") as caught:
        make(ALL)(PROMPTS)
    assert "delete it" in caught.value.hint
    edited.unlink()
    assert make(ALL)(PROMPTS) == found and edited.read_bytes() == drawn
