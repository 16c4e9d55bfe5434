"""How many items a network takes at once, on a network that has room for a few."""

from collections.abc import Callable

import pytest
import torch

from memfix.models.conditioning import Conditioning
from memfix.models.room import Room


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
