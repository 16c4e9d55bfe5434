"""Real processes that train one model together take the steps of a single one."""

from pathlib import Path

import pytest
import torch
from test_trainer import vector
from tiny import Net, bank_of, parts
from torch import distributed
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.multiprocessing import spawn

from memfix.config.unlearn import UnlearnSettings
from memfix.models.denoiser import frozen
from memfix.records import Step
from memfix.unlearn.objective.methods import METHODS
from memfix.unlearn.train.adversary import Adversary
from memfix.unlearn.train.ranks import Ranks
from memfix.unlearn.train.trainer import Trainer
from memfix.world import World

pytestmark = pytest.mark.slow  # processes that train together

WORLD = 2
CASES: dict[str, dict] = {
    "siss": {},
    "siss, accumulated": {"gradient_accumulation_steps": 2},
    "naive": {"method": "naive"},
    "neggrad": {"method": "neggrad", "forget_cap": 3.0},
    "erasediff": {"method": "erasediff"},
    "surrogate": {"method": "surrogate"},
    "anchor": {"method": "anchor"},
    "vdu": {"method": "vdu", "parameter_prior": 0.5},
    "vdu, checkpoints": {"method": "vdu", "parameter_prior": 0.5, "checkpoints": True},
    "bounded": {"method": "bounded", "forget_cap": 3.0},
    "retrack": {"method": "retrack"},
    "low-pass": {"forget_low_pass": 0.5},
    "held to the model": {"prior_target": "model"},
    "saliency": {"saliency": 0.5},
    "averages": {"use_ema": True},
    "adversarial": {"adversarial_steps": 8},
    "adversarial, accumulated": {"adversarial_steps": 8, "gradient_accumulation_steps": 2},
}


WAYS = [(case, sharded) for case in CASES for sharded in (False, True) if not (sharded and "adversarial" in case)]


def train(case: str, ranks: Ranks, sharded: bool = False) -> tuple[torch.Tensor, Step]:
    """Three steps, or those against an adversary; each must clip, so that the norm of the whole gradient counts."""
    given = {"gradient_accumulation_steps": 1, "method": "siss"} | CASES[case]
    given["gradient_accumulation_steps"] *= WORLD // ranks.world.world_size
    model, states = Net(), []
    if given.pop("checkpoints", False):
        states = [{n: p.detach() + i * p.detach().square() for n, p in model.named_parameters()} for i in range(2)]
    settings = UnlearnSettings(
        train_batch_size=4, prior_batch_size=2, max_train_steps=3, weights="full", learning_rate=0.01,
        max_grad_norm=0.1, **given,
    )  # fmt: skip
    held = frozen(model, "no") if settings.prior_target == "model" else None
    if sharded:
        fully_shard(model)
    parameters, method = list(model.parameters()), METHODS[settings.method]
    (network, weights), bank, adversary = parts(model), bank_of("epsilon"), None
    if settings.adversarial_steps:
        settings, adversary = settings.adversarial(), Adversary(bank, network, ranks=ranks)
    trainer = Trainer(network, weights, bank, method, settings, "no", states, held, ranks, adversary)
    record = list(trainer)[-1]
    trainer.finish()
    if sharded:
        assert all(isinstance(p, DTensor) and p.to_local().numel() < p.numel() for p in parameters)
        return torch.cat([p.detach().full_tensor().flatten() for p in parameters]), record
    return vector(model), record


KNOWN = ("saliency", "parameter_prior")


def known(ranks: Ranks, **values: float) -> tuple[torch.Tensor, None]:
    """What a trainer knows of the weights, on ranks that disagree a lot about what they were trained on."""
    settings = UnlearnSettings(train_batch_size=4, weights="full", max_train_steps=1, **values)
    model = Net()
    bank = bank_of("epsilon", scale=0.3 + ranks.world.rank)
    trainer = Trainer(*parts(model), bank, METHODS["siss"], settings, "no", ranks=ranks)
    known = trainer._mask.allowed if trainer._mask else trainer._prior.precision
    return torch.cat([p.flatten() for p in known]), None


def work(rank: int, folder: Path) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=WORLD)
    ranks = Ranks(World(rank, WORLD))
    found = {(case, sharded): train(case, ranks, sharded) for case, sharded in WAYS}
    found |= {("known", name): known(ranks, **{name: 0.5}) for name in KNOWN}
    told = ranks.shared({"from": rank} if ranks.world.first else None)
    each, weight = ranks.gathered(str(rank)), torch.full((2,), 1.0 + rank)
    ranks.spread([weight])
    torch.save((found, told, each, weight), folder / f"{rank}.pt")
    distributed.barrier()
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[tuple]:
    folder = tmp_path_factory.mktemp("ranks")
    spawn(work, (folder,), WORLD)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(WORLD)]


@pytest.mark.parametrize(("case", "sharded"), WAYS, ids=[case + ", sharded" * sharded for case, sharded in WAYS])
def test_ranks_take_the_steps_of_one(results: list[tuple], case: str, sharded: bool) -> None:
    wanted, record = train(case, Ranks())
    for found, *_ in results:
        weights, own = found[case, sharded]
        torch.testing.assert_close(weights, wanted, rtol=1e-5, atol=1e-6)
        for name in ("loss_keep", "loss_forget", "norm_keep", "norm_forget", "scale"):
            assert getattr(own, name) == pytest.approx(getattr(record, name), rel=1e-4)
    assert torch.equal(*(found[case, sharded][0] for found, *_ in results))


@pytest.mark.parametrize("name", KNOWN)
def test_ranks_agree_which_weights_matter(results: list[tuple], name: str) -> None:
    first, second = (found["known", name][0] for found, *_ in results)
    assert torch.equal(first, second)


def test_what_the_first_decides_is_known_to_all_and_so_is_what_each_has(results: list[tuple]) -> None:
    assert [told for _, told, _, _ in results] == [{"from": 0}] * WORLD
    assert [each for *_, each, _ in results] == [["0", "1"]] * WORLD
    assert [weight.tolist() for *_, weight in results] == [[1.0, 1.0]] * WORLD
