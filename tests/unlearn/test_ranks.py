"""Real processes that train one model together take the steps of a single one."""

from pathlib import Path

import pytest
import torch
from test_trainer import vector
from tiny import Net, bank_of
from torch import distributed
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.multiprocessing import spawn

from memfix.config import UnlearnSettings
from memfix.records import Step
from memfix.unlearn.methods import METHODS
from memfix.unlearn.ranks import Ranks
from memfix.unlearn.trainer import Trainer

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
    "saliency": {"saliency": 0.5},
    "averages": {"use_ema": True},
}


def train(case: str, ranks: Ranks, sharded: bool = False) -> tuple[torch.Tensor, Step]:
    """Three steps; each must clip, so that the norm of the whole gradient counts."""
    given = {"gradient_accumulation_steps": 1, "method": "siss"} | CASES[case]
    given["gradient_accumulation_steps"] *= WORLD // ranks.of
    settings = UnlearnSettings(
        train_batch_size=4, prior_batch_size=2, max_train_steps=3, weights="full", learning_rate=0.01,
        max_grad_norm=0.1, **given,
    )  # fmt: skip
    model = Net()
    if sharded:
        fully_shard(model)
    parameters, method = list(model.parameters()), METHODS[settings.method]
    trainer = Trainer(model, parameters, bank_of("epsilon"), method, settings, "no", ranks=ranks)
    record = list(trainer)[-1]
    trainer.finish()
    if sharded:
        assert all(isinstance(p, DTensor) and p.to_local().numel() < p.numel() for p in parameters)
        return torch.cat([p.detach().full_tensor().flatten() for p in parameters]), record
    return vector(model), record


def work(rank: int, folder: Path) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=WORLD)
    ranks = Ranks(rank, WORLD)
    found = {(case, sharded): train(case, ranks, sharded) for case in CASES for sharded in (False, True)}
    told = ranks.shared({"from": rank} if ranks.first else None)
    torch.save((found, told), folder / f"{rank}.pt")
    distributed.barrier()
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[tuple]:
    folder = tmp_path_factory.mktemp("ranks")
    spawn(work, (folder,), WORLD)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(WORLD)]


@pytest.mark.parametrize("sharded", [False, True], ids=["whole", "sharded"])
@pytest.mark.parametrize("case", CASES)
def test_ranks_take_the_steps_of_one(results: list[tuple], case: str, sharded: bool) -> None:
    wanted, record = train(case, Ranks())
    for found, _ in results:
        weights, own = found[case, sharded]
        torch.testing.assert_close(weights, wanted, rtol=1e-5, atol=1e-6)
        for name in ("loss_keep", "loss_forget", "norm_keep", "norm_forget", "scale"):
            assert getattr(own, name) == pytest.approx(getattr(record, name), rel=1e-4)
    assert torch.equal(*(found[case, sharded][0] for found, _ in results))


def test_what_the_first_decides_is_known_to_all(results: list[tuple]) -> None:
    assert [told for _, told in results] == [{"from": 0}] * WORLD
