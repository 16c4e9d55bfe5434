"""How well samples fit their prompts: against pictures and texts one by one, on a tiny CLIP of open_clip's."""

import json
from pathlib import Path

import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.nn.functional import cosine_similarity

from memfix import flow
from memfix.config.checks import DetectSettings, RecheckSettings
from memfix.console import Talk
from memfix.errors import MemfixError
from memfix.flow.new_weights import NewWeights
from memfix.measures.clip import Clip
from memfix.measures.clip_score import BATCH, clip_scores
from memfix.records import Change, Score
from memfix.report.build import build
from memfix.run.folder import Run
from tests import tiny_clip
from tests.conftest import picture

TEXTS = {"p1": "a red disc", "p2": "two blue discs on a page", "p3": "sky"}


def one_by_one(model: str, folder: Path, names: list[str], text: str) -> float:
    """The definition, with open_clip's own parts."""
    name, _, path = model.partition("/")
    network, _, transform = open_clip.create_model_and_transforms(name)
    network.load_state_dict(load_file(path))
    network.eval()
    with torch.no_grad():
        words = network.encode_text(open_clip.get_tokenizer(name)([text]))
        found = []
        for file in names:
            found.append(cosine_similarity(network.encode_image(transform(Image.open(folder / file))[None]), words))
    return float(torch.cat(found).mean())


def test_mean_cosine_of_each_prompt(tmp_path: Path) -> None:
    model, scores = tiny_clip.make(tmp_path), []
    for i in range(BATCH + 8):  # more than a batch, prompts mixed
        picture(i).save(tmp_path / f"{i}.png")
        scores.append(
            Score(
                file_name=f"{i}.png",
                prompt_id=f"p{1 + i % 3}",
                seed=i,
                reference="r",
                measures={},
                copy=False,
                detail=0,
            )
        )
    found = clip_scores(Clip(model), TEXTS, scores, tmp_path)
    assert [(a.prompt_id, a.samples) for a in found] == [("p1", 24), ("p2", 24), ("p3", 24)]
    for a in found:
        names = [s.file_name for s in scores if s.prompt_id == a.prompt_id]
        assert a.mean == pytest.approx(one_by_one(model, tmp_path, names, TEXTS[a.prompt_id]), abs=2e-5)
        other = [one_by_one(model, tmp_path, names, TEXTS[i]) for i in TEXTS if i != a.prompt_id]
        assert a.others == pytest.approx(sum(other) / 2, abs=2e-5)
        assert a.lead == pytest.approx(a.mean - sum(other) / 2, abs=4e-5)
    assert len({a.mean for a in found}) == 3


@pytest.mark.slow
def test_a_run_tells_it_before_and_after(tmp_path: Path, model_folder: Path, reference_folder: Path) -> None:
    model = tiny_clip.make(tmp_path)
    (tmp_path / "prompts.txt").write_text("disc 1\n")
    (tmp_path / "controls.txt").write_text("sky\nsea\n")
    settings = DetectSettings(
        model=str(model_folder), references=str(reference_folder), controls=str(tmp_path / "controls.txt"),
        num_samples=2, num_inference_steps=2, clip_score=True, clip_model=model, measure="ssim",
    )  # fmt: skip
    run = flow.detect(str(tmp_path / "prompts.txt"), settings, tmp_path / "run", tmp_path, ["detect"], Talk())
    before = [json.loads(line) for line in (run.path / "before/clip_scores.jsonl").read_text().splitlines()]
    assert [a["samples"] for a in before] == [2, 2, 2]
    assert run.header.stages.detect.weights["clip"].sha256
    flow.recheck(
        run, RecheckSettings(num_fresh=2, attacks="none"), ["recheck"], Talk(), NewWeights.of(run, model=model_folder)
    )
    for change in Run.open(run.path).read("changes.jsonl", Change):
        told = next(a for a in before if a["prompt_id"] == change.prompt_id)
        assert change.damage.clip_lead_before == pytest.approx(told["mean"] - told["others"])
        assert change.damage.clip_lead_after is not None
    report = build(Run.open(run.path))
    entry = report.prompts[0]
    assert entry.clip_score_before == before[0]["mean"] and entry.clip_score_after is not None
    controls = [c.clip_score_before for c in report.controls]
    assert report.summary.control_clip_score_before == pytest.approx(sum(controls) / 2)
    page = flow.report(Run.open(run.path)).read_text()
    assert f": {entry.clip_score_before:.3f}, after: {entry.clip_score_after:.3f}" in page
    assert "It does not decide what a copy is." in page


def test_another_clip_after_the_detection_is_refused(
    tmp_path: Path, model_folder: Path, reference_folder: Path
) -> None:
    model = tiny_clip.make(tmp_path)
    (tmp_path / "prompts.txt").write_text("disc 1\n")
    settings = DetectSettings(
        model=str(model_folder), references=str(reference_folder), num_samples=1, num_inference_steps=2,
        clip_score=True, clip_model=model, measure="ssim",
    )  # fmt: skip
    run = flow.detect(str(tmp_path / "prompts.txt"), settings, tmp_path / "run", tmp_path, ["detect"], Talk())
    tiny_clip.make(tmp_path, seed=1)
    with pytest.raises(MemfixError, match="has changed since the detection"):
        flow.recheck(run, RecheckSettings(num_fresh=1), ["recheck"], Talk(), NewWeights.of(run, model=model_folder))
