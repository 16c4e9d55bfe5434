"""The loop on a real UNet: what a step does to the weights."""

import math
from pathlib import Path

import pytest
import torch
from test_modifiers import unconditional
from tiny import Net, bank_of, parts

from memfix.config.unlearn import UnlearnSettings
from memfix.errors import MemfixError
from memfix.models import loading
from memfix.models.model import DiffusionModel
from memfix.models.room import Room
from memfix.unlearn.data.bank import Bank, Target
from memfix.unlearn.data.draws import Draw
from memfix.unlearn.objective.methods import METHODS
from memfix.unlearn.train.trainer import Trainer, lr_factor


def bank_for(model: DiffusionModel) -> Bank:
    generator = torch.Generator().manual_seed(0)
    z = [torch.randn(4, 8, 8, generator=generator) for _ in range(6)]
    return Bank(
        [Target("a", z[:1], z[1:3])], [("sky", x) for x in z[3:]], model.text.keep(["a", "sky"]), model.schedule
    )


def steps(model: DiffusionModel, **settings) -> list:
    chosen = UnlearnSettings(**{"train_batch_size": 8, "prior_batch_size": 4, "max_train_steps": 3} | settings)
    precision = chosen.mixed_precision or "no"
    network, weights = model.denoiser.network(precision), model.denoiser.trained()
    return list(Trainer(network, weights, bank_for(model), METHODS["siss"], chosen, precision))


def whole(folder: Path) -> DiffusionModel:
    """A model of which everything is trained."""
    model = loading.load(loading.locate(str(folder)))
    model.denoiser.module.requires_grad_(True)
    return model


def test_same_seed_gives_the_same_weights(model_folder: Path) -> None:
    results = []
    for _ in range(2):
        model = whole(model_folder)
        records = steps(model, weights="full", learning_rate=1e-3)
        results.append((vector(model.denoiser.module), records[-1].loss_keep))
    assert torch.equal(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]


def test_records_carry_the_ratio(model_folder: Path) -> None:
    for record in steps(whole(model_folder), weights="full", forget_ratio=0.2):
        assert -record.scale * record.norm_forget == pytest.approx(0.2 * record.norm_keep, rel=1e-4)


def test_accumulated_passes_equal_one_pass_of_their_items(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two passes over the same draw give the gradients of one pass over it."""
    original = Bank.draw

    def same_draw(self, draw, *args, **kwargs):
        return original(self, Draw(7), *args, **kwargs)

    monkeypatch.setattr(Bank, "draw", same_draw)
    weights = []
    for passes in (1, 2):
        model = whole(model_folder)
        steps(model, weights="full", gradient_accumulation_steps=passes)
        weights.append(vector(model.denoiser.module))
    torch.testing.assert_close(*weights, rtol=1e-4, atol=1e-6)


def test_lora_trains_only_the_adapter(model_folder: Path) -> None:
    model = loading.load(loading.locate(str(model_folder)))
    before = {n: p.clone() for n, p in model.denoiser.module.named_parameters()}
    model.adapters.add(2)
    steps(model, learning_rate=1e-2)
    after = dict(model.denoiser.module.named_parameters())
    assert all(
        torch.equal(
            p,
            after.get(n, after.get(n.replace(".weight", ".base_layer.weight").replace(".bias", ".base_layer.bias"), p)),
        )
        for n, p in before.items()
    )
    assert any(p.abs().max() > 0 for n, p in after.items() if "lora_B" in n)


@pytest.mark.slow
def test_forgetting_raises_the_forget_loss_against_the_keep_loss(model_folder: Path) -> None:
    """The sign of the forget term: with it, the forget image is denoised worse than with plain fine-tuning."""
    losses = []
    for ratio in (1e-9, 0.5):
        model = whole(model_folder)
        chosen = UnlearnSettings(
            weights="full", learning_rate=3e-3, train_batch_size=16, prior_batch_size=4, max_train_steps=40,
            forget_ratio=ratio,
        )  # fmt: skip
        network, weights = model.denoiser.network("no"), model.denoiser.trained()
        records = list(Trainer(network, weights, bank_for(model), METHODS["siss"], chosen, "no"))
        losses.append(sum(r.loss_forget for r in records[-5:]))
    assert losses[1] > losses[0]


def quick(name: str, model, bank: Bank, **values) -> list:
    chosen = UnlearnSettings(
        **{"train_batch_size": 6, "prior_batch_size": 2, "max_train_steps": 2, "weights": "full"} | values
    )
    return list(Trainer(*parts(model), bank, METHODS[name], chosen, "no"))


def vector(model) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()]).clone()


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.slow
def test_every_method_trains_a_network_without_prompts(name: str) -> None:
    bank, unet = bank_of("epsilon", words=False, size=8), unconditional()
    before = vector(unet)
    if name == "anchor":
        with pytest.raises(MemfixError, match="a variant of it"):
            quick(name, unet, bank)
        return
    records = quick(name, unet, bank, gradient_accumulation_steps=2, forget_cap=3.0)
    assert all(math.isfinite(r.loss_keep) and math.isfinite(r.loss_forget) for r in records)
    assert torch.isfinite(vector(unet)).all()
    assert not torch.equal(before, vector(unet))


@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains_a_conditional_network(name: str, model_folder: Path) -> None:
    model = loading.load(loading.locate(str(model_folder)))
    bank = bank_for(model)
    bank.targets[0].surrogates, bank.targets[0].anchors = [bank.targets[0].keep[0][None]], ["sky"]
    model.adapters.add(2)
    weights = model.denoiser.trained()
    before = [p.detach().clone() for p in weights.values()]
    chosen = UnlearnSettings(train_batch_size=4, prior_batch_size=2, max_train_steps=2, forget_cap=3.0)
    assert len(list(Trainer(model.denoiser.network("no"), weights, bank, METHODS[name], chosen, "no"))) == 2
    assert any(not torch.equal(a, b) for a, b in zip(before, weights.values(), strict=True))


MODIFIERS = [
    {"parameter_group": "self-attention"},
    {"saliency": 0.3},
    {"forget_low_pass": 0.5},
    {"parameter_prior": 0.5},
]


@pytest.mark.parametrize("modifier", MODIFIERS, ids=str)
@pytest.mark.parametrize("name", [n for n in METHODS if n != "anchor"])
@pytest.mark.slow
def test_every_modifier_goes_with_every_method(name: str, modifier: dict) -> None:
    unet = unconditional() if "parameter_group" in modifier else Net()
    bank = bank_of("epsilon", words=False, size=8)
    before = vector(unet)
    quick(name, unet, bank, forget_cap=3.0, max_train_steps=1, **modifier)
    moved = before != vector(unet)
    assert moved.any()
    if "saliency" in modifier:
        assert moved.double().mean() <= 0.3
    if "parameter_group" in modifier:
        inside = torch.cat([torch.full((p.numel(),), ".attentions.0.to_" in n) for n, p in unet.named_parameters()])
        assert not moved[~inside].any()


@pytest.mark.parametrize("modifier", [{"saliency": 0.3}, {"parameter_prior": 0.5}], ids=str)
def test_what_weights_matter_to_is_found_anew_where_memory_ran_out(modifier: dict) -> None:
    """On the way back too, where gradients are left over."""
    results, saved = [], list[bool]()
    for fails in (0, 2):
        model, left = Net(), fails

        def network(noisy, t, told, model=model):
            nonlocal left
            answer = model.network(noisy, t, told)

            def run_out(gradient: torch.Tensor) -> None:
                nonlocal left
                left -= 1
                if left == 0:
                    raise torch.OutOfMemoryError("of this test")

            if answer.requires_grad and left > 0:
                model.words.bias.register_hook(run_out)
            return answer

        chosen = UnlearnSettings(max_train_steps=1, **modifier)
        weights, room = dict(model.named_parameters()), Room(save=saved.append)
        made = Trainer(network, weights, bank_of("epsilon"), METHODS["siss"], chosen, "no", room=room)
        results.append(made._mask.allowed if made._mask else made._prior.precision)
    assert saved == [True]
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


def test_masked_weights_do_not_decay() -> None:
    bank, model = bank_of("epsilon"), Net()
    before = vector(model)
    quick("siss", model, bank, saliency=0.25, adam_weight_decay=0.5, learning_rate=0.1, max_train_steps=5)
    assert (before != vector(model)).double().mean() <= 0.25


def test_weight_decay_under_a_mask_is_that_of_adamw() -> None:
    """A mask that lets everything move changes nothing."""
    results = []
    for saliency in (None, 1.0):
        model = Net()
        quick("siss", model, bank_of("epsilon"), saliency=saliency, adam_weight_decay=0.1, learning_rate=0.01)
        results.append(vector(model))
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-6)


def test_prior_holds_the_weights_back() -> None:
    distances = []
    for strength in (0.0, 0.9, 0.999):
        model = Net()
        before = vector(model)
        quick(
            "neggrad", model, bank_of("epsilon"), parameter_prior=strength, max_train_steps=60, learning_rate=0.01,
            adam_weight_decay=0.0,
        )  # fmt: skip
        distances.append((vector(model) - before).norm().item())
    assert distances[0] > distances[1] > distances[2]


def test_prior_of_checkpoints_needs_no_keep_images() -> None:
    bank = bank_of("epsilon")
    bare = Bank([Target("a", bank.targets[0].forget)], [], bank.texts, bank.schedule)
    model, settings = Net(), UnlearnSettings(max_train_steps=2, train_batch_size=4, forget_cap=3.0)
    states = [{n: p.detach() + i for n, p in model.named_parameters()} for i in range(2)]
    assert len(list(Trainer(*parts(model), bare, METHODS["vdu"], settings, "no", states))) == 2
    with pytest.raises(MemfixError, match="checkpoints"):
        Trainer(*parts(model), bare, METHODS["vdu"], settings, "no")


def test_a_prior_of_any_method_needs_to_know_what_to_hold() -> None:
    bank = bank_of("epsilon")
    bare, model = Bank([Target("a", bank.targets[0].forget)], [], bank.texts, bank.schedule), Net()
    with pytest.raises(MemfixError, match="--parameter-prior needs keep images"):
        quick("neggrad", model, bare, parameter_prior=0.5)
    quick("neggrad", model, bare, parameter_prior=0.0)


def adapted(
    model: DiffusionModel, dora: bool = False, **values
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Weights of an adapter before and after three steps."""
    model.adapters.add(2, dora=dora)
    before = {n: p.detach().clone() for n, p in model.denoiser.trained().items()}
    steps(model, learning_rate=1e-2, **values)
    return before, {n: p.detach().clone() for n, p in model.denoiser.trained().items()}


@pytest.mark.slow
def test_saliency_of_an_adapter_lets_whole_rows_move(model_folder: Path) -> None:
    before, after = adapted(loading.load(loading.locate(str(model_folder))), saliency=0.3)
    rows, moved = 0, 0
    for name, b in after.items():
        if "lora_B" in name:
            changed = (b != 0).flatten(1)
            assert torch.equal(changed.any(1), changed.all(1))
            rows, moved = rows + len(b), moved + int(changed.any(1).sum())
            if changed.any():
                first = name.replace("lora_B", "lora_A")
                assert not torch.equal(before[first], after[first])
    assert 0.25 * rows < moved <= 0.3 * rows


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.slow
def test_a_prior_holds_both_factors_of_an_adapter(model_folder: Path, dora: bool) -> None:
    far = []
    for strength in (0.0, 0.9, 0.9999):
        before, after = adapted(
            loading.load(loading.locate(str(model_folder))), dora, parameter_prior=strength, adam_weight_decay=0.0,
            max_train_steps=8,
        )  # fmt: skip
        far.append([sum(float((after[n] - b).norm()) for n, b in before.items() if f in n) for f in ("_A", "_B")])
    assert far[0][0] > 1.2 * far[1][0] > 1.2 * far[2][0]
    assert far[0][1] > 1.2 * far[2][1]


def test_wrong_windows_are_refused_before_training() -> None:
    with pytest.raises(MemfixError, match="No timestep"):
        Trainer(
            *parts(Net()),
            bank_of("epsilon"),
            METHODS["siss"],
            UnlearnSettings(timestep_min=100, max_train_steps=1),
            "no",
        )


def test_learning_rate_by_hand() -> None:
    level = UnlearnSettings(lr_warmup_steps=3, max_train_steps=8)
    assert [lr_factor(i, level) for i in range(5)] == [0.25, 0.5, 0.75, 1, 1]
    falling = UnlearnSettings(lr_warmup_steps=0, max_train_steps=8, lr_scheduler="cosine")
    assert [lr_factor(i, falling) for i in (0, 4)] == [1, pytest.approx(0.5)]
    assert lr_factor(7, falling) == pytest.approx(0.5 * (1 + math.cos(math.pi * 7 / 8)))
    line = falling.model_copy(update={"lr_scheduler": "linear", "lr_warmup_steps": 1})
    assert [lr_factor(i, line) for i in (0, 4, 6)] == [0.5, 0.5, 0.25]
    warmed = level.model_copy(update={"lr_scheduler": "constant_with_warmup"})
    assert [lr_factor(i, warmed) for i in range(5)] == [lr_factor(i, level) for i in range(5)]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.slow
def test_precision_is_of_the_arithmetic_not_of_the_weights(model_folder: Path, precision: str) -> None:
    changes = []
    for chosen in ("no", precision):
        model = loading.load(loading.locate(str(model_folder)))
        model.adapters.add(2)
        parameters = list(model.denoiser.trained().values())
        before = torch.cat([p.flatten() for p in parameters]).detach()
        records = steps(model, learning_rate=1e-3, lr_warmup_steps=0, mixed_precision=chosen)
        assert {p.dtype for p in parameters} == {torch.float32}
        changes.append((torch.cat([p.flatten() for p in parameters]).detach() - before, records[0].norm_keep))
    assert torch.nn.functional.cosine_similarity(changes[0][0], changes[1][0], 0) > 0.8
    assert changes[1][1] == pytest.approx(changes[0][1], rel=0.05)  # the scale of fp16 is taken out again


class Coarse(torch.nn.Module):
    """c times the input, where gradients pass as fp16 has them: what is too large is infinite, too small is 0."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.full((1,), 0.5))

    def forward(self, noisy: torch.Tensor, t: torch.Tensor, return_dict: bool = False) -> tuple[torch.Tensor]:
        answer = noisy * self.weight
        answer.register_hook(lambda g: g.half().float())
        return (answer,)


@pytest.mark.parametrize("size", [1e-7, 1e-3, 1.0])
def test_in_fp16_gradients_neither_vanish_nor_overflow(size: float) -> None:
    """The norm is that of fp32, and the scale is halved until it is finite."""
    found = []
    for precision in ("no", "fp16"):
        model, settings = Coarse(), UnlearnSettings(train_batch_size=4, prior_batch_size=0, max_train_steps=1)
        bank = bank_of("epsilon", words=False)
        trainer = Trainer(*parts(model, precision), bank, METHODS["naive"], settings, precision)
        asked = trainer._network
        trainer._network = lambda *given: asked(*given) * size  # noqa: B023  # called within its turn
        found.append(next(iter(trainer)).norm_keep)
        assert trainer.loss_scale <= 2.0**16
    assert found[1] == pytest.approx(found[0], rel=0.1)
    assert found[1] > 0


@pytest.mark.parametrize(("answer", "cap", "taken"), [(0.0, 1.0, 1), (0.0, 1.2, 4), (1.0, 1.2, 1), (1.0, None, 1)])
def test_bounded_ends_where_the_mean_is_at_the_cap(answer: float, cap: float | None, taken: int) -> None:
    """The answer 0 has the error L_null: past .95 of the cap 1, short of .95 of 1.2. The answer 1 has twice that."""
    net = Net()
    with torch.no_grad():
        net.last.weight.zero_()
        net.last.bias.fill_(answer)
    values = {"max_train_steps": 4, "learning_rate": 1e-12, "forget_cap": cap}
    chosen = UnlearnSettings(train_batch_size=6, prior_batch_size=2, weights="full", **values)
    trainer = Trainer(*parts(net), bank_of("epsilon"), METHODS["bounded"], chosen, "no")
    assert len(list(trainer)) == taken == trainer.last
    assert trainer.reached is (taken == 1)


def test_other_methods_take_all_steps() -> None:
    net = Net()
    torch.nn.init.constant_(net.last.bias, 100.0)
    assert len(quick("naive", net, bank_of("epsilon"))) == 2


def test_a_step_without_active_targets_only_keeps(model_folder: Path) -> None:
    """Nothing is drawn from forget images, and the step is that of the keep term alone."""
    weights = []
    for method, active in (("siss", ()), ("naive", None)):
        model = whole(model_folder)
        chosen = UnlearnSettings(train_batch_size=8, prior_batch_size=4, max_train_steps=3, weights="full")
        trainer = Trainer(
            model.denoiser.network("no"), model.denoiser.trained(), bank_for(model), METHODS[method], chosen, "no"
        )
        trainer.active = active
        taken = list(trainer)
        assert all(s.norm_forget == s.loss_forget == 0 < s.norm_keep for s in taken)
        weights.append(vector(model.denoiser.module))
    torch.testing.assert_close(*weights, rtol=1e-5, atol=1e-6)


def test_a_pass_that_memory_does_not_hold_is_split_and_the_step_stays_the_same(model_folder: Path) -> None:
    """On the real UNet, for which memory runs out at more than four items."""
    steps_of, weights = [], []
    for most in (99, 4):
        model, room = whole(model_folder), Room()
        chosen = UnlearnSettings(train_batch_size=8, prior_batch_size=4, max_train_steps=2, weights="full")
        asked = model.denoiser.network("no")

        def network(noisy, t, told, asked=asked, most=most):
            if len(noisy) > most:
                raise torch.OutOfMemoryError("of this test")
            return asked(noisy, t, told)

        trainer = Trainer(
            room.network(network), model.denoiser.trained(), bank_for(model), METHODS["siss"], chosen, "no", room=room
        )
        steps_of.append(list(trainer))
        weights.append(vector(model.denoiser.module))
        assert room.most == (None if most == 99 else 3)  # 12, 6, 3
    torch.testing.assert_close(*weights, rtol=1e-5, atol=1e-6)
    assert [s.norm_keep for s in steps_of[0]] == pytest.approx([s.norm_keep for s in steps_of[1]], rel=1e-4)
