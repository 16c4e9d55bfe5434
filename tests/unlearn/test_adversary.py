"""Embeddings that look for what is being unlearned: against an Adam written out, and what a batch becomes."""

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import Net, Noise, Words, bank_of, parts

from memfix.config.unlearn import UnlearnSettings
from memfix.models.conditioning import Conditioning
from memfix.unlearn.data.bank import Bank, Batch
from memfix.unlearn.data.draws import Draw
from memfix.unlearn.objective.methods import METHODS
from memfix.unlearn.train import adversary, probe
from memfix.unlearn.train.adversary import MOVES, POINTS, RATES, SCALE, SHORT_STEPS, Adversary
from memfix.unlearn.train.checkpoint import Checkpoints
from memfix.unlearn.train.trainer import Trainer


def drawn(bank: Bank, number: int, size: int = 6) -> Batch:
    return bank.draw(Draw(3, number), size, 2, 0.5, (0, len(bank.schedule)))


def attacked(attack: Adversary, batch: Batch) -> Batch:
    """The only pass of a step."""
    (found,) = attack([batch], batch.draw)
    return found


def only(monkeypatch: pytest.MonkeyPatch, start: str) -> None:
    monkeypatch.setattr(adversary, "STARTS", {start: 1.0})


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_moves_are_adam_on_the_denoising_loss(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "prompt")
    bank, model = bank_of(kind), Net().double()
    attack = Adversary(bank, lambda noisy, t, told: model.network(noisy.double(), t, told).float())
    attacked(attack, drawn(bank, 0))  # used as they began
    batch = attacked(attack, drawn(bank, 1))

    schedule = bank.schedule
    streams = [Draw(3, 1).stream(f"attack on target {i}") for i in range(len(bank.targets))]
    tokens = torch.stack([bank.texts[t.text] for t in bank.targets]).double()
    rates = [attack._probes[i].optimizer.param_groups[0]["lr"] for i in range(len(bank.targets))]
    assert set(rates) <= set(RATES)
    first, second = torch.zeros_like(tokens), torch.zeros_like(tokens)
    for step in range(1, MOVES + 1):
        tokens.requires_grad_()
        clean, t, noise, loss = [], [], [], 0.0
        for target, stream in zip(bank.targets, streams, strict=True):
            for _ in range(POINTS):
                clean.append(target.forget[int(torch.randint(len(target.forget), (), generator=stream))])
                t.append(int(torch.randint(len(schedule), (), generator=stream)))
                noise.append(torch.randn(clean[-1].shape, generator=stream))
        for i, x in enumerate(clean):
            g, s = float(schedule.signal_scale[t[i]]), float(schedule.noise_scale[t[i]])
            m = g * x.double() + s * noise[i].double()
            wanted = noise[i].double() if kind == "epsilon" else g * noise[i].double() - s * x.double()
            told = Conditioning(tokens[i // POINTS][None])
            loss = loss + SCALE * (model.network(m[None], torch.tensor([t[i]]), told)[0] - wanted).square().mean()
        (gradient,) = torch.autograd.grad(loss, tokens)
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        rate = torch.tensor([rates[i] for i in range(len(rates))], dtype=torch.float64).reshape(-1, 1, 1)
        unit = (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
        tokens = (tokens - rate * unit).detach()
    for place, target in enumerate(batch.targets):
        torch.testing.assert_close(
            batch.forget.conditioning.tokens[place].double(), tokens[target], rtol=1e-3, atol=1e-3
        )


def test_an_attack_finds_an_embedding_under_which_the_image_is_denoised_better(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "noise")
    bank, model = bank_of("epsilon"), Net()
    with torch.no_grad():
        model.words.weight.mul_(5)
    attack = Adversary(bank, model.network)

    def error() -> float:
        noise = torch.randn(64, 2, 4, 4, generator=torch.Generator().manual_seed(7))
        total, schedule = 0.0, bank.schedule
        for i, target in enumerate(bank.targets):
            t = torch.arange(64) % len(schedule)
            g, s = (v[t].float().reshape(-1, 1, 1, 1) for v in (schedule.signal_scale, schedule.noise_scale))
            told = Conditioning(attack._probes[i].tokens.detach().expand(64, -1, -1))
            with torch.no_grad():
                answer = model.network(g * target.forget[0] + s * noise, t, told)
            total += float((answer - noise).square().mean())
        return total

    attacked(attack, drawn(bank, 0))
    before = error()
    for number in range(1, 8):
        attacked(attack, drawn(bank, number))
    assert error() < 0.97 * before


def test_items_come_under_the_embedding_of_their_target_and_borrowed_pictures_under_their_own_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    only(monkeypatch, "prompt")
    bank = bank_of("epsilon")
    attack, batch = Adversary(bank, Net().network), drawn(bank, 0, size=8)
    changed = attacked(attack, batch)
    tokens = {i: one.tokens.detach()[0] for i, one in attack._probes.items()}
    assert set(batch.targets) == {0, 1} == set(tokens)
    for place, target in enumerate(batch.targets):
        assert torch.equal(changed.forget.conditioning.tokens[place], tokens[target])
        kept = changed.keep.conditioning.tokens[place]
        assert torch.equal(kept, tokens[0] if target == 0 else bank.texts["sky"])  # the second target has none
    assert torch.equal(changed.prior.conditioning.tokens, batch.prior.conditioning.tokens)
    for name in ("noisy", "clean", "t"):
        assert torch.equal(getattr(changed.forget, name), getattr(batch.forget, name))
    assert changed.alike.tolist() == batch.alike.tolist()


@pytest.mark.parametrize("start", ["other text", "empty", "noise"])
def test_keep_images_stay_under_their_own_prompt_until_an_embedding_left_another_text(
    start: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, start)
    bank = bank_of("epsilon")
    attack, told = Adversary(bank, Net().network), dict[int, list[bool]]()
    moves = math.ceil(probe.NEAR / MOVES)
    for number in range(1 + moves):
        batch = drawn(bank, number, size=8)
        changed = attacked(attack, batch)
        place = batch.targets.index(0)
        kept, tokens = changed.keep.conditioning.tokens[place], attack._probes[0].tokens.detach()[0]
        assert torch.equal(changed.forget.conditioning.tokens[place], tokens)
        own = torch.equal(kept, bank.texts[bank.targets[0].text])
        assert own != torch.equal(kept, tokens)
        told.setdefault(attack._probes[0].age, []).append(own)
    assert {age: set(marks) for age, marks in told.items()} == {
        age: {age < probe.NEAR} for age in range(0, moves * MOVES + 1, MOVES)
    }


def test_embeddings_begin_anew_as_often_from_each_start_as_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adversary, "SHORTEST", 1)
    monkeypatch.setattr(adversary, "LONGEST", 1)  # moved once, then begun anew
    bank = bank_of("epsilon")
    attack, begun = Adversary(bank, Net().network), Counter[str]()
    for number in range(400):
        attacked(attack, drawn(bank, number, size=2))
        for i, one in attack._probes.items():
            if one.age == 0:
                texts = {"prompt": bank.targets[i].text, "other text": "sky", "empty": ""}
                rows = {name: bank.texts[text] for name, text in texts.items()}
                begun[next((n for n, row in rows.items() if torch.equal(row, one.tokens.detach()[0])), "noise")] += 1
    total = begun.total()
    assert total > 150
    for name, share in adversary.STARTS.items():
        assert begun[name] / total == pytest.approx(share, abs=0.12), name


def test_nothing_reaches_the_weights_but_their_own_step() -> None:
    """The search for embeddings leaves neither gradients nor changes behind."""
    bank, model = bank_of("epsilon"), Net()
    before = [p.detach().clone() for p in model.parameters()]
    attack = Adversary(bank, model.network)
    for number in range(3):
        attacked(attack, drawn(bank, number))
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("accumulated", [1, 2])
def test_a_training_that_was_cut_off_goes_on_bit_for_bit(tmp_path: Path, accumulated: int) -> None:
    def training() -> tuple[Net, Trainer]:
        settings = UnlearnSettings(
            max_train_steps=1, adversarial_steps=6, train_batch_size=4, prior_batch_size=2, learning_rate=0.01,
            gradient_accumulation_steps=accumulated,
        ).adversarial()  # fmt: skip
        model, bank = Net(), bank_of("epsilon")
        network, weights = parts(model)
        attack = Adversary(bank, network)
        return model, Trainer(network, weights, bank, METHODS["siss"], settings, "no", adversary=attack)

    def advance(trainer: Trainer, step: int) -> None:
        while trainer.step < step:
            next(iter(trainer))

    whole, trainer = training()
    advance(trainer, 6)
    assert trainer.step == trainer.last == 6
    _, first = training()
    advance(first, 3)
    Checkpoints(tmp_path, first).save()
    resumed, second = training()
    assert Checkpoints(tmp_path, second).restore() == 3
    advance(second, 6)
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


def test_moves_do_not_depend_on_how_many_points_fit_at_once() -> None:
    states = []
    for together in (1, 16):
        bank = bank_of("epsilon")
        attack = Adversary(bank, Net().network, together)
        for number in range(8):
            attacked(attack, drawn(bank, number, size=8))
        states.append(attack.state())
    assert states[0].keys() == states[1].keys()
    for name, tensor in states[0].items():
        torch.testing.assert_close(tensor, states[1][name], equal_nan=True, rtol=1e-4, atol=1e-5)


def test_a_thorough_short_attack_takes_more_noisy_points_in_passes_that_are_no_larger() -> None:
    """Eight points lead to an embedding under which the image is denoised at least as well as one point does."""
    bank, model = bank_of("epsilon"), Net()
    passes = list[int]()

    def network(noisy: torch.Tensor, t: torch.Tensor, told: Conditioning) -> torch.Tensor:
        passes.append(len(noisy))
        return model.network(noisy, t, told)

    attack = Adversary(bank, network, together=8)
    found = {points: attack.attack([0, 1], Draw(number=5), points) for points in (1, 8)}
    assert Counter(passes) == {2: SHORT_STEPS, 8: 2 * SHORT_STEPS}  # two targets at once, then one after the other

    def error(rows: list[Conditioning]) -> float:
        total, generator = 0.0, torch.Generator().manual_seed(9)
        for target, told in zip(bank.targets, rows, strict=True):
            clean = target.forget[0][None].expand(400, -1, -1, -1)
            t = torch.randint(len(bank.schedule), (400,), generator=generator)
            g, s = (x[t].float().reshape(-1, 1, 1, 1) for x in (bank.schedule.signal_scale, bank.schedule.noise_scale))
            eps = torch.randn(clean.shape, generator=generator)
            with torch.no_grad():
                total += float((model.network(g * clean + s * eps, t, told.expand(400)) - eps).square().mean())
        return total

    begun = [bank.texts.stack([target.text]) for target in bank.targets]
    assert error(found[8]) < error(begun)
    assert error(found[8]) < error(found[1])


def test_a_move_that_memory_does_not_hold_is_taken_in_parts() -> None:
    """From the same draws, in a step and in the short attack of a validation."""
    found, sizes = [], list[int]()
    for most in (99, 1):
        bank, whole = bank_of("epsilon"), Net().network

        def network(noisy, t, told, whole=whole, most=most):
            sizes.append(len(noisy))
            if len(noisy) > most:
                raise torch.OutOfMemoryError("of this test")
            return whole(noisy, t, told)

        attack = Adversary(bank, network)
        for number in range(4):
            attacked(attack, drawn(bank, number, size=8))
        rows = attack.attack(range(len(bank.targets)), Draw(3, 9), 2)
        found.append([*(v for n, v in sorted(attack.state().items())), *(row.tokens for row in rows)])
    assert sizes[0] > 1 and max(sizes[-20:]) == 1
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, equal_nan=True, rtol=1e-4, atol=1e-4)


def test_moves_count_as_what_a_step_costs() -> None:
    bank, model = bank_of("epsilon"), Net()
    taken = parts(model)
    attack = Adversary(bank, taken[0])
    settings = UnlearnSettings(max_train_steps=3, prior_batch_size=2, train_batch_size=4, siss_mode="bernoulli")
    plain, against = (Trainer(*taken, bank, METHODS["siss"], settings, "no", adversary=a) for a in (None, attack))
    attacked(attack, drawn(bank, 0))  # embeddings are used as they began
    seen = model.seen
    attacked(attack, drawn(bank, 1))
    assert against.evaluations(2) - plain.evaluations(2) == 3 * (model.seen - seen) == 3 * 2 * MOVES
    assert against.evaluations(1) - plain.evaluations(1) == 3 * MOVES


def test_embeddings_are_moved_once_a_step_however_many_passes_it_has() -> None:
    bank = bank_of("epsilon")
    attack = Adversary(bank, Net().network)
    passes = [drawn(bank, 0, size=8), drawn(bank, 1, size=8)]
    for number in range(3):
        found = attack(passes, Draw(3, number))
    assert {one.age for one in attack._probes.values()} == {2 * MOVES}  # begun in the first step
    for batch in found:
        for place, i in enumerate(batch.targets):
            assert torch.equal(batch.forget.conditioning.tokens[place], attack._probes[i].tokens.detach()[0])


def test_a_method_that_ends_at_its_bound_takes_all_steps_against_an_adversary() -> None:
    settings = UnlearnSettings(
        method="bounded", max_train_steps=1, adversarial_steps=3, forget_cap=0.001, train_batch_size=4
    ).adversarial()
    bank = bank_of("epsilon")
    network, weights = parts(Net())
    alone = Trainer(network, weights, bank, METHODS["bounded"], settings, "no")
    assert [s.step for s in alone] == [1] and alone.reached
    attack = Adversary(bank, network)
    attacked = Trainer(network, weights, bank, METHODS["bounded"], settings, "no", adversary=attack)
    assert [s.step for s in attacked] == [1, 2, 3] and not attacked.reached


def test_settings_of_adversarial_steps_keep_what_goes_further() -> None:
    own = UnlearnSettings(adversarial_steps=7, max_train_steps=80, timestep_min=500, validation_steps=10).adversarial()
    assert (own.max_train_steps, own.timestep_min, own.forget_cap, own.forget_ratio) == (7, 300, 1.0, 0.3)
    assert own.validation_steps == 0 and own.lr_scheduler == "cosine"
    assert own.adversarial_steps == 0  # none follow these
    own = UnlearnSettings(adversarial_steps=7, timestep_min=100, forget_cap=2.0, forget_ratio=0.5).adversarial()
    assert (own.timestep_min, own.forget_cap, own.forget_ratio) == (100, 2.0, 0.5)


def test_a_network_without_prompts_is_refused() -> None:
    bank = bank_of("epsilon", words=False)
    with pytest.raises(ValueError, match="without prompts"):
        Adversary(bank, Net().network)
    with_words = bank_of("epsilon")
    batch = drawn(with_words, 0)
    bare = replace(batch, keep=replace(batch.keep, conditioning=None))
    with pytest.raises(ValueError, match="no texts"):
        attacked(Adversary(Bank(with_words.targets, [], Words(), Noise("epsilon")), Net().network), bare)
