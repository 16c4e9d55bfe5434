"""The pictures of an unlearning on a tiny pipeline: which there are, that they stay, and what is said of them."""

from pathlib import Path

import pytest

from memfix.config.unlearn import UnlearnSettings
from memfix.errors import MemfixError
from memfix.flow.detection import Detection
from memfix.flow.pairs import INSTEAD, KEEP, found_pairs, gather, own_pictures, rewording, targets, written_pairs
from memfix.inputs.prompts import id_of
from memfix.records import Rewording, Side
from memfix.unlearn.objective.methods import get_method
from tests.conftest import picture
from tests.detected import detected_run
from tests.flow.working import opened, sampler, unlearning


@pytest.fixture(scope="module")
def detected(tmp_path_factory: pytest.TempPathFactory, model_folder: Path, reference_folder: Path) -> Path:
    return detected_run(tmp_path_factory.mktemp("pairs"), model_folder, reference_folder)


@pytest.fixture
def detection(detected: Path, tmp_path: Path) -> Detection:
    return opened(detected, tmp_path / "run")


def own(folder: Path) -> Path:
    folder.mkdir()
    picture(50).save(folder / "1.png")
    return folder


def test_pictures_of_the_users_own_are_named_by_what_they_are_for(tmp_path: Path) -> None:
    assert own_pictures(UnlearnSettings()) == {}
    folder = str(own(tmp_path / "own"))
    assert {what: [r.file_name for r in found] for what, found in own_pictures(
        UnlearnSettings(keep_folder=folder, surrogates=folder)
    ).items()} == {KEEP: ["1.png"], INSTEAD: ["1.png"]}  # fmt: skip
    with pytest.raises(MemfixError, match="no folder of images"):
        own_pictures(UnlearnSettings(keep_folder=str(tmp_path / "nowhere")))


def test_copies_and_what_they_show_are_forgotten_and_distinct_samples_kept(detection: Detection) -> None:
    own_scores = [s for s in detection.scores if s.prompt_id == id_of("disc")]
    copies = {s.file_name for s in own_scores if s.copy_}
    assert 0 < len(copies) < len(own_scores) == 4
    pairs = [p for p in found_pairs(detection, UnlearnSettings(), lambda _: True) if p.prompt_id == id_of("disc")]
    by_side = {side: {p.path for p in pairs if p.side is side and p.origin == "sample"} for side in Side}
    before = detection.folder.resolve()
    assert by_side[Side.FORGET] == {str(before / name) for name in copies}
    assert by_side[Side.KEEP] == {str(before / s.file_name) for s in own_scores if not s.copy_}
    shown = {p.path for p in pairs if p.origin == "reference"}
    assert {Path(path).name for path in shown} == {s.reference for s in own_scores if s.copy_}
    nothing_kept = found_pairs(detection, UnlearnSettings(forget_from="references"), lambda _: False)
    assert {(p.side, p.origin) for p in nothing_kept if p.prompt_id == id_of("disc")} == {(Side.FORGET, "reference")}


def test_what_was_gathered_is_written_down_and_taken_up_again(detection: Detection) -> None:
    method = get_method("siss")
    with unlearning(detection) as entry:
        first = gather(detection, entry, sampler(detection), method, {})
        assert entry.variant_kinds
    run = detection.run
    assert written_pairs(run) == first
    assert targets(first) == {p.prompt_id: p.text for p in first if p.side is Side.FORGET}
    assert {id_of("disc")} <= set(targets(first)) <= {id_of("disc"), id_of("cat")}
    variants = {p: p.stat().st_mtime_ns for p in (run.path / "variants").iterdir()}
    assert variants and all(Path(p.path).is_file() for p in first)
    with unlearning(detection) as entry:
        assert gather(detection, entry, sampler(detection), method, {}) == first
    assert variants == {p: p.stat().st_mtime_ns for p in (run.path / "variants").iterdir()}


def test_further_pictures_are_kept_for_their_captions(detection: Detection, tmp_path: Path) -> None:
    folder = own(tmp_path / "own")
    (folder / "metadata.jsonl").write_text('{"file_name": "1.png", "text": "a page"}\n')
    with unlearning(detection, keep_folder=str(folder), keep_variants=0) as entry:
        pairs = gather(detection, entry, sampler(detection), get_method("siss"), own_pictures(entry.settings))
    kept = [p for p in pairs if p.path == str(folder / "1.png")]
    assert [(p.side, p.text) for p in kept] == [(Side.KEEP, "a page")]
    assert not (detection.run.path / "variants").exists()


def test_a_surrogate_is_found_for_every_picture_to_forget(detection: Detection) -> None:
    with unlearning(detection, method="surrogate") as entry:
        pairs = gather(detection, entry, sampler(detection), get_method("surrogate"), {})
    forget = [p for p in pairs if p.side is Side.FORGET]
    assert forget and all(p.surrogate and Path(p.surrogate).is_file() for p in forget)
    assert written_pairs(detection.run) == pairs


@pytest.mark.parametrize(("values", "message"), [
    ({"train_batch_size": 2, "mixture": 0.1}, "A pass of 2 items cannot hold a mixture of 0.1; 0.5 is drawn."),
    ({"train_batch_size": 10, "mixture": 0.1}, ""),
])  # fmt: skip
def test_a_mixture_that_no_pass_can_hold_is_told(
    detection: Detection, values: dict[str, object], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with unlearning(detection, keep_variants=0, **values) as entry:
        gather(detection, entry, sampler(detection), get_method("siss"), {})
    said = " ".join(capsys.readouterr().err.split())
    assert message in said
    assert ("cannot hold a mixture" in said) == bool(message)


def test_decisions_on_rewording_are_written_down_for_fully_memorized_prompts(detection: Detection) -> None:
    """The untrained copy still copies, so that nothing is reworded, whatever is decided."""
    with unlearning(detection) as entry:
        sample = sampler(detection)
        pairs = gather(detection, entry, sample, get_method("siss"), {})
        edit = rewording(detection, sample, pairs, entry.settings)
    assert edit is None
    assert not any(r.applied for r in detection.run.read("rewordings.jsonl", Rewording))
    assert (detection.run.path / "rewordings.jsonl").exists()


def test_a_short_list_is_filled_up_with_other_prompts(detection: Detection) -> None:
    with unlearning(detection, prior_prompts=5) as entry:
        pairs = gather(detection, entry, sampler(detection), get_method("siss"), {})
    others = {p.prompt_id for p in pairs} - set(targets(pairs))
    further = {p.prompt_id for p in pairs if p.origin == "prior"}
    assert further and len(others) <= 5  # fewer where one gives a copy
    assert all(Path(p.path).parent.name == "prior" for p in pairs if p.origin == "prior")
    assert {p.text for p in pairs if p.origin == "prior"}.isdisjoint(targets(pairs).values())


@pytest.mark.parametrize("values", [
    {"prior_prompts": 0}, {"prior_batch_size": 0}, {"method": "neggrad", "prior_prompts": 5},
])  # fmt: skip
def test_nothing_is_sampled_that_no_step_draws(detection: Detection, values: dict[str, object]) -> None:
    with unlearning(detection, **values) as entry:
        pairs = gather(detection, entry, sampler(detection), get_method(entry.settings.method), {})
    assert not any(p.origin == "prior" for p in pairs)
    assert not (detection.run.path / "prior").exists()


def test_what_the_list_asks_for_is_not_held_as_another_prompt(detection: Detection) -> None:
    """The captions are those of the list, memorized or undecided there, in other letters: CLIP reads them as the same,
    and to hold the model to what it answers would keep what is to be forgotten."""
    captions = (" Disc", "CAT", "Sky", "new")
    told = [r.model_copy(update={"text": t}) for r, t in zip(detection.references, captions, strict=True)]
    detection.__dict__["references"] = told
    detection.__dict__["scores"] = [s.model_copy(update={"copy_": False}) for s in detection.scores]
    with unlearning(detection, prior_prompts=9) as entry:
        pairs = gather(detection, entry, sampler(detection), get_method("siss"), {})
    held = {p.text for p in pairs if p.origin == "prior"}
    assert held and held.isdisjoint({" Disc", "CAT", "Sky"})
