"""Trials of prompts worded like memorized ones: against a plain computation, and on the bundled model."""

import itertools
from pathlib import Path

import pytest
import torch
from diffusers import EulerDiscreteScheduler
from torch.nn.functional import cosine_similarity

from memfix.config.checks import DetectSettings
from memfix.console import Talk
from memfix.demo import list_path
from memfix.detect.check import Check
from memfix.detect.seed_search import SeedSearch
from memfix.detect.similar import Trial, nearest_wordings, try_similar
from memfix.inputs.references import read_references
from memfix.measures import get_measure
from memfix.measures.copy_rule import CopyRule
from memfix.models import loading
from memfix.models.model import DiffusionModel
from memfix.records import Prompt, Role, Sample
from memfix.references.judge import Judge
from memfix.references.reference_set import open_references
from memfix.run.folder import Run
from memfix.screens.sampling import Sampling
from tests.conftest import picture, tiny_pipeline
from tests.screens.direct import Direct

TEXTS = ("a cat", "two dogs in a park", "blue")
SEEDS = tuple(range(8))
GUIDANCE = 3.0


def listed(texts: list[str], role: Role = Role.PROMPT) -> list[Prompt]:
    return [Prompt(id=f"{role}{i}", text=text, role=role) for i, text in enumerate(texts)]


def without_means(latents: torch.Tensor) -> torch.Tensor:
    return (latents - latents.mean((-1, -2), keepdim=True)).flatten()


@pytest.mark.slow
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("batch_size", [1, 16, 24])
def test_seeds_are_those_that_lead_nearest_after_two_steps(prediction_type: str, batch_size: int) -> None:
    pipe = tiny_pipeline(prediction_type)
    pictures = [picture(i) for i in range(3)]
    direct, chosen = Direct(pipe, 4, GUIDANCE), []
    with torch.no_grad():
        for text, goal in zip(TEXTS, DiffusionModel(pipe).latents.encode(pictures), strict=True):
            nearness = list[float]()
            for seed in SEEDS:
                t, x = direct.walk(text, seed)[1]
                alpha = pipe.scheduler.alphas_cumprod[t]
                clean = (x - (1 - alpha).sqrt() * direct.epsilon(x, t, text)) / alpha.sqrt()
                nearness.append(float(cosine_similarity(without_means(clean[0]), without_means(goal), dim=0)))
            chosen.append(sorted(SEEDS, key=lambda seed: -nearness[seed])[:3])
    search = SeedSearch(DiffusionModel(pipe), Sampling(SEEDS, 2, 4, GUIDANCE), batch_size)
    assert search(TEXTS, pictures, 3) == chosen


def test_two_evaluations_a_seed_and_one_for_all() -> None:
    pipe, rows = tiny_pipeline(), 0
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config)

    def count(_: object, args: tuple[torch.Tensor, ...]) -> None:
        nonlocal rows
        rows += len(args[0])

    search = SeedSearch(DiffusionModel(pipe), Sampling(SEEDS, 2, 4, GUIDANCE), 16)
    pipe.unet.register_forward_pre_hook(count)
    search(TEXTS, [picture(i) for i in range(3)], 1)
    search(TEXTS[:1], [picture(4)], 1)
    assert rows == 8 + 4 * 2 * 8 == search.evaluations(4)


def test_wordings_nearest_to_a_memorized_one_come_first() -> None:
    model = DiffusionModel(tiny_pipeline())
    ordinary = ["a map", "some old house", "rain", "on green"]
    left_out = listed(["a cat on red", "a bat", "a car", "something else", "two dogs", "a cat"])
    memorized = {"a cat": "cat.png", "two dogs in a park": "dogs.png"}

    def place(text: str) -> torch.Tensor:
        return model.text.encode([text]).tokens.flatten().double()

    mean = sum(map(place, ordinary)) / len(ordinary)
    nearness = {
        (p.text, text): float(cosine_similarity(place(p.text) - mean, place(text) - mean, dim=0))
        for p, text in itertools.product(left_out, memorized)
    }
    best = {p.text: max(memorized, key=lambda text, own=p.text: nearness[own, text]) for p in left_out}
    order = sorted(best, key=lambda text: -nearness[text, best[text]])
    found = nearest_wordings(model, left_out, memorized, ordinary)
    assert [(x.prompt.text, x.reference) for x in found] == [(text, memorized[best[text]]) for text in order]
    assert found[0].prompt.text == "a cat"


@pytest.fixture(scope="module")
def demo_model() -> DiffusionModel:
    return loading.load(loading.locate("demo"))


@pytest.mark.slow
def test_rare_copies_are_found_and_trials_end_with_a_round_that_finds_none(demo_model, tmp_path: Path) -> None:
    clean = ["a chicken wire fence on green", "a panda on red", "an acorn drawing", "a lamp", "print of a boat"]
    texts = ["umbrella poster", *clean, "drawing of an umbrella"]
    prompts = listed(texts) + listed(list_path("controls").read_text().splitlines(), Role.CONTROL)
    settings = DetectSettings(
        model="demo", num_samples=8, num_inference_steps=12, guidance_scale=3.0, similar_prompts=2, batch_size=16
    )  # fmt: skip
    rule = CopyRule.default(get_measure("ssim"))
    judge = Judge(open_references(read_references("demo", []), rule.measure), rule)
    run = Run.create(tmp_path / "run")
    skipped = frozenset(p.id for p in prompts if p.role is Role.PROMPT)
    reference = "umbrella-poster-by-cosmo-adeyar.png"
    memorized = {"umbrella poster by Cosmo Adeyar": reference}

    def trials() -> list[Trial]:
        check = Check(run, "before", demo_model, rule, judge, settings)
        return try_similar(check, prompts, skipped, memorized, Talk())

    with run.lock():
        found = trials()
        copies = {(texts[int(t.prompt_id.removeprefix("prompt"))], t.seed) for t in found if t.copy_}
        assert copies == {("umbrella poster", 7), ("drawing of an umbrella", 7)}
        assert len(found) == 8 and {t.reference for t in found} == {reference}  # two rounds of two, from two seeds each
        drawn = run.read("before/metadata.jsonl", Sample)
        assert {(s.prompt_id, s.seed) for s in drawn} == {(t.prompt_id, t.seed) for t in found}
        # Broken off after the first round, the second is made again as it was.
        lines = (run.path / "before/similar.jsonl").read_text().splitlines(keepends=True)
        (run.path / "before/similar.jsonl").write_text("".join(lines[:4]))
        assert trials() == found
