"""Full weights in parts: real processes that hold a network together, and what is refused for it."""

from pathlib import Path

import pytest
import torch
from torch import distributed
from torch.distributed.tensor import DTensor
from torch.multiprocessing import spawn

from memfix.config.unlearn import UnlearnSettings
from memfix.errors import ExitCode, MemfixError
from memfix.models.sharding import BLOCKS, shard, unsharded
from memfix.unlearn.train.sharding import check_sharding
from tests.conftest import tiny_pipeline

pytestmark = pytest.mark.slow  # processes that hold a network together

WORLD = 2


def work(rank: int, folder: Path) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=WORLD)
    unet = tiny_pipeline().unet
    whole = {name: p.detach().clone() for name, p in unet.named_parameters()}
    shard(unet)
    parameters = dict(unet.named_parameters())
    assert all(isinstance(p, DTensor) for p in parameters.values())
    held = sum(p.to_local().numel() for p in parameters.values())
    assert any(isinstance(m, BLOCKS) for m in unet.modules())
    with torch.no_grad():
        for parameter in parameters.values():
            parameter.mul_(2)
    gathered = unsharded(unet)
    told: dict[str, object] = {"held": held, "gathered": gathered is not None}
    if gathered is not None:
        found = dict(gathered.named_parameters())
        told["right"] = found.keys() == whole.keys() and all(torch.equal(found[n], 2 * w) for n, w in whole.items())
        told["plain"] = not any(isinstance(p, DTensor) for p in found.values())
        told["all"] = sum(w.numel() for w in whole.values())
    torch.save(told, folder / f"{rank}.pt")
    distributed.barrier()
    distributed.destroy_process_group()


def test_each_rank_holds_its_part_and_the_first_gets_all(tmp_path: Path) -> None:
    spawn(work, (tmp_path,), WORLD)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(WORLD))
    assert first["gathered"] and not second["gathered"]
    assert first["right"] and first["plain"]
    assert first["held"] + second["held"] == first["all"]
    assert 0.3 * first["all"] < second["held"] < 0.7 * first["all"]


def test_what_weights_in_parts_cannot_do_is_refused() -> None:
    plain = UnlearnSettings(weights="full", loop="open")
    check_sharding(plain, going_on=False)
    with pytest.raises(MemfixError, match="too small to need sharding") as caught:
        check_sharding(UnlearnSettings(weights="lora"), going_on=False)
    assert caught.value.exit_code is ExitCode.USAGE
    with pytest.raises(MemfixError, match="--validation-steps, --checkpointing-steps: this cannot be used") as caught:
        check_sharding(plain.model_copy(update={"validation_steps": 5, "checkpointing_steps": 5}), going_on=False)
    with pytest.raises(MemfixError, match="--loop closed: this cannot be used"):
        check_sharding(UnlearnSettings(weights="full"), going_on=False)
    assert "Leave them out" in caught.value.hint
    with pytest.raises(MemfixError, match="cannot resume from a checkpoint"):
        check_sharding(plain, going_on=True)
