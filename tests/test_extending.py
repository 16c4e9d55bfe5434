"""Each example of docs/extending.md is run as it stands there, and does what the page says of it."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from detected import detected_run
from jinja2 import ChoiceLoader, DictLoader
from PIL import ImageOps
from transformers import CLIPTextConfig, CLIPTextModel
from unlearn.tiny import Net, bank_of, gradient, parts, taken

from memfix import flow, measures, screens
from memfix.config.checks import DetectSettings, RecheckSettings
from memfix.config.unlearn import UnlearnSettings
from memfix.console import Talk
from memfix.errors import MemfixError
from memfix.flow.new_weights import NewWeights
from memfix.measures import descriptor, get_measure
from memfix.measures.copy_rule import CopyRule
from memfix.models import loading
from memfix.models.model import DiffusionModel
from memfix.models.sampling import plan_samples
from memfix.recheck.attacks import table as attack_table
from memfix.recheck.attacks.base import Attacked, Bench
from memfix.recheck.attacks.compare import what_attacks_say
from memfix.recheck.attacks.runner import AttackRunner, Front
from memfix.records import Arm, AttackResult, Label, Prompt, Reference, Score, Verdict, Version
from memfix.references.in_memory import HeldReferences
from memfix.references.judge import Judge
from memfix.report import html, sections
from memfix.report.schema import Report
from memfix.run.folder import Run
from memfix.screens.base import Screen
from memfix.screens.sampling import Sampling
from memfix.unlearn.data.bank import Batch
from memfix.unlearn.data.draws import Draw
from memfix.unlearn.objective import methods
from memfix.unlearn.objective.terms import View, denoise_keep
from memfix.unlearn.train.trainer import Trainer
from memfix.variants import table
from tests.conftest import TOKENS, picture, tiny_pipeline

PAGE = Path(__file__).parent.parent / "docs/extending.md"
TABLES: list[tuple[ModuleType, str]] = [
    (methods, "METHODS"), (measures, "MEASURES"), (descriptor, "DESCRIPTORS"), (screens, "SCREENS"),
    (table, "VARIANT_KINDS"), (attack_table, "ATTACKS"), (loading, "FAMILIES"), (sections, "SECTIONS"),
]  # fmt: skip
HEADINGS = [
    "An unlearning method", "An embedding measure", "A screen", "A kind of variant", "An attack of the re-check",
    "A model family", "A section of the report",
]  # fmt: skip
SETTINGS = DetectSettings(num_inference_steps=2, guidance_scale=3.0, mixed_precision="no", num_samples=2)


def example(heading: str, language: str = "python") -> str:
    """The code under a heading of the page, all blocks of one language together."""
    [part] = re.findall(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.S | re.M)
    return "\n".join(re.findall(rf"```{language}\n(.*?)```", part, re.S))


@pytest.fixture
def run_example(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Run the example under a heading, and give its names; the tables are put back afterwards."""
    for module, name in TABLES:
        monkeypatch.setattr(module, name, dict(getattr(module, name)))

    def run(heading: str) -> dict[str, Any]:
        names: dict[str, Any] = {}
        exec(compile(example(heading), f"{PAGE.name}: {heading}", "exec"), names)
        return names

    yield run


def tiny_model() -> DiffusionModel:
    pipe = tiny_pipeline()
    pipe.set_progress_bar_config(disable=True)
    return DiffusionModel(pipe)


def test_every_section_with_an_example_is_tested_here() -> None:
    found = re.findall(r"^## (.*)$", PAGE.read_text(), re.M)
    assert [heading for heading in found if example(heading)] == HEADINGS


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_method_has_the_gradient_that_the_page_tells(run_example: Any, kind: str) -> None:
    run_example("An unlearning method")
    method, settings = methods.get_method("grey"), UnlearnSettings(forget_weight=0.3)
    model, bank, view = Net(), bank_of(kind), View(kind)
    batch = bank.draw(Draw(3), 10, 3, 0.5, (0, len(bank.schedule)))
    items = batch.forget_half
    answer = model.network(items.noisy, items.t, items.conditioning)
    signal, noise = (v.float().reshape(-1, 1, 1, 1) for v in (items.signal, items.noise))
    # x = 0: ε = a/σ, and v = γε - σx
    wanted = items.noisy / noise * (signal if kind == "v_prediction" else 1)
    forget = gradient(model, (answer - wanted).square().flatten(1).sum(1).mean())
    keep = gradient(model, denoise_keep(batch, model.network, view))
    assert forget.norm() > 1e-3
    composition = method.compose(settings)
    assert composition.keep and composition.forget and composition.combine
    sides = []
    for term in (composition.keep, composition.forget):
        model.zero_grad()
        term(batch, model.network, view).backward()
        sides.append([p.grad.clone() if p.grad is not None else torch.zeros_like(p) for p in model.parameters()])
    composition.combine(*sides)
    torch.testing.assert_close(
        torch.cat([g.flatten() for g in sides[1]]), keep + 0.3 * forget, rtol=1e-4, atol=1e-4 * float(keep.norm())
    )


def test_method_trains(run_example: Any) -> None:
    """Two steps of the real trainer, and what they are for: less error against the grey page."""
    names = run_example("An unlearning method")
    model, bank = Net(), bank_of("epsilon")
    settings = UnlearnSettings(
        weights="full",
        max_train_steps=30,
        learning_rate=0.01,
        train_batch_size=10,
        prior_batch_size=3,
        forget_weight=5.0,
    )
    batch: Batch = bank.draw(Draw(9), 40, 3, 0.5, (0, len(bank.schedule)))
    before = float(names["grey_forget"](batch, model.network, View("epsilon")).detach())
    steps = list(Trainer(*parts(model), bank, methods.get_method("grey"), settings, "no", ()))
    assert [s.step for s in steps] == list(range(1, 31)) and taken(model).isfinite().all()
    assert float(names["grey_forget"](batch, model.network, View("epsilon")).detach()) < 0.9 * before


def test_method_is_refused_without_what_it_needs_and_without_its_setting(run_example: Any) -> None:
    from memfix.unlearn.data.bank import Bank, Target
    from memfix.unlearn.reading import check_settings

    run_example("An unlearning method")
    method, bank = methods.get_method("grey"), bank_of("epsilon")
    check_settings(method, UnlearnSettings(forget_weight=0.3), ["forget_weight"])
    with pytest.raises(MemfixError, match="does not use nearest_keep"):
        check_settings(method, UnlearnSettings(nearest_keep=3), ["nearest_keep"])
    with pytest.raises(MemfixError, match="nothing to keep"):
        methods.check_data(method, Bank([Target("a", bank.targets[0].forget)], [], bank.texts, bank.schedule))


def test_measure_scores_a_pair_and_decides(run_example: Any, tmp_path: Path) -> None:
    run_example("An embedding measure")
    palette = get_measure("palette")
    images = [picture(0), ImageOps.mirror(picture(0)), picture(1)]
    features = palette.features(images)
    torch.testing.assert_close(torch.linalg.vector_norm(features, dim=1), torch.ones(3))
    assert torch.equal(features, torch.cat([palette.features([image]) for image in images]))
    same, other = palette.compare(features[:1], features[1:])[0].tolist()
    assert same == pytest.approx(1) and other < 0.9
    images[0].save(tmp_path / "0.png")
    held = HeldReferences([Reference(file_name="0.png", path=str(tmp_path / "0.png"))], palette)
    samples = plan_samples([Prompt(id="p", text="disc")], range(2), steps=1, guidance=1)
    scores = Judge(held, CopyRule.default(palette)).score(samples, images[1:])
    assert [score.copy_ for score in scores] == [True, False]


def test_measure_serves_a_detection(
    run_example: Any, tmp_path: Path, model_folder: Path, reference_folder: Path
) -> None:
    run_example("An embedding measure")
    (tmp_path / "prompts.txt").write_text("disc\n")
    settings = SETTINGS.model_copy(
        update={"model": str(model_folder), "references": str(reference_folder), "measure": "palette"}
    )
    run = flow.detect(str(tmp_path / "prompts.txt"), settings, tmp_path / "run", tmp_path, [], Talk(quiet=True))
    assert all("palette" in score.measures for score in run.read("before/scores.jsonl", Score))
    assert [v.measure for v in run.read("before/verdicts.jsonl", Verdict)] == ["palette"]


def test_screen_ranks_by_what_the_page_tells(run_example: Any) -> None:
    run_example("A screen")
    model, texts, sampling = tiny_model(), ["a cat", "dog", "an owl"], Sampling((3, 4, 5), 1, 4, 3.0)
    screen = screens.get_screen("strongest")
    assert isinstance(screen, Screen) and screen.evaluations(sampling) == 2
    time, wanted = model.timesteps(4)[0], []
    with torch.no_grad():
        found = screen(model, texts, sampling)
        for text in texts:
            pulls = []
            for seed in sampling.seeds:
                x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(seed))
                told, untold = (model.denoiser.predict(x, time, model.text.encode([t])) for t in (text, None))
                pulls.append(float((told - untold).norm()))
            wanted.append(max(pulls))
    torch.testing.assert_close(found, torch.tensor(wanted), rtol=1e-4, atol=1e-6)
    assert len(set(found.tolist())) == 3  # it tells prompts apart


def test_kind_of_variant_yields_wordings(run_example: Any) -> None:
    names = run_example("A kind of variant")
    [kind] = table.get_kinds("again")
    variants = kind.vary(names["Subject"]("an owl", tiny_model(), SETTINGS))
    assert [v.wording for v in variants] == ["an owl, an owl", "an owl, an owl, an owl"]
    assert len(variants) <= kind.most


def test_attack_brings_back_what_the_plain_prompt_does_not_show(run_example: Any, tmp_path: Path) -> None:
    """The training image is what the model draws of half of the prompt's embedding; a clean one is none of that."""
    run_example("An attack of the re-check")
    [attack] = attack_table.get_attacks(RecheckSettings(attacks="faded"))
    model, tiled = tiny_model(), get_measure("tiled_l2")
    bench = Bench(model, SETTINGS, lambda one, other: False, {}, [], samples=2, seed=900)
    own, empty = (model.text.encode([text]) for text in ("owl", None))
    halfway = replace(own, tokens=(own.tokens + empty.tokens) / 2)
    plan = plan_samples([Prompt(id="p", text="owl")], [901], steps=2, guidance=3.0)
    drawn = {"r.png": model.sample(plan, "no", {("p", "same"): halfway})[0], "clean.png": picture(7)}
    for name, image in drawn.items():
        image.save(tmp_path / name)
    held = HeldReferences([Reference(file_name=name, path=str(tmp_path / name)) for name in drawn], tiled)
    judge, saved = Judge(held, CopyRule(tiled, 1e-3, "test")), []
    target, clean = (
        Attacked(Prompt(id=i, text=text), name, drawn[name], next(iter(model.latents.encode([drawn[name]]))))
        for i, text, name in (("p", "owl", "r.png"), ("clean0001", "sky", "clean.png"))
    )
    plain = bench.sample(target, 2, "plain")
    assert not any(score.copy_ for score in judge.score(plain.samples, plain.images))

    def save(name: str, image: Any) -> str:
        saved.append(name)
        return name

    runner = AttackRunner(bench, judge, {}, save)
    [found] = runner(attack, Front(Version.AFTER, Arm.TARGET, [target]))
    [forced] = runner(attack, Front(Version.AFTER, Arm.CONTROL, [clean]))
    assert [(p.work, p.copies, p.samples) for p in found.curve] == [(2, 0, 2), (4, 1, 2)]  # and no third attempt
    assert [(p.work, p.copies) for p in forced.curve] == [(2, 0), (4, 0), (6, 0)]
    assert saved[0] == "after-faded-p-faded50-901.png"  # the copy first
    told = what_attacks_say([found, forced], "p").brought_back
    assert told and told.startswith("the attack faded brings it back after 4 samples, in 1 of 2 samples")


@pytest.mark.slow
def test_attack_is_made_by_a_recheck_when_it_is_named(
    run_example: Any, tmp_path: Path, model_folder: Path, reference_folder: Path
) -> None:
    run_example("An attack of the re-check")
    run = Run.open(detected_run(tmp_path, model_folder, reference_folder, controls=False))
    settings = RecheckSettings(attacks="faded", num_fresh=1, attack_samples=1, control_pictures=1)
    changes = flow.recheck(run, settings, [], Talk(quiet=True), NewWeights.of(run, model=model_folder))
    results = run.read("after/attacks.jsonl", AttackResult)
    targets = {c.prompt_id for c in changes if c.before is Label.MEMORIZED}
    assert targets and {r.prompt_id for r in results if r.version is Version.AFTER and r.arm is Arm.TARGET} == targets
    assert {r.attack for r in results} == {"faded"} and {r.version for r in results} == set(Version)
    assert all(r.curve and r.unit == "samples" for r in results)
    stage = run.header.stages.recheck
    assert stage is not None and stage.attacks == ["faded"]
    assert "<td>faded</td>" in flow.report(run).read_text()


def test_family_is_loaded_sampled_and_asked(run_example: Any, tmp_path: Path) -> None:
    pipe = tiny_pipeline()
    config = CLIPTextConfig(**pipe.text_encoder.config.to_dict() | {"num_hidden_layers": 2})
    pipe.register_modules(text_encoder=CLIPTextModel(config))
    pipe.save_pretrained(tmp_path)
    usual = loading.load(loading.locate(str(tmp_path)))
    run_example("A model family")
    model = loading.load(loading.locate(str(tmp_path)))
    told = model.text.encode(["a cat", "dog"])
    ids = pipe.tokenizer(["a cat", "dog"], padding="max_length", max_length=TOKENS, return_tensors="pt").input_ids
    with torch.no_grad():
        states = pipe.text_encoder(ids, output_hidden_states=True).hidden_states
        last = getattr(pipe.text_encoder, "text_model", pipe.text_encoder).final_layer_norm
        torch.testing.assert_close(told.tokens, last(states[-2]))
    assert not torch.allclose(told.tokens, usual.text.encode(["a cat", "dog"]).tokens, atol=1e-3)
    plan = plan_samples([Prompt(id="p", text="a cat")], [0, 1], steps=2, guidance=3.0)
    pairs = zip(model.sample(plan, "no"), usual.sample(plan, "no"), strict=True)
    assert all(one.tobytes() != other.tobytes() for one, other in pairs)


def test_section_appears_on_the_page(
    run_example: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model_folder: Path, reference_folder: Path
) -> None:
    run_example("A section of the report")
    template = {"sections/most_copied.html.j2": example("A section of the report", "jinja")}
    monkeypatch.setattr(html, "TEMPLATES", ChoiceLoader([DictLoader(template), html.TEMPLATES]))
    run = Run.open(detected_run(tmp_path, model_folder, reference_folder))
    page = flow.report(run).read_text()
    copies = [score.shows for score in run.read("before/scores.jsonl", Score) if score.copy_]
    most = max(copies, key=copies.count)
    assert "<h2>Most copied references</h2>" in page
    assert f"<dt>{most}</dt><dd>{copies.count(most)} sample" in page
    assert "What could not be read" not in page  # nothing was left out
    told = Report.model_json_schema()["properties"]["sections"]["properties"]["most_copied"]
    assert told["properties"]["samples"]["description"].startswith("file name of a reference")
