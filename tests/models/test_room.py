"""How many items a network takes at once, on a network that has room for a few."""

from collections.abc import Callable

import pytest
import torch

from memfix.models.conditioning import Conditioning
from memfix.models.denoiser import Denoiser
from memfix.models.room import Room
from tests.conftest import tiny_pipeline


def asked(most: int, whole: torch.nn.Module) -> tuple[Callable[..., torch.Tensor], list[int]]:
    """A network for which memory runs out at more than so many items, and how many it was asked about each time."""
    sizes: list[int] = []

    def network(noisy: torch.Tensor, t: torch.Tensor | float, told: Conditioning | None) -> torch.Tensor:
        sizes.append(len(noisy))
        if len(noisy) > most:
            raise torch.OutOfMemoryError("of this test")
        assert told is not None and len(told) == len(noisy)
        times = torch.as_tensor(t, dtype=noisy.dtype).expand(len(noisy))
        return whole(noisy + times[:, None] * told.tokens)

    return network, sizes


@pytest.mark.parametrize("time", [torch.arange(10.0), 3.0])
def test_parts_have_the_gradients_of_the_whole(time: torch.Tensor | float) -> None:
    whole = torch.nn.Sequential(torch.nn.Linear(6, 6), torch.nn.SiLU(), torch.nn.Linear(6, 6)).double()
    generator = torch.Generator().manual_seed(0)
    noisy, tokens = torch.randn(2, 10, 6, generator=generator, dtype=torch.float64)
    tokens.requires_grad_()

    def gradients(room: Room, most: int) -> list[torch.Tensor]:
        network, _ = asked(most, whole)

        def work() -> list[torch.Tensor]:
            loss = room.network(network)(noisy, time, Conditioning(tokens)).square().sum()
            return list(torch.autograd.grad(loss, [tokens, *whole.parameters()]))

        return room.fit(work, len(noisy))

    room = Room()
    for a, b in zip(gradients(Room(), 10), gradients(room, 3), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    assert room.most == 3  # 10, 5, 3


def test_what_was_found_is_remembered_and_a_single_item_has_to_fit() -> None:
    room, (network, sizes) = Room(), asked(4, torch.nn.Identity())
    noisy = torch.zeros(10, 2)

    def work() -> torch.Tensor:
        return room.network(network)(noisy, 1.0, Conditioning(noisy))

    assert room.fit(work, 10).shape == (10, 2) and sizes == [10, 5, 3, 3, 3, 1]
    sizes.clear()
    room.fit(work, 10)
    assert sizes == [3, 3, 3, 1]
    none, _ = asked(0, torch.nn.Identity())
    with pytest.raises(torch.OutOfMemoryError):
        room.fit(lambda: room.network(none)(noisy, 1.0, Conditioning(noisy)), 10)
    assert room.most == 1


def test_parts_hold_the_activations_of_one_part() -> None:
    """Of what is kept for the way back; counted as autograd packs it."""
    layers = torch.nn.Sequential(*[torch.nn.Linear(32, 32) for _ in range(8)])

    def held(most: int | None) -> int:
        bytes_held, peak = 0, 0

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal bytes_held, peak
            bytes_held += tensor.nbytes
            peak = max(peak, bytes_held)
            return tensor

        network, _ = asked(64, layers)
        noisy = torch.zeros(64, 32)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            Room(most).network(network)(noisy, 1.0, Conditioning(noisy)).sum()
        return peak

    assert held(8) < held(None) / 4


def test_activations_are_computed_again_before_passes_are_split_and_both_is_the_last_way() -> None:
    """A network of which memory holds 4 items, or 5 while activations are computed again, and so on."""
    tried = list[tuple[int, bool]]()

    def found(plain: int, saving: int, items: int = 10) -> Room:
        tried.clear()
        on = list[bool]()
        room = Room(save=on.append)

        def work() -> None:
            now = min(items, room.most or items)
            tried.append((now, room.saves))
            assert room.saves is (bool(on) and on[-1])
            if now > (saving if room.saves else plain):
                raise torch.OutOfMemoryError("of this test")

        room.fit(work, items)
        return room

    assert (found(10, 99).most, tried) == (None, [(10, False)])
    room = found(4, 10)
    assert (room.most, room.saves, tried) == (None, True, [(10, False), (10, True)])
    room = found(4, 9)
    assert (room.most, room.saves, tried) == (3, False, [(10, False), (10, True), (5, False), (3, False)])
    room = found(0, 4)
    assert (room.most, room.saves) == (3, True)
    assert tried[-3:] == [(1, False), (5, True), (3, True)]
    assert found(0, 1, items=1).saves
    with pytest.raises(torch.OutOfMemoryError):
        found(0, 0)
    with pytest.raises(torch.OutOfMemoryError):
        found(0, 0, items=1)


def test_computing_activations_again_changes_no_gradient() -> None:
    denoiser = Denoiser(tiny_pipeline())
    denoiser.module.requires_grad_(True).train()
    generator = torch.Generator().manual_seed(0)
    noisy, told = torch.randn(3, 4, 8, 8, generator=generator), torch.randn(3, 16, 16, generator=generator)
    left = 1

    def gradients(room: Room) -> list[torch.Tensor]:
        def work() -> list[torch.Tensor]:
            nonlocal left
            if not room.saves and left:
                left -= 1
                raise torch.OutOfMemoryError("of this test")
            loss = room.network(denoiser.network("no"))(noisy, 500.0, Conditioning(told)).square().sum()
            return list(torch.autograd.grad(loss, list(denoiser.trained().values())))

        return room.fit(work, 3)

    room = Room(save=denoiser.save_memory)
    again = gradients(room)
    assert room.saves and room.most is None and denoiser.module.is_gradient_checkpointing
    denoiser.save_memory(False)
    for a, b in zip(gradients(Room()), again, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
