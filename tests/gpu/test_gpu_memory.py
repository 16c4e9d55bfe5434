"""Too little memory is named, with what to lower, and what comes after it works."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
import torch
from diffusers import UNet2DConditionModel
from gpu_devices import DEVICES
from test_gpu_step import take, trainer_of

from memfix.errors import MemfixError
from memfix.models.device import forget_peak_memory, peak_memory


def all_of(size: int) -> Iterator[torch.Tensor]:
    """Blocks of so many bytes until there are no more."""
    with suppress(torch.OutOfMemoryError):
        while True:
            yield torch.empty(size, dtype=torch.uint8, device="cuda")


@contextmanager
def little_memory(on: str, unet: UNet2DConditionModel) -> Iterator[None]:
    """The GPU has no memory left; on the CPU the network says so, as torch would."""
    if on == "cuda":
        torch.cuda.empty_cache()
        total = torch.cuda.get_device_properties(0).total_memory
        held = torch.cuda.memory_reserved()
        torch.cuda.set_per_process_memory_fraction(max(held, 1) / total)
        filled = [block for size in (1 << 16, 1 << 9) for block in all_of(size)]
        try:
            yield
        finally:
            filled.clear()
            torch.cuda.set_per_process_memory_fraction(1.0)
        return

    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of …")

    hook = unet.mid_block.register_forward_pre_hook(fail)
    try:
        yield
    finally:
        hook.remove()


@DEVICES
def test_a_step_without_memory_says_what_to_lower_and_the_next_one_is_taken(on: str, model) -> None:
    trainer = trainer_of(model, train_batch_size=4)
    take(trainer, 1)
    with (
        little_memory(on, model.denoiser.module),
        pytest.raises(MemfixError, match="out of memory in a training step") as caught,
    ):
        take(trainer, 1)
    for flag in ("--prior-target picture", "--use-8bit-adam"):
        assert flag in caught.value.hint
    for tried in ("checkpointing", "batch-size"):  # by itself, before it gave up
        assert tried not in caught.value.hint
    assert trainer.step == 1
    [record] = take(trainer, 1)
    assert record.step == 2


@DEVICES
def test_a_peak_is_that_of_one_stage(on: str) -> None:
    size = 1 << 28
    block = torch.zeros(size, dtype=torch.uint8, device=on)
    assert peak_memory() >= size
    del block
    forget_peak_memory()
    if on == "cuda":
        assert peak_memory() < size
