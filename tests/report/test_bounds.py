"""What stands beside the word `mitigated`: how far it was tested."""

from memfix.records import Arm, AttackPoint, AttackResult, Label, Outcome, Version
from memfix.report.bounds import attacks_told, bound_of, meaning
from memfix.report.html import copies_left, headline
from memfix.report.schema import PromptEntry, Report, VerdictNumbers
from tests.report.test_headline import report


def attack(*points: tuple[int, int, int], name: str = "embedding") -> AttackResult:
    return AttackResult(
        attack=name, version=Version.AFTER, arm=Arm.TARGET, prompt_id="p1", text="t", reference="r.png", unit="steps",
        curve=tuple(AttackPoint(work=w, copies=c, samples=n) for w, c, n in points),
    )  # fmt: skip


def numbers(samples: int, most: float) -> VerdictNumbers:
    return VerdictNumbers(
        copies=0, samples=samples, share=0, interval=(0, most), measure="ssim", threshold=0.72, threshold_source=None,
        closest=0.1, common_area=None,
    )  # fmt: skip


def entry(
    outcome: Outcome, samples: int = 32, most: float = 0.109, attacks: tuple[AttackResult, ...] = ()
) -> PromptEntry:
    return PromptEntry.model_construct(
        outcome=outcome, verdict_before=Label.MEMORIZED, scores_after=numbers(samples, most), attacks=list(attacks)
    )


def with_prompts(*entries: PromptEntry) -> Report:
    return report().model_copy(update={"prompts": list(entries)})


def test_the_weakest_evidence_of_all_mitigated_prompts_is_told() -> None:
    found = with_prompts(
        entry(Outcome.MITIGATED, attacks=(attack((25, 0, 8), (50, 0, 8)),)),
        entry(Outcome.MITIGATED, 16, 0.206, (attack((50, 0, 8)),)),
        entry(Outcome.PERSISTENT, 2, 1.0),
    )
    told = meaning(found)
    assert "none of 16 samples of such a prompt is a copy, so that at most 21 % of its samples are" in told
    assert "attacked by embedding (50 steps, 8 samples each: no copy)" in told
    assert told in headline(found)[2]


def test_without_a_mitigated_prompt_nothing_is_explained() -> None:
    assert meaning(with_prompts(entry(Outcome.PERSISTENT))) == ""
    assert bound_of(entry(Outcome.PERSISTENT), report()) == ""


def test_what_an_attack_got_no_more_often_than_of_clean_pictures_is_said() -> None:
    assert "copies of 1, no more than of clean pictures" in attacks_told([attack((50, 3, 8))])
    assert attacks_told([]) == "no attack was made"
    assert attacks_told([attack()]) == "no attack was made"  # it could not be tried


def test_one_prompt() -> None:
    told = bound_of(entry(Outcome.MITIGATED, attacks=(attack((50, 0, 8)),)), report())
    assert "at most 11 % of its samples are copies (95 % interval, none of 32 seen)" in told


def test_no_share_of_zero_stands_beside_what_is_left() -> None:
    s = report().summary
    left = s.model_copy(update={"copies_left": 1, "samples_left": 1200, "persistent": 1})
    assert copies_left(left) == "1 of 1,200 samples after, from the same and from fresh noise"
    left = s.model_copy(update={"copies_left": 0, "samples_left": 64, "persistent": 1, "hidden": 2})
    told = "none of 64 samples after, from the same and from fresh noise; 1 prompt shows another picture again"
    assert copies_left(left) == f"{told}; 2 pictures can be brought back"
