"""Detections on a tiny pipeline: what they read and leave out, and what later stages find again."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from memfix.config.checks import DetectSettings
from memfix.console import Talk
from memfix.errors import ExitCode, MemfixError
from memfix.findings import RuleRecord
from memfix.flow.detect import detect
from memfix.flow.detection import Detection, adapters_of, digest_of, identity_of, wanted
from memfix.inputs.opening import open_image
from memfix.measures.structure import Structure
from memfix.measures.weights import Wanted
from memfix.records import Label, Part, Prompt, Reference, Role, Sample, Score
from memfix.references.appearance import AS_DRAWN
from memfix.run.folder import Run
from memfix.run.header import DetectStage
from memfix.run.inputs import DetectInputs
from tests.conftest import TOKENS, picture
from tests.detected import detected_run
from tests.flow.working import opened

QUIET = Talk(quiet=True)


@pytest.fixture(scope="module")
def detected(tmp_path_factory: pytest.TempPathFactory, model_folder: Path, reference_folder: Path) -> Path:
    return detected_run(tmp_path_factory.mktemp("detection"), model_folder, reference_folder)


@pytest.fixture
def settings(model_folder: Path, reference_folder: Path, tmp_path: Path) -> DetectSettings:
    (tmp_path / "controls.txt").write_text("disc\nsea\n")
    return DetectSettings(
        model=str(model_folder), references=str(reference_folder), controls=str(tmp_path / "controls.txt"),
        num_samples=1, num_inference_steps=1, mixed_precision="no", measure="tiled_l2",
    )  # fmt: skip


def prompts(folder: Path, *texts: str) -> str:
    (folder / "prompts.txt").write_text("\n".join(texts) + "\n")
    return str(folder / "prompts.txt")


def test_a_control_that_is_on_the_list_is_a_prompt_and_long_prompts_are_told(
    settings: DetectSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = "x" * (TOKENS + 3)  # a letter is a token; two places are taken by the beginning and the end
    run = detect(prompts(tmp_path, "disc", long), settings, tmp_path / "run", tmp_path, [], QUIET)
    listed = run.read("prompts.jsonl", Prompt)
    assert [(p.text, p.role, p.cut_tokens) for p in listed] == [
        ("disc", Role.PROMPT, 0), (long, Role.PROMPT, 5), ("sea", Role.CONTROL, 0)
    ]  # fmt: skip
    assert "the prompt is 5 tokens too long" in " ".join(capsys.readouterr().err.split())


def test_blank_samples_make_no_prompt_clean(settings: DetectSettings, model_folder: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(model_folder, tmp_path / "blank"))
    weights = model / "vae/diffusion_pytorch_model.safetensors"
    state = load_file(weights)
    last = {name: torch.zeros_like(x) for name, x in state.items() if name.startswith("decoder.conv_out.")}
    save_file(state | last, weights, {"format": "pt"})
    chosen = settings.model_copy(update={"model": str(model), "num_samples": 16, "threshold": 1e-6})
    run = detect(prompts(tmp_path, "disc"), chosen, tmp_path / "run", tmp_path, [], QUIET)
    verdict = Detection.of(run).verdicts[0]
    assert last and verdict.verdict is Label.UNDECIDED and "100% of the samples are blank or noise" in verdict.reason


def test_a_finished_detection_is_left_as_it_is_and_other_settings_get_another_folder(
    settings: DetectSettings, tmp_path: Path
) -> None:
    listed = prompts(tmp_path, "disc")
    run = detect(listed, settings, None, tmp_path, [], QUIET)
    assert run.path.parent == tmp_path and run.path.name.startswith("prompts-")
    before = {p: p.stat().st_mtime_ns for p in run.path.rglob("before/*")}
    assert detect(listed, settings, None, tmp_path, [], QUIET).path == run.path
    assert before == {p: p.stat().st_mtime_ns for p in run.path.rglob("before/*")}
    other = settings.model_copy(update={"seed": 9})
    assert detect(listed, other, None, tmp_path, [], QUIET).path != run.path


def test_references_that_cannot_be_read_are_an_error_or_left_out_and_counted(
    settings: DetectSettings, reference_folder: Path, tmp_path: Path
) -> None:
    pictures = Path(shutil.copytree(reference_folder, tmp_path / "pictures"))
    (pictures / "2.png").write_bytes(b"no picture")
    broken = settings.model_copy(update={"references": str(pictures)})
    listed = prompts(tmp_path, "disc")
    with pytest.raises(MemfixError, match=r"2\.png"):
        detect(listed, broken, tmp_path / "refused", tmp_path, [], QUIET)
    some = detect(listed, broken.model_copy(update={"skip_invalid": True}), tmp_path / "run", tmp_path, [], QUIET)
    header = json.loads((some.path / "run.json").read_text())["stages"]["detect"]
    assert header["left_out_pictures"] == 1
    assert {r.file_name for r in Detection.of(some).references} == {"0.png", "1.png", "3.png"}


def test_an_unfinished_detection_is_no_detection(detected: Path, tmp_path: Path) -> None:
    with pytest.raises(MemfixError, match="is not finished"):
        Detection.of(Run.create(tmp_path / "empty"))
    shutil.copytree(detected, tmp_path / "run", ignore=shutil.ignore_patterns(".lock"))
    run = Run.open(tmp_path / "run")
    assert run.header.stages.detect is not None
    run.header.stages.detect.status = "started"
    with pytest.raises(MemfixError, match="is not finished"):
        Detection.of(run)


def test_samples_that_are_judged_again_get_the_scores_that_were_written_down(detected: Path, tmp_path: Path) -> None:
    detection = opened(detected, tmp_path / "run")
    assert len(detection.samples) == len(detection.scores) == 4 * len(detection.prompts) == 16
    images = [open_image(detection.folder / s.file_name) for s in detection.samples]
    again = {s.file_name: s for s in detection.judge().score(detection.samples, images)}
    for old in detection.scores:
        new = again[old.file_name]
        assert (new.reference, new.measures) == (old.reference, pytest.approx(old.measures, abs=1e-5))
    assert detection.rule.threshold == detection.settings.threshold
    found = {v.prompt_id for v in detection.verdicts if v.verdict is Label.MEMORIZED}
    assert {p.id for role in Role for p in detection.memorized(role)} == found
    detection.require_unchanged()  # nothing was touched


def half_copied(seed: int) -> Image.Image:
    """The left half is that of picture 3; the right half is anything."""
    made = picture(seed)
    made.paste(picture(3).crop((0, 0, 32, 64)), (0, 0))
    return made


def part_copied(folder: Path) -> Detection:
    """A detection that is written by hand: no sample passes its threshold, and those of p1 copy a half of picture 3."""
    run = Run.create(folder / "run")
    for i in (3, 4):
        picture(i).save(folder / f"{i}.png")
    run.write("references.jsonl", [Reference(file_name=f"{i}.png", path=str(folder / f"{i}.png")) for i in (3, 4)])
    (run.path / "before").mkdir()
    scores = []
    for i in range(4):
        half_copied(10 + i).save(run.path / f"before/{i}.png")
        part = Part(reference="3.png", area=0.5, likeness=1.0)
        scores.append(
            Score(
                file_name=f"{i}.png", prompt_id="p1", seed=i, reference="4.png", measures={"tiled_l2": 0.5}, copy_=True,
                part=part, detail=0.1,
            )
        )  # fmt: skip
    run.write("before/scores.jsonl", scores)
    run.header.stages.detect = DetectStage(
        settings=DetectSettings(measure="tiled_l2"), status="finished",
        inputs=DetectInputs(
            prompts="0", model_sha256="0", model_config_sha256="0", references="0", index=None, measure="0"
        ),
        rule=RuleRecord(measure="tiled_l2", threshold=0.0, source="nothing passes it"),
    )  # fmt: skip
    return Detection.of(run)


def test_the_judge_of_later_stages_knows_which_parts_were_copied(tmp_path: Path) -> None:
    """Without that, a single sample that still copies the part would be no copy, and its prompt mitigated."""
    judge = part_copied(tmp_path).judge()
    samples = [
        Sample(file_name=f"{i}-{c}.png", text="t", prompt_id=i, condition=c, seed=0, steps=1, guidance=1)
        for i, c in (("p1", "same"), ("p1", "shorten0"), ("p1", "fresh"), ("p2", "same"))
    ]
    found = judge.score(samples, [half_copied(20), half_copied(21), picture(22), half_copied(23)])
    assert [s.copy_ for s in found] == [True, True, False, False]  # the third copies nothing; p2 is another prompt
    assert [s.shows for s in found[:2]] == ["3.png", "3.png"]


def test_the_identity_of_a_model_has_its_adapter(detected: Path, tmp_path: Path) -> None:
    detection = opened(detected, tmp_path / "run")
    bare = identity_of(detection.source, detection.settings)
    assert bare["adapter_sha256"] is None and adapters_of(detection.settings) == []
    assert bare["model_sha256"] == detection.stage.inputs.model_sha256
    model = detection.model()
    model.adapters.add(2)
    model.adapters.save(tmp_path / "lora")
    settings = detection.settings.model_copy(update={"adapter": (str(tmp_path / "lora"),)})
    assert identity_of(detection.source, settings)["adapter_sha256"] is not None
    assert adapters_of(settings) == [(tmp_path / "lora", 1.0)]


def test_prompts_are_known_by_their_texts_and_order() -> None:
    a, b = Prompt(id="p0001", text="disc"), Prompt(id="p0002", text="cat")
    assert digest_of([a, b]) == digest_of([a.model_copy(), b])
    assert len({digest_of(x) for x in ([a, b], [b, a], [a], [a.model_copy(update={"text": "disk"}), b])}) == 4


def test_weights_without_an_index_are_the_usual_ones_or_those_given() -> None:
    assert wanted(DetectSettings(), None) == Wanted()
    given = DetectSettings(sscd_weights="demo", clip_model="A/b", trust_weights=True)
    assert wanted(given, None) == Wanted("demo", "A/b", True)


def test_what_failed_before_anything_was_sampled_may_be_given_anew(
    tmp_path: Path, model_folder: Path, reference_folder: Path
) -> None:
    """The hint of the error is no good if its own run refuses what it says."""
    folder = Path(shutil.copytree(reference_folder, tmp_path / "references"))
    (folder / "broken.png").write_bytes(b"no picture")
    (tmp_path / "prompts.txt").write_text("disc\n")
    settings = DetectSettings(
        model=str(model_folder), references=str(folder), num_samples=2, num_inference_steps=2, measure="tiled_l2",
        mixed_precision="no",
    )  # fmt: skip

    def again(**changed: object) -> Run:
        return detect(
            str(tmp_path / "prompts.txt"), settings.model_copy(update=changed), tmp_path / "run", tmp_path, [],
            Talk(quiet=True),
        )  # fmt: skip

    with pytest.raises(MemfixError, match=r"broken\.png") as caught:
        again()
    assert "--skip-invalid" in caught.value.hint
    run = again(skip_invalid=True, num_samples=3)
    stage = Detection.of(run).stage
    assert (stage.left_out_pictures, stage.settings.num_samples, len(Detection.of(run).samples)) == (1, 3, 3)
    with pytest.raises(MemfixError, match="started with other settings"):  # now there is something to lose
        again(skip_invalid=True)


@pytest.mark.parametrize(
    ("measure", "threshold"), [("ssim", 1.5), ("ssim", -2.0), ("tiled_l2", -0.1)], ids=["above", "below", "distance"]
)
def test_a_threshold_that_no_sample_could_pass_is_refused(
    measure: str, threshold: float, tmp_path: Path, model_folder: Path
) -> None:
    (tmp_path / "prompts.txt").write_text("disc\n")
    settings = DetectSettings(model=str(model_folder), measure=measure, threshold=threshold)
    with pytest.raises(MemfixError, match="is out of reach") as caught:
        detect(str(tmp_path / "prompts.txt"), settings, tmp_path / "run", tmp_path, [], Talk(quiet=True))
    assert caught.value.exit_code is ExitCode.USAGE and not (tmp_path / "run").exists()


def test_samples_without_anything_to_be_held_against_are_refused(tmp_path: Path, model_folder: Path) -> None:
    """Nothing was memorized, so that no sample stands in for a training image either."""
    (tmp_path / "prompts.txt").write_text("disc\n")
    settings = DetectSettings(
        model=str(model_folder), num_samples=3, num_inference_steps=2, measure="tiled_l2", threshold=0.0,
        mixed_precision="no",
    )  # fmt: skip
    run = detect(str(tmp_path / "prompts.txt"), settings, tmp_path / "run", tmp_path, [], Talk(quiet=True))
    with pytest.raises(MemfixError, match="nothing that samples of other weights could be held against") as caught:
        Detection.of(run).judge()
    assert "--references" in caught.value.hint


def test_witnesses_are_recorded_and_heard_again(detected: Path) -> None:
    detection = Detection.of(Run.open(detected))
    [recorded] = detection.stage.witnesses
    [rule] = detection.judge().witnesses
    assert recorded.measure == rule.measure.name == "structure"
    assert recorded.threshold == rule.threshold >= recorded.default == 0.7
    assert all({*s.witnesses} == {"structure"} for s in detection.scores)


def test_witnesses_see_references_as_the_model_draws_them(detected: Path, tmp_path: Path) -> None:
    """Also where what they were described as is gone, and must be drawn again."""
    run = Run.open(Path(shutil.copytree(detected, tmp_path / "run")))
    detection = Detection.of(run)
    assert detection.stage.drawn
    kept, pictures = run.path / "references.safetensors", [open_image(r.path) for r in detection.references]
    with safe_open(kept, "pt") as file:
        told, before = file.metadata(), file.get_tensor("structure")
    assert told["structure"].endswith(AS_DRAWN) and AS_DRAWN not in told["ssim"]
    drawn = detection.model().latents.drawn(pictures)
    torch.testing.assert_close(before, Structure().features(drawn), atol=0, rtol=0)
    again = detection.judge().references.nearest(drawn).witnesses["structure"]
    assert again[0] == [r.file_name for r in detection.references] and again[1].min() > 0.999
    kept.unlink()
    anew = Detection.of(run).judge().references.nearest(drawn).witnesses["structure"]
    torch.testing.assert_close(anew[1], again[1])


def test_a_witness_of_other_weights_is_refused(detected: Path) -> None:
    run = Run.open(detected)
    assert run.header.stages.detect
    [witness] = run.header.stages.detect.witnesses
    run.header.stages.detect.witnesses = [witness.model_copy(update={"identity": "other weights"})]
    with pytest.raises(MemfixError, match="measure structure changed"):
        _ = Detection.of(run).witnesses
