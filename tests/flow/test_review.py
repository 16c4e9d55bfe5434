"""What a person says of disputed samples: kept with name, time and picture, and used by verdicts and outcomes."""

import json
import shutil
from io import StringIO
from pathlib import Path

import pytest
from typer.testing import CliRunner

from memfix.cli import app
from memfix.cli.review import _ask
from memfix.config.checks import DetectSettings, RecheckSettings
from memfix.config.unlearn import UnlearnSettings
from memfix.console import Talk
from memfix.errors import MemfixError
from memfix.files import sha256
from memfix.flow.detect import detect
from memfix.flow.detection import Detection
from memfix.flow.recheck import recheck
from memfix.flow.review import disputed_samples, judged, review
from memfix.inputs.prompts import id_of
from memfix.recheck.attacks.compare import Told, what_attacks_say
from memfix.records import (
    Arm,
    AttackPoint,
    AttackResult,
    Change,
    DisputedSample,
    Label,
    Outcome,
    Review,
    Score,
    Verdict,
    Version,
    WitnessScore,
)
from memfix.report.build import build
from memfix.run.folder import Run
from memfix.run.header import UnlearnStage
from memfix.run.inputs import UnlearnInputs
from tests.conftest import picture
from tests.flow.test_recheck import Replaced

QUIET = Talk(quiet=True)
TOLD = {"structure": WitnessScore(value=0.9, reference="2.png", copy_=True)}


@pytest.fixture(scope="module")
def detected(tmp_path_factory: pytest.TempPathFactory, model_folder: Path, reference_folder: Path) -> Path:
    """A detection that finds nothing."""
    folder = tmp_path_factory.mktemp("review")
    (folder / "prompts.txt").write_text("disc\ncat\n")
    settings = DetectSettings(
        model=str(model_folder), references=str(reference_folder), num_samples=4, num_inference_steps=2,
        mixed_precision="no", measure="tiled_l2", threshold=1e-6, tolerance=0.7,
    )  # fmt: skip
    return detect(str(folder / "prompts.txt"), settings, folder / "run", folder, [], QUIET).path


@pytest.fixture
def run(detected: Path, tmp_path: Path) -> Run:
    """A detection in which a witness disputes two samples of a prompt without copies."""
    run = Run.open(Path(shutil.copytree(detected, tmp_path / "run", ignore=shutil.ignore_patterns(".lock"))))
    dispute(run, "before", id_of("disc"), 2)
    with run.amending("detect"):  # as if so found
        pass
    return run


def dispute(run: Run, folder: str, prompt_id: str, count: int) -> None:
    scores = run.read(f"{folder}/scores.jsonl", Score)
    accused = [s.file_name for s in scores if s.prompt_id == prompt_id and not s.copy_][:count]
    assert len(accused) == count
    told = [s.model_copy(update={"witnesses": TOLD if s.file_name in accused else {}}) for s in scores]
    run.write(f"{folder}/scores.jsonl", told)


def verdict(run: Run, prompt_id: str) -> Verdict:
    return next(v for v in run.read("before/verdicts.jsonl", Verdict) if v.prompt_id == prompt_id)


def test_no_copy_lets_a_prompt_be_clean_once_all_are_judged(run: Run) -> None:
    first, second = disputed_samples(run)
    assert first.score.suspected == "2.png"
    left = review(run, {first.picture: False}, "Ada", QUIET)
    assert [p.score.judged for p in left] == [False, None]
    found = verdict(run, first.score.prompt_id)
    assert (found.verdict, found.copies, found.disputed) == (Label.UNDECIDED, 0, 1)
    assert "1 of 4 samples is disputed" in found.reason and "1 disputed sample judged by a person" in found.reason
    review(run, {second.score.file_name: False}, "Ada", QUIET)
    found = verdict(run, first.score.prompt_id)
    assert (found.verdict, found.copies, found.disputed) == (Label.CLEAN, 0, 0)
    run.require_intact("detect")
    kept = run.read("reviews.jsonl", Review)
    assert [(r.picture, r.copy_, r.by) for r in kept] == [(p.picture, False, "Ada") for p in (first, second)]
    assert kept[0].sha256 == sha256([run.path / first.picture]) and kept[0].time
    report = build(run)
    assert report.summary.disputed == 0
    assert [(d.judged, d.by) for d in report.disputed] == [(False, "Ada")] * 2


def test_a_copy_counts_and_a_later_word_replaces_an_earlier_one(run: Run) -> None:
    first, _ = disputed_samples(run)
    review(run, {first.picture: True}, "Ada", QUIET)
    found = verdict(run, first.score.prompt_id)
    assert (found.verdict, found.copies, found.reference) == (Label.MEMORIZED, 1, "2.png")
    detection = Detection.of(run)
    assert first.score.prompt_id in {v.prompt_id for v in detection.verdicts if v.verdict is Label.MEMORIZED}
    assert next(s for s in detection.scores if s.file_name == first.score.file_name).shows == "2.png"
    review(run, {first.picture: False}, "Bob", QUIET)
    assert verdict(run, first.score.prompt_id).copies == 0
    assert [r.by for r in run.read("reviews.jsonl", Review)] == ["Ada", "Bob"]


def test_only_disputed_samples_can_be_judged_and_a_changed_picture_loses_its_word(run: Run) -> None:
    first, second = disputed_samples(run)
    with pytest.raises(MemfixError, match=r"before/none\.png is no disputed sample"):
        review(run, {"before/none.png": True}, "Ada", QUIET)
    review(run, {first.picture: False, second.picture: False}, "Ada", QUIET)
    words = {r.sha256: r.copy_ for r in run.read("reviews.jsonl", Review)}
    picture(99).save(run.path / first.picture)
    again = {s.file_name: s for s in judged(run, "before", words)}
    assert again[first.score.file_name].judged is None and again[first.score.file_name].accused
    assert again[second.score.file_name].judged is False
    with pytest.raises(MemfixError, match="changed since the detect stage ended"):
        review(run, {first.picture: True}, "Ada", QUIET)


def test_outcomes_follow_what_was_said_of_samples_after(run: Run) -> None:
    """Of weights that show one picture for everything, which is damage until someone sees a copy in it."""
    settings = RecheckSettings(num_fresh=2, attacks="none")
    review(run, {disputed_samples(run)[0].picture: True}, "Ada", QUIET)  # now there is a target
    before = {c.prompt_id: c for c in recheck(run, settings, [], QUIET, Replaced())}
    assert before[id_of("disc")].outcome is Outcome.DAMAGED
    dispute(run, "after", id_of("disc"), 1)
    with run.amending("recheck"):
        pass
    picture = next(p.picture for p in disputed_samples(run) if p.picture.startswith("after/"))
    review(run, {picture: True}, "Ada", QUIET)
    change = {c.prompt_id: c for c in run.read("changes.jsonl", Change)}[id_of("disc")]
    assert (change.outcome, change.copies_same + change.copies_fresh) == (Outcome.PERSISTENT, 1)
    run.require_intact("detect", "recheck")
    assert [a == b for a, b in zip(run.read("changes.jsonl", Change), before.values(), strict=True)] == [False, True]


def test_what_is_said_of_samples_of_attacks_counts_as_well(run: Run) -> None:
    """Clean pictures gave none of them, so that a copy brings the picture back, and no copy acquits it."""
    review(run, {disputed_samples(run)[0].picture: True}, "Ada", QUIET)  # now there is a target
    recheck(run, RecheckSettings(num_fresh=2, attacks="none"), [], QUIET, Replaced())
    disc, name = id_of("disc"), "attacks/after-noised-disc.png"
    (run.path / "after/attacks").mkdir()
    picture(77).save(run.path / "after" / name)
    score = Score(
        file_name="disc.png", prompt_id=disc, seed=0, reference="1.png", measures={}, copy_=False, detail=0.1,
        witnesses=TOLD,
    )  # fmt: skip
    own = AttackResult(
        attack="noised", version=Version.AFTER, arm=Arm.TARGET, prompt_id=disc, text="disc", reference="1.png",
        unit="samples", curve=(AttackPoint(work=8, copies=0, samples=8, disputed=1),),
        doubtful=(DisputedSample(picture=f"after/{name}", point=0, score=score),),
    )  # fmt: skip
    clean = own.model_copy(
        update={"arm": Arm.CONTROL, "curve": (AttackPoint(work=8, copies=0, samples=8),), "doubtful": ()}
    )
    changes = [c.model_copy(update={"outcome": Outcome.UNDECIDED}) for c in run.read("changes.jsonl", Change)]
    with run.amending("recheck"):
        run.write("after/attacks.jsonl", [own, clean])
        run.write("changes.jsonl", changes)

    def told() -> Told:
        return what_attacks_say(run.read("after/attacks.jsonl", AttackResult), disc)

    assert told().untold
    listed = next(p for p in disputed_samples(run) if p.picture == f"after/{name}")
    assert listed.score.suspected == "2.png" and [d.sample.path for d in build(run).disputed][:1] == [f"after/{name}"]
    review(run, {"after-noised-disc.png": False}, "Ada", QUIET)
    assert told() == (None, None)
    assert [(d.sample.path, d.judged, d.by) for d in build(run).disputed if d.sample.path == f"after/{name}"] == [
        (f"after/{name}", False, "Ada")
    ]
    review(run, {f"after/{name}": True}, "Bob", QUIET)
    assert "brings it back after 8 samples, in 1 of 8" in (told().brought_back or "")
    run.require_intact("detect", "recheck")


def test_the_command_lists_and_takes_words_without_a_terminal(run: Run) -> None:
    first, second = disputed_samples(run)
    listed = CliRunner().invoke(app, ["review", str(run.path), "--json"])
    assert listed.exit_code == 0, listed.stderr
    assert [d["picture"] for d in json.loads(listed.stdout)["disputed"]] == [first.picture, second.picture]
    assert "2 disputed samples to be judged" in listed.output and "structure 0.900" in listed.output
    given = ["--copy", first.picture, "--no-copy", second.picture, "--by", "Ada", "--json"]
    done = CliRunner().invoke(app, ["review", str(run.path), *given])
    assert [d["judged"] for d in json.loads(done.stdout)["disputed"]] == [True, False]
    both = CliRunner().invoke(app, ["review", str(run.path), "--copy", "a", "--no-copy", "a"])
    assert both.exit_code == 2 and "cannot be both" in both.stderr


def test_on_a_terminal_each_open_sample_is_asked_for(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", StringIO("c\ns\n"))
    first, second = disputed_samples(run)
    assert _ask([first, second]) == {first.picture: True}
    monkeypatch.setattr("sys.stdin", StringIO("\nn\n"))
    assert _ask([first, second]) == {second.picture: False}


def test_a_prompt_that_becomes_memorized_after_the_unlearning_is_warned_of(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    first, _ = disputed_samples(run)
    unlearning = UnlearnStage(settings=UnlearnSettings(), inputs=UnlearnInputs(), status="finished")
    run.header.stages.unlearn = unlearning
    run.save()
    review(run, {first.picture: True}, "Ada", QUIET)
    assert "1 prompt is memorized now, and nothing of that was unlearned" in " ".join(capsys.readouterr().err.split())
