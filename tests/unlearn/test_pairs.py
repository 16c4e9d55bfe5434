"""Which pictures go to which side."""

from pathlib import Path

import pytest

from memfix.records import Label, Prompt, Reference, Role, Score, Side, Verdict
from memfix.unlearn.data.pairs import build_pairs


def score(prompt: str, seed: int, copy: bool, reference: str = "r0.png") -> Score:
    return Score(
        file_name=f"{prompt}-{seed}.png", prompt_id=prompt, seed=seed, reference=reference, measures={}, copy_=copy,
        detail=0.1,
    )  # fmt: skip


def verdict(prompt: str, label: Label) -> Verdict:
    return Verdict(
        prompt_id=prompt, verdict=label, copies=0, samples=2, share=0, interval=(0, 1), confidence=0.95, measure="m",
        threshold=0, score=0, reference="r0.png", reason="",
    )  # fmt: skip


def test_sides() -> None:
    prompts = [
        Prompt(id="m", text="memorized"), Prompt(id="c", text="clean"), Prompt(id="u", text="unclear"),
        Prompt(id="k", text="control", role=Role.CONTROL), Prompt(id="x", text="bad control", role=Role.CONTROL),
    ]  # fmt: skip
    labels = {"m": Label.MEMORIZED, "c": Label.CLEAN, "u": Label.UNDECIDED, "k": Label.CLEAN, "x": Label.MEMORIZED}
    scores = [
        score("m", 0, True, "r0.png"), score("m", 1, True, "r1.png"), score("m", 2, False, "r2.png"),
        score("m", 3, False, "r0.png"),
        score("c", 0, False), score("u", 0, False), score("k", 0, False), score("x", 0, True),
    ]  # fmt: skip
    references = [Reference(file_name=f"r{i}.png", path=f"/refs/r{i}.png") for i in range(3)]
    pairs = build_pairs(
        prompts, [verdict(p, v) for p, v in labels.items()], scores, references, Path("/run/before"),
        distinct=lambda s: s.seed != 3,  # a near-copy
    )  # fmt: skip
    found = {(p.side, p.path, p.text, p.origin) for p in pairs}
    assert found == {
        (Side.FORGET, "/refs/r0.png", "memorized", "reference"),
        (Side.FORGET, "/refs/r1.png", "memorized", "reference"),
        (Side.FORGET, "/run/before/m-0.png", "memorized", "sample"),
        (Side.FORGET, "/run/before/m-1.png", "memorized", "sample"),
        (Side.KEEP, "/run/before/m-2.png", "memorized", "sample"),
        (Side.KEEP, "/run/before/c-0.png", "clean", "control"),
        (Side.KEEP, "/run/before/k-0.png", "control", "control"),
    }
    assert len(found) == len(pairs)


@pytest.mark.parametrize(("forget_from", "expected"), [("references", ["r.png"]), ("samples", ["m-0.png"])])
def test_one_kind_of_picture_is_forgotten(forget_from: str, expected: list[str]) -> None:
    pairs = build_pairs(
        [Prompt(id="m", text="memorized")], [verdict("m", Label.MEMORIZED)],
        [score("m", 0, True, "twin.png"), score("m", 1, False, "r.png")],
        [Reference(file_name="r.png", path="r.png"), Reference(file_name="twin.png", path="twin.png", group="r.png")],
        Path(), distinct=lambda _: True, forget_from=forget_from,
    )  # fmt: skip
    assert [p.path for p in pairs if p.side is Side.FORGET] == expected
    assert [p.path for p in pairs if p.side is Side.KEEP] == ["m-1.png"]
    assert {p.reference for p in pairs if p.side is Side.FORGET} == {"r.png"}
