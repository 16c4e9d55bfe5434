"""What the page says follows from the run; 'How this was checked' says what was done under its settings."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from memfix.config.checks import DetectSettings
from memfix.detect.design import Design
from memfix.findings import BackgroundRecord, RuleRecord, WitnessRecord
from memfix.records import Label, Outcome, Role
from memfix.references.in_memory import Search
from memfix.report.html import urgency, write_page
from memfix.report.schema import Disputed, Picture, PromptEntry, Report, ReportedRun, Summary, VerdictNumbers
from memfix.run.header import DetectStage, Stages
from memfix.run.inputs import DetectInputs

PIXELS, INDEX, SHORTLIST = Search("tiled_l2", 1, "tiled_l2"), Search("sscd", 1, "sscd"), Search("sscd", 8, "tiled_l2")


WITNESS = WitnessRecord(
    measure="structure", threshold=0.7, default=0.7, identity="0",
    background=BackgroundRecord(references=300, duplicates=0, p50=0.2, p99=0.5, closest=0.681),
)  # fmt: skip


def page(
    folder: Path, design: Design, search: Search | None = PIXELS, samples: Sequence[Picture] = (),
    disputed: Sequence[Disputed] = (), doubt: str = "", **settings: Any,
) -> str:  # fmt: skip
    """The page of a detection that found one prompt clean."""
    settings.setdefault("measure", "ssim")
    settings |= {"first_look": design.looks[0]} if len(design.looks) > 1 else {}
    given = DetectSettings(tolerance=design.tolerance, confidence=design.confidence, **settings)
    detect = DetectStage(
        settings=given, argv=["detect"], medoids=search is None,
        rule=RuleRecord(measure=given.measure, threshold=0.72, source="test"),
        inputs=DetectInputs(
            prompts="2", index="index" if search and search.by == "sscd" else None, measure="3",
            model_sha256="0", model_config_sha256="1", references="0",
        ),
        witnesses=[WITNESS], design=design.summary(), search=search.record() if search else None,
        sampling_doubt=doubt,
    )  # fmt: skip
    scores = VerdictNumbers(
        copies=0, samples=16, share=0.0, interval=(0.0, 0.2), measure=given.measure, threshold=0.72,
        threshold_source="test", closest=0.1, common_area=None,
    )  # fmt: skip
    prompt = PromptEntry(
        id="p1", text="a cat", role=Role.PROMPT, source="list:1", cut_tokens=0, verdict_before=Label.CLEAN,
        verdict_after=None, outcome=None, reason="none", kind=None, sampled=True, scores_before=scores,
        scores_after=None, background=None, references=[], samples_before=list(samples), samples_after=[],
    )  # fmt: skip
    missing = {"mitigated", "mitigation_rate", "mitigation_rate_interval", "memorized_after", "copies_after",
               "controls_changed", "control_drift", "quality_after", "hidden", "harmed",
               "newly_memorized", "attacks", "reworded"}  # fmt: skip
    numbers = dict.fromkeys(Summary.model_fields, 0) | dict.fromkeys(missing) | {"prompts": 1, "clean_before": 1}
    report = Report(
        run=ReportedRun(
            name="r", created="now", status="finished", stages=Stages(detect=detect), unlearned=False, rechecked=False
        ),
        summary=Summary(**numbers), prompts=[prompt], controls=[], training=None, timings={}, environment=None,
        disputed=list(disputed),
    )  # fmt: skip
    return write_page(folder, report).read_text()


def told(folder: Path, design: Design, search: Search | None = PIXELS, **settings: Any) -> str:
    """The paragraph without tags."""
    html = page(folder, design, search, **settings)
    (paragraph,) = re.findall(r"<h2>How this was checked</h2>.*?<p[^>]*>(.*?)</p>", html, re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", "", paragraph).split())


FIXED = Design.fixed(16)


def test_the_method_says_why_the_sampling_is_doubted(tmp_path: Path) -> None:
    text = told(tmp_path, FIXED, num_inference_steps=1, doubt="Nobody draws so.")
    assert "with 1 step at guidance 7.5. Nobody draws so. Each sample" in text


@pytest.mark.parametrize(
    ("design", "search", "words"),
    [
        # 1 - 0.999^16 = 1.59 %
        (FIXED, PIXELS, "when 1 or more of 16 samples are copies: if 0.1 % of samples pass the threshold by "
                        "chance, this happens to at most 1.59 % of the prompts that are not memorized, "
                        "where 5 % are allowed."),
        # 1 - 0.99^16 = 14.9 %, and of two or more 1.09 %
        (Design.fixed(16, chance=0.01), PIXELS, "when 2 or more of 16 samples are copies: if 1 % of samples pass"),
        # docs/verdicts.md: .0453
        (Design((4, 8, 16), chance=0.01), PIXELS, "1 or more of 4, 2 or more of 8 or 2 or more of 16 samples are copi"),
        (Design((4, 8, 16), chance=0.01), PIXELS, "to at most 4.53 % of the prompts"),
        (Design((4, 8, 16)), PIXELS, "when 1 or more of 4, 8 or 16 samples are copies"),
        (Design.fixed(1, chance=0.1), PIXELS, "No number of copies makes a prompt memorized here: if 10 % of samples"),
        (FIXED, None, "when 3 or more of 16 samples are copies. With only two near-identical samples it is undecided."),
        (FIXED, PIXELS, "ends at or below 25 %, which 16 samples can show; otherwise"),
        (Design.fixed(4), PIXELS, "which 4 samples are too few to show; otherwise"),
        (FIXED, PIXELS, "was sampled 16 times with"),
        (Design((4, 8, 16)), PIXELS, "was sampled 4, 8 or 16 times, until an interim look gave a clear verdict, with"),
        (FIXED, PIXELS, "Intervals are exact binomial (Clopper–Pearson). The"),
        (Design((4, 8, 16)), PIXELS, "exact for sampling that may stop early"),
        (FIXED, None, "as if the medoid had been given beforehand"),
        (FIXED, PIXELS, "with every reference by tiled_l2. ssim was then computed for the nearest one only."),
        (FIXED, SHORTLIST, "with every reference by sscd. Among the 8 nearest ones tiled_l2 then chose the nearest"),
        (FIXED, SHORTLIST, "is also found in a reference among those nearest to its samples,"),
        (FIXED, None, "Each sample was compared with the other samples of its prompt."),
    ],
)  # fmt: skip
@pytest.mark.slow
def test_sentences_follow_from_the_settings(tmp_path: Path, design: Design, search: Search | None, words: str) -> None:
    assert words in told(tmp_path, design, search)


@pytest.mark.parametrize(
    ("design", "search", "words"),
    [
        (Design((4, 8, 16)), PIXELS, "Intervals are exact binomial"),
        (FIXED, None, "Intervals are exact binomial"),
        (FIXED, PIXELS, "then chose the nearest"),
        (FIXED, PIXELS, "among those nearest to its samples"),
        (FIXED, None, "every reference"),
    ],
)
def test_what_is_not_so_is_not_said(tmp_path: Path, design: Design, search: Search | None, words: str) -> None:
    assert words not in told(tmp_path, design, search)


def test_a_measure_that_searches_is_taken_on_every_reference(tmp_path: Path) -> None:
    text = told(tmp_path, FIXED, INDEX, measure="sscd")
    assert "Each sample was compared with every reference by sscd. A sample is a copy when" in text


def test_copies_that_are_not_shown_are_counted(tmp_path: Path) -> None:
    pictures = [Picture(path=f"{i}.png", seed=i, copy=i in (3, 11)) for i in range(16)]
    html = page(tmp_path, FIXED, samples=pictures)
    assert "before: 8 of 16 shown, 1 of the others is a copy" in html
    assert html.count('class="copy"') == 1
    assert "<figcaption>before</figcaption>" in page(tmp_path, FIXED, samples=pictures[:8])


def test_a_detection_alone_shows_verdicts_and_intervals(tmp_path: Path) -> None:
    table = page(tmp_path, FIXED).split("<h2>Verdicts</h2>")[1].split("</table>")[0]
    assert re.findall(r"<th>(.*?)</th>", table) == ["Prompt", "Verdict", "Copies", "Share of copies"]
    assert "0\N{NO-BREAK SPACE}% to 20\N{NO-BREAK SPACE}%" in table
    assert "not checked" not in table


def test_disputed_samples_come_first_with_both_pictures(tmp_path: Path) -> None:
    pair = Disputed(
        prompt_id="p1", text="a cat", sample=Picture(path="before/p1-3.png", measures={"ssim": 0.61}),
        reference=Picture(path="r.png"), witness="structure", value=0.912, threshold=0.7,
    )  # fmt: skip
    html = page(tmp_path, FIXED, disputed=[pair])
    assert html.index("Disputed samples (1)") < html.index("<h2>Verdicts</h2>")
    assert "structure 0.912 (a copy past 0.7), ssim 0.610" in html and "before/p1-3.png" in html
    assert "Disputed samples" not in page(tmp_path, FIXED)
    text = told(tmp_path, FIXED)
    assert "passes 0.7 of structure to the reference that this measure finds nearest is disputed" in text
    assert "of 300 unrelated training images none passes that, and the closest two reach 0.681" in text


def test_what_was_found_and_is_not_mended_comes_first() -> None:
    def entry(before: Label, outcome: Outcome | None = None, sampled: bool = True) -> PromptEntry:
        return PromptEntry.model_construct(verdict_before=before, outcome=outcome, sampled=sampled)

    ordered = [
        entry(Label.MEMORIZED, Outcome.PERSISTENT), entry(Label.MEMORIZED, Outcome.HIDDEN),
            entry(Label.MEMORIZED, Outcome.DAMAGED),
        entry(Label.CLEAN, Outcome.UNDECIDED), entry(Label.MEMORIZED, Outcome.MITIGATED), entry(Label.MEMORIZED),
        entry(Label.UNDECIDED), entry(Label.CLEAN, Outcome.UNCHANGED), entry(Label.CLEAN),
        entry(Label.CLEAN, None, sampled=False),
    ]  # fmt: skip
    assert [urgency(e) for e in ordered] == [0, 1, 2, 3, 4, 4, 5, 6, 6, 7]
