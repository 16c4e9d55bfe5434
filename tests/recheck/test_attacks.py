"""Every attack on a real, tiny pipeline; the arithmetic of those that have some; and what they leave behind."""

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from memfix.config.checks import DetectSettings, RecheckSettings
from memfix.demo import MODEL
from memfix.errors import MemfixError
from memfix.measures.copy_rule import CopyRule
from memfix.measures.pixels import TiledL2
from memfix.models import loading
from memfix.models.ddim import denoise, invert
from memfix.models.replicas import copied
from memfix.recheck.attacks import deployment, pictures, relearning, wordings
from memfix.recheck.attacks.base import Attack, Attacked, Bench, one_by_one
from memfix.recheck.attacks.compare import is_beyond, what_attacks_say
from memfix.recheck.attacks.embedding import (
    BATCH,
    LEARNING_RATE,
    from_clean,
    from_noise,
    from_prompt,
    optimisation,
    optimised,
)
from memfix.recheck.attacks.runner import AttackRunner, Front
from memfix.recheck.attacks.table import ATTACKS, get_attacks
from memfix.records import Arm, AttackPoint, AttackResult, Prompt, Reference, Version, WitnessScore
from memfix.references.in_memory import HeldReferences
from memfix.references.judge import Judge
from memfix.variants.wordings import framed
from tests.conftest import picture

SETTINGS = DetectSettings(
    model="m", num_inference_steps=2, guidance_scale=3.0, mixed_precision="no", measure="tiled_l2", batch_size=3
)


@pytest.fixture
def bench(model_folder: Path) -> Bench:
    model = loading.load(loading.locate(str(model_folder)))
    clean = [(Prompt(id=f"c{i}", text=f"sky {i}"), picture(10 + i)) for i in range(2)]
    original = {name: value.clone() for name, value in model.denoiser.module.state_dict().items()}
    return Bench(model, SETTINGS, lambda a, b: a.size == b.size, original, clean, 2, 900)


def attacked(bench: Bench, prompt_id: str = "p1") -> Attacked:
    image = picture(1)
    (latent,) = bench.model.latents.encode([image])
    return Attacked(Prompt(id=prompt_id, text="a red disc by me"), "r.png", image, latent)


def weights(bench: Bench) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in bench.model.denoiser.module.parameters()])


@pytest.mark.parametrize("name", [n for n in ATTACKS if not n.startswith(("embedding-", "relearn"))])
@pytest.mark.slow
def test_every_attack_makes_pictures_and_leaves_the_model_as_it_was(name: str, bench: Bench) -> None:
    before, told = weights(bench), attacked(bench)
    four = SETTINGS.model_copy(update={"num_inference_steps": 4})  # so that a quarter of the noise is a step
    attempts = list(ATTACKS[name].attempts([told], replace(bench, settings=four)))
    assert bool(attempts) is (name != "frame")  # of which this kind of model is not told: tests/flow/test_xl_runs.py
    work = [a.work for a in attempts]
    assert work == sorted(set(work)) and all(work)  # a curve: work only grows
    for attempt in attempts:
        assert attempt.prompt_id == "p1" and len(attempt.samples) == len(attempt.images) > 0
        if name != "size":
            assert all(image.size == bench.model.latents.picture_size[::-1] for image in attempt.images)
        assert all(s.seed >= 900 for s in attempt.samples)
    conditions = [a.samples[0].condition for a in attempts]
    assert len(set(conditions)) == len(conditions)
    assert torch.equal(weights(bench), before)
    assert not any(p.requires_grad for p in bench.model.denoiser.module.parameters())


@pytest.mark.parametrize("name", [n for n in ATTACKS if not n.startswith("embedding-")])
@pytest.mark.slow
def test_attacks_draw_the_same_of_weights_that_are_held_in_half_precision(
    name: str, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a GPU holds them. Those that change weights change the full ones."""
    monkeypatch.setattr(relearning, "BENIGN_STEPS", (1, 2))
    monkeypatch.setattr(relearning, "ONE_STEPS", (1, 3))
    bf16, told = replace(bench, settings=SETTINGS.model_copy(update={"mixed_precision": "bf16"})), attacked(bench)

    def drawn() -> list[bytes]:
        return [image.tobytes() for a in ATTACKS[name].attempts([told], bf16) for image in a.images]

    full = drawn()
    bench.model.denoiser.hold_in(torch.bfloat16)
    assert drawn() == full
    assert bench.model.denoiser.module.conv_in.weight.dtype == torch.bfloat16


@pytest.mark.parametrize("name", ["embedding", "strength", "precision", "relearn-clean", "relearn-one"])
@pytest.mark.slow
def test_attacks_that_train_go_with_two_encoders(
    name: str, bench: Bench, xl_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To their end, with the size and crop that stay as they are told; the weights stay, and stay frozen."""
    monkeypatch.setattr(relearning, "BENIGN_STEPS", (1, 2))
    monkeypatch.setattr(relearning, "ONE_STEPS", (1, 3))
    model = loading.load(loading.locate(str(xl_folder)))
    original = {name: value + 0.1 for name, value in model.denoiser.module.state_dict().items()}
    of_xl = replace(bench, model=model, original=original)
    before, plain = weights(of_xl), of_xl.sample(attacked(of_xl), 1, "same").images
    attempts = list(ATTACKS[name].attempts([attacked(of_xl)], of_xl))
    points = {"embedding": [50], "strength": [2, 4, 6, 8], "precision": [2, 4, 6]}
    assert [a.work for a in attempts] == points.get(name, [1, 2] if name == "relearn-clean" else [1, 3])
    assert all(a.images[0].tobytes() != plain[0].tobytes() for a in attempts)
    assert torch.equal(weights(of_xl), before)
    assert not any(p.requires_grad for p in model.denoiser.module.parameters())


def test_wordings_are_other_texts_and_none_comes_twice(bench: Bench) -> None:
    texts = [sample.text for a in wordings.reworded(attacked(bench), bench) for sample in a.samples]
    assert len(texts) == len(set(texts)) and "a red disc by me" not in texts
    assert any(sorted(t.split()) == sorted(["a", "red", "disc", "by", "me"]) for t in texts)  # in another order


@pytest.mark.parametrize("start", [from_prompt, from_noise, from_clean])
def test_embeddings_are_optimised_by_adam_on_the_denoising_loss(start, bench: Bench) -> None:
    """Three steps against plain autograd and torch's own Adam, with the draws made again by hand."""
    told = attacked(bench)
    first, again = start(told, bench), start(told, bench)
    assert torch.equal(first.tokens, again.tokens)  # both arms begin alike
    steps = optimisation(told, bench, first)
    found = [next(steps) for _ in range(3)]

    model, generator = bench.model, torch.Generator().manual_seed(900 + sum(b"p1"))
    y = first.tokens.clone().requires_grad_()
    adam = torch.optim.Adam([y], lr=LEARNING_RATE)
    for step in found:
        t = torch.randint(1000, (BATCH,), generator=generator)
        noise = torch.randn(BATCH, *told.latent.shape, generator=generator)
        alpha = model.schedule.signal_scale[t].float().reshape(-1, 1, 1, 1)
        noisy = alpha * told.latent + (1 - alpha**2).sqrt() * noise
        unet = model.denoiser.module
        loss = (unet(noisy, t, encoder_hidden_states=y.expand(BATCH, -1, -1)).sample - noise).square().mean()
        adam.zero_grad()
        (1024 * loss).backward()
        adam.step()
        torch.testing.assert_close(step, y.detach(), rtol=1e-3, atol=1e-4)
    assert not any(p.grad is not None for p in unet.parameters())


def test_starts_differ(bench: Bench) -> None:
    told = attacked(bench)
    tokens = [start(told, bench).tokens for start in (from_prompt, from_noise, from_clean)]
    assert all(a.shape == b.shape and not torch.equal(a, b) for a, b in itertools.pairwise(tokens))


def test_inversion_by_hand_and_back(bench: Bench) -> None:
    """A denoiser that sees the same noise everywhere: x_t = γ_t x + σ_t ε at every level, up and down."""
    told, model = attacked(bench), bench.model
    with torch.no_grad():
        model.denoiser.module.conv_out.weight.zero_()
        model.denoiser.module.conv_out.bias.copy_(eps := torch.tensor([0.5, -1.0, 2.0, 0.0]))
    noise = invert(model, told.prompt.text, told.latent[None], 7, "no")
    signal, scale = (float(v[-1]) for v in (model.schedule.signal_scale, model.schedule.noise_scale))
    torch.testing.assert_close(noise[0], signal * told.latent + scale * eps.reshape(4, 1, 1), rtol=1e-4, atol=1e-4)
    back = denoise(model, told.prompt.text, noise, 5, 3.0, "no")
    torch.testing.assert_close(back[0], told.latent, rtol=1e-3, atol=1e-3)


def test_half_of_a_picture_stays_as_given_and_only_the_rest_is_compared(bench: Bench) -> None:
    told, seen = attacked(bench), list[tuple[Image.Image, Image.Image]]()

    def compare(one: Image.Image, other: Image.Image) -> bool:
        seen.append((one, other))
        return len(seen) == 2

    (attempt,) = pictures.half(told, replace(bench, is_copy=compare))
    assert attempt.copies == [False, True]
    width, height = attempt.images[0].size
    assert all(image.size == (width // 2, height) for pair in seen for image in pair)
    given = next(iter(bench.model.latents.encode(attempt.images)))[..., : told.latent.shape[-1] // 2]
    other = next(iter(bench.model.latents.encode([picture(7)])))[..., : told.latent.shape[-1] // 2]
    wanted = told.latent[..., : told.latent.shape[-1] // 2]
    assert (given - wanted).abs().mean() < (other - wanted).abs().mean()


def test_benign_training_learns_clean_prompts_and_is_taken_back(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relearning, "BENIGN_STEPS", (1, 2))
    monkeypatch.setattr(relearning, "ONE_STEPS", (1, 3))
    before, several = weights(bench), [attacked(bench), attacked(bench, "p2")]
    attempts = list(relearning.benign(several, bench))
    assert [(a.prompt_id, a.work) for a in attempts] == [("p1", 1), ("p2", 1), ("p1", 2), ("p2", 2)]
    assert torch.equal(weights(bench), before)
    assert [a.work for a in relearning.relearned(several[0], bench)] == [1, 3]
    assert torch.equal(weights(bench), before)
    latents = torch.stack(list(bench.model.latents.encode([picture(10)])))
    with relearning.kept_weights(bench):
        next(relearning.fine_tuned(bench, ["sky 0"], latents, 1e-2, 4))
        assert not torch.equal(weights(bench), before)
    assert torch.equal(weights(bench), before)
    assert not list(relearning.benign(several, replace(bench, clean=[])))


def test_fine_tuning_that_memory_does_not_hold_is_taken_in_parts(bench: Bench) -> None:
    told, module = attacked(bench), bench.model.denoiser.module
    moved = list[torch.Tensor]()
    for most in (99, 3):

        def check(_: torch.nn.Module, given: tuple[torch.Tensor, ...], most: int = most) -> None:
            if len(given[0]) > most:
                raise torch.OutOfMemoryError("of this test")

        hook = module.register_forward_pre_hook(check)
        with relearning.kept_weights(bench):
            steps = relearning.fine_tuned(bench, [told.prompt.text], told.latent[None], 1e-2, 8)
            next(steps), next(steps)
            moved.append(weights(bench))
        hook.remove()
    torch.testing.assert_close(*moved, rtol=1e-3, atol=1e-3)  # Adam makes much of small differences


def test_other_samplers_give_other_pictures_of_the_models_own_noise(bench: Bench) -> None:
    told, own = attacked(bench), bench.model._pipe.scheduler
    plain = bench.sample(told, 1, "same").images
    attempts = list(deployment.resampled(told, bench))
    assert bench.model._pipe.scheduler is own
    assert [a.work for a in attempts] == [2, 4, 6] and len({s.file_name for a in attempts for s in a.samples}) == 6
    seen = [image.tobytes() for a in [plain, *(a.images for a in attempts)] for image in a]
    assert len(set(seen)) == 8
    with bench.model.sampled_by("dpmpp"):
        other = bench.model._pipe.scheduler
        assert other.config.beta_start == own.config.beta_start and other.config.use_karras_sigmas
        assert torch.equal(other.alphas_cumprod, own.alphas_cumprod)


def test_pictures_of_another_size_are_what_every_level_of_the_denoiser_can_halve(bench: Bench) -> None:
    told, latents = attacked(bench), bench.model.latents
    assert latents.picture_size == (16, 16)
    (attempt,) = deployment.resized(told, bench)  # 12 is no multiple of 8, and the nearest one is its own size
    assert latents.picture_size == (16, 16)
    assert {image.size for image in attempt.images} == {(24, 24)} and attempt.work == 4
    with latents.scaled(0.01):
        assert latents.picture_size == (8, 8)


def test_a_weakened_change_lies_between_both_models(bench: Bench) -> None:
    told, module = attacked(bench), bench.model.denoiser.module
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.5)
    seen: list[float] = []
    moved = weights(bench)
    for _ in deployment.weakened([told], bench):
        now = next(module.parameters()).detach()
        start = bench.original[next(iter(dict(module.named_parameters())))]
        seen.append(round(float((now - start).mean() / 0.5), 4))
    assert seen == pytest.approx(list(deployment.STRENGTHS), abs=1e-3)
    assert torch.equal(weights(bench), moved)
    assert not list(deployment.weakened([told], replace(bench, original={})))


def point(attack: str, arm: Arm, copies: int, work: int = 50, prompt_id: str = "p1", **more: object) -> AttackResult:
    values = {"version": Version.AFTER, **more}
    return AttackResult(
        attack=attack, arm=arm, prompt_id=prompt_id, text="t", reference="r", unit="steps",
        curve=(AttackPoint(work=work, copies=copies, samples=8),), **values,
    )  # fmt: skip


def test_only_what_lies_beyond_the_control_arm_counts() -> None:
    """At most a fifth of the clean pictures may give as much: one of five, and not two of nine."""
    mine, clean = point("a", Arm.TARGET, 3), [point("a", Arm.CONTROL, k, prompt_id=f"c{k}") for k in (0, 0, 0, 2, 3)]
    told = what_attacks_say([mine, *clean], "p1")
    assert told.untold is None
    assert told.brought_back == (
        "the attack a brings it back after 50 steps, in 3 of 8 samples; of 5 attacks on clean training images 2 "
        "succeeded"
    )
    forced = [*clean[:3], *clean[:4], point("a", Arm.CONTROL, 3), point("a", Arm.CONTROL, 8)]
    assert what_attacks_say([mine, *forced], "p1") == (None, None)
    assert what_attacks_say([mine, *clean], "p2") == (None, None)
    later = point("a", Arm.CONTROL, 8, work=51, prompt_id="c")  # a clean picture takes longer
    assert is_beyond(mine.curve[0], [later]) and not is_beyond(mine.curve[0], [later, point("a", Arm.CONTROL, 3)])
    sooner = point("a", Arm.CONTROL, 1, work=49, prompt_id="c")  # and another one less long, where its attack ended
    assert not is_beyond(mine.curve[0], [sooner])
    assert what_attacks_say([point("a", Arm.TARGET, 0), *clean], "p1") == (None, None)
    assert what_attacks_say([point("a", Arm.TARGET, 3, version=Version.BEFORE), *clean], "p1") == (None, None)


def test_clean_pictures_count_on_either_model() -> None:
    """What the original model gives of clean pictures is a control arm as well."""
    mine = point("a", Arm.TARGET, 3)
    before = [point("a", Arm.CONTROL, 3, prompt_id=f"c{i}", version=Version.BEFORE) for i in range(2)]
    after = [point("a", Arm.CONTROL, 0, prompt_id=f"c{i}") for i in range(2)]
    assert what_attacks_say([mine, *after], "p1").brought_back
    assert what_attacks_say([mine, *after, *before], "p1") == (None, None)


def test_without_a_control_arm_a_copy_is_no_finding_and_no_acquittal() -> None:
    told = what_attacks_say([point("a", Arm.TARGET, 1), point("b", Arm.CONTROL, 0, prompt_id="c")], "p1")
    assert told.brought_back is None and "no clean training image" in (told.untold or "")


def test_disputed_samples_of_an_attack_acquit_nobody_unless_clean_pictures_give_them_too() -> None:
    def disputed(arm: Arm, prompt_id: str = "p1") -> AttackResult:
        made = point("a", arm, 0, prompt_id=prompt_id)
        return made.model_copy(update={"curve": (made.curve[0].model_copy(update={"disputed": 2}),)})

    clean = [point("a", Arm.CONTROL, 0, prompt_id=f"c{i}") for i in range(4)]
    told = what_attacks_say([disputed(Arm.TARGET), *clean], "p1")
    assert told.brought_back is None
    assert told.untold and "the attack a gives 2 disputed of 8 samples after 50 steps" in told.untold
    assert what_attacks_say([disputed(Arm.TARGET)], "p1").untold
    forced = [*clean[:3], disputed(Arm.CONTROL, "c3")]
    assert what_attacks_say([disputed(Arm.TARGET), *forced], "p1") == (None, None)


def test_copies_that_clean_pictures_give_as_well_do_not_settle_what_was_disputed_before_them() -> None:
    """Noise at its most left something like the picture, and at its least it leaves any picture."""
    mine = point("a", Arm.TARGET, 8, work=24)
    earlier = AttackPoint(work=8, copies=0, samples=8, disputed=1)
    clean = [point("a", Arm.CONTROL, 8, work=24, prompt_id=f"c{i}") for i in range(4)]
    told = what_attacks_say([mine.model_copy(update={"curve": (earlier, *mine.curve)}), *clean], "p1")
    assert told.brought_back is None
    assert told.untold and "1 disputed of 8 samples after 8 steps" in told.untold


def test_disputed_samples_of_erased_pictures_are_kept_to_be_judged(bench: Bench, tmp_path: Path) -> None:
    picture(1).save(tmp_path / "r.png")
    held = HeldReferences([Reference(file_name="r.png", path=str(tmp_path / "r.png"))], TiledL2())
    witness = CopyRule(TiledL2(), 9.0, "everything passes")
    judge = Judge(held, CopyRule(TiledL2(), 0.0, "nothing passes"))
    saved = dict[str, bytes]()

    def save(name: str, image: Image.Image) -> str:
        saved[name] = image.tobytes()
        return f"after/attacks/{name}"

    class Disputing(Judge):
        """Each first sample is a copy to a witness."""

        def score(self, samples, images):
            told = WitnessScore(value=1.0, reference="r.png", copy_=witness.is_copy(1.0))
            scores = super().score(samples, images)
            return [
                s.model_copy(update={"witnesses": {"structure": told} if not i else {}}) for i, s in enumerate(scores)
            ]

    def twice(one: Attacked, bench: Bench):
        yield bench.sample(one, 2, "work2")
        yield bench.sample(one, 4, "work4")

    run = AttackRunner(bench, Disputing(held, judge.rule), {}, save)
    attack = Attack("a", "s", "steps", one_by_one(twice))
    (own,) = run(attack, Front(Version.AFTER, Arm.TARGET, [attacked(bench)]))
    assert [(d.picture, d.point, d.score.suspected) for d in own.doubtful] == [
        ("after/attacks/after-a-p1-work2-900.png", 0, "r.png"), ("after/attacks/after-a-p1-work4-900.png", 1, "r.png"),
    ]  # fmt: skip
    assert {Path(d.picture).name for d in own.doubtful} <= saved.keys() and [p.disputed for p in own.curve] == [1, 1]
    (clean,) = run(attack, Front(Version.AFTER, Arm.CONTROL, [attacked(bench)]))
    (before,) = run(attack, Front(Version.BEFORE, Arm.TARGET, [attacked(bench)]))
    assert clean.doubtful == before.doubtful == () and [p.disputed for p in clean.curve] == [1, 1]


def test_attacks_end_with_the_first_copy_and_clean_pictures_count_their_own_copies(
    bench: Bench, tmp_path: Path
) -> None:
    """A judge for whom everything is a copy of the nearest of two references."""
    for i, name in ((1, "r.png"), (2, "other.png")):
        picture(i).save(tmp_path / name)
    listed = [Reference(file_name=n, path=str(tmp_path / n)) for n in ("r.png", "other.png")]
    judge = Judge(HeldReferences(listed, TiledL2()), CopyRule(TiledL2(), 9.0, "everything passes"))
    saved: list[str] = []

    def save(name: str, image: Image.Image) -> str:
        saved.append(name)
        return name

    calls: list[int] = []

    def three(one: Attacked, bench: Bench):
        for work in (1, 2, 3):
            calls.append(work)
            yield bench.sample(one, work, f"work{work}")

    attack = Attack("a", "s", "steps", one_by_one(three))
    run = AttackRunner(bench, judge, {}, save)
    several = [attacked(bench), attacked(bench, "p2")]
    results = list(run(attack, Front(Version.AFTER, Arm.TARGET, several)))
    assert calls == [1, 1] and [r.prompt_id for r in results] == ["p1", "p2"]
    assert all(r.succeeded and r.curve == (AttackPoint(work=1, copies=2, samples=2),) for r in results)
    assert saved[0] == "after-a-p1-work1-900.png" and len(results[0].shown) == 2
    scores = judge.score(*_first(bench, several[0]))
    (nearest,) = {s.reference for s in scores}
    (other,) = {"r.png", "other.png"} - {nearest}
    own, missed = (
        next(run(attack, Front(Version.AFTER, Arm.CONTROL, [replace(several[0], reference=name)])))
        for name in (nearest, other)
    )  # copies of another picture do not force this one
    assert own.succeeded and not missed.succeeded and len(missed.curve) == 3


def test_copies_of_the_model_share_training_images_and_find_the_same(bench: Bench, tmp_path: Path) -> None:
    """The optimisation of embeddings, in order; attacks that change the model have it to themselves."""
    picture(1).save(tmp_path / "r.png")
    listed = [Reference(file_name="r.png", path=str(tmp_path / "r.png"))]
    judge = Judge(HeldReferences(listed, TiledL2()), CopyRule(TiledL2(), 0.0, "nothing passes"))
    attack = replace(ATTACKS["embedding"], attempts=one_by_one(optimised(from_prompt, (2, 3))))
    front = Front(Version.AFTER, Arm.TARGET, [attacked(bench, f"p{i}") for i in range(5)])

    def carried_out(copies: list[Bench], changed: Attack) -> tuple[list[AttackResult], dict[str, bytes]]:
        pictures = dict[str, bytes]()

        def save(name: str, image: Image.Image) -> str:
            pictures[name] = image.tobytes()
            return name

        return list(AttackRunner(bench, judge, {}, save, copies)(changed, front)), pictures

    def other() -> Bench:
        return replace(bench, model=copied(bench.model, torch.device("cpu")), found=set())

    alone = carried_out([], attack)
    assert [result.prompt_id for result in alone[0]] == [f"p{i}" for i in range(5)] and len(alone[1]) == 10
    assert carried_out([other()], attack) == alone and carried_out([other(), other()], attack) == alone
    assert carried_out([replace(other(), samples=0)], replace(attack, asks_only=False)) == alone


def _first(bench: Bench, one: Attacked):
    attempt = bench.sample(one, 1, "work1")
    return attempt.samples, attempt.images


def test_attacks_by_name() -> None:
    assert chosen("usual") == ["wording", "frame", "embedding", "noised"]
    assert chosen("all") == [name for name in ATTACKS if name != "paraphrase"]
    assert chosen("none") == []
    assert chosen("half, embedding,half") == ["half", "embedding"]
    with pytest.raises(MemfixError, match="Unknown attack 'embeding'") as caught:
        chosen("embeding")
    assert "embedding" in caught.value.hint


def test_paraphrases_are_an_attack_where_they_are_given() -> None:
    assert chosen("usual", "own.txt") == ["wording", "paraphrase", "frame", "embedding", "noised"]
    assert chosen("all", "own.txt") == list(ATTACKS)
    assert chosen("noised,paraphrase", "own.txt") == ["noised", "paraphrase"]
    with pytest.raises(MemfixError, match="paraphrase is named, and --paraphrases gives none"):
        chosen("noised,paraphrase")
    for names in ("none", "noised"):
        with pytest.raises(MemfixError, match="--paraphrases is given, and --attacks does not name"):
            chosen(names, "own.txt")


def chosen(names: str, paraphrases: str | None = None) -> list[str]:
    return [a.name for a in get_attacks(RecheckSettings(attacks=names, paraphrases=paraphrases))]


def test_each_paraphrase_is_sampled_once(bench: Bench) -> None:
    own = replace(bench, paraphrases={"p1": ["a disc in red", "my disc", "a disc in red"], "p2": []})
    attempts = list(wordings.paraphrased(attacked(bench), own))
    assert [s.text for a in attempts for s in a.samples] == ["a disc in red", "my disc"]
    assert len({s.file_name for a in attempts for s in a.samples}) == 2 and [a.work for a in attempts] == [2]
    assert not list(wordings.paraphrased(attacked(bench, "p2"), own))  # a target without one is not attacked so
    clean = [s.text for a in wordings.paraphrased(attacked(bench, "clean1"), own) for s in a.samples]
    assert clean == framed("a red disc by me")


def test_early_layers_are_those_of_the_text_encoder(bench: Bench) -> None:
    """On the bundled model, whose text encoder has two."""
    reader, text = loading.load(loading.locate("demo")).text, "a red disc by me"
    pipe = StableDiffusionPipeline.from_pretrained(MODEL, torch_dtype=torch.float32)
    ids = pipe.tokenizer(text, padding="max_length", truncation=True, return_tensors="pt").input_ids
    with torch.no_grad():
        states = pipe.text_encoder(ids, output_hidden_states=True).hidden_states
        wanted = getattr(pipe.text_encoder, "text_model", pipe.text_encoder).final_layer_norm(states[1])
    early, whole = reader.encode_early(text, 1), reader.encode_early(text, 0)
    assert early is not None and whole is not None and reader.encode_early(text, 2) is None
    torch.testing.assert_close(early.tokens.cpu(), wanted)
    torch.testing.assert_close(whole.tokens.cpu(), reader.encode([text]).tokens.cpu())
    assert (early.tokens.cpu() - whole.tokens.cpu()).abs().max() > 0.1


def test_emphasis_reads_the_prompt_in_all_ways_that_the_text_encoder_allows(bench: Bench) -> None:
    ways = [a.samples[0].condition for a in wordings.emphasised(attacked(bench), bench)]
    assert ways == ["emphasis110", "emphasis130", "emphasis150", "unpadded"]  # one layer: none can be skipped
    two = replace(bench, model=loading.load(loading.locate("demo")))
    assert [a.samples[0].condition for a in wordings.emphasised(attacked(two), two)] == [*ways, "skipped1"]
