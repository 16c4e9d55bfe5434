"""Cross-attention maps by hand, and the model as it was before."""

import pytest
import torch

from memfix.errors import MemfixError
from memfix.models.attention import record_cross_attention
from tests.conftest import tiny_pipeline


@pytest.fixture(scope="module")
def unet() -> torch.nn.Module:
    return tiny_pipeline().unet.requires_grad_(False).eval()


def inputs() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "sample": torch.randn(2, 4, 8, 8, generator=generator),
        "timestep": torch.tensor(10),
        "encoder_hidden_states": torch.randn(2, 16, 16, generator=generator),
    }


def test_recording_changes_nothing_and_is_undone(unet: torch.nn.Module) -> None:
    before, plain = dict(unet.attn_processors), unet(**inputs()).sample
    with record_cross_attention(unet, 64) as recorder:
        assert torch.equal(unet(**inputs()).sample, plain)
    assert {name: id(p) for name, p in unet.attn_processors.items()} == {name: id(p) for name, p in before.items()}
    maps = recorder.mean()
    assert maps.shape == (2, 64, 16)
    torch.testing.assert_close(maps.sum(-1), torch.ones(2, 64))


def test_processors_come_back_after_an_error(unet: torch.nn.Module) -> None:
    before = dict(unet.attn_processors)
    with pytest.raises(ValueError), record_cross_attention(unet, 64):
        raise ValueError
    assert {name: id(p) for name, p in unet.attn_processors.items()} == {name: id(p) for name, p in before.items()}


def test_maps_of_one_layer_are_softmax_of_queries_and_keys(unet: torch.nn.Module) -> None:
    layer = unet.down_blocks[0].attentions[0].transformer_blocks[0].attn2
    generator = torch.Generator().manual_seed(1)
    hidden, context = torch.randn(1, 64, 8, generator=generator), torch.randn(1, 16, 16, generator=generator)
    holder = torch.nn.ModuleDict({"attn2": layer})
    with record_cross_attention(holder, 64) as recorder:
        layer(hidden, encoder_hidden_states=context)
    width = 8 // layer.heads
    expected = torch.zeros(64, 16)
    for head in range(layer.heads):
        rows = slice(head * width, (head + 1) * width)
        query, key = hidden[0] @ layer.to_q.weight[rows].T, context[0] @ layer.to_k.weight[rows].T
        expected += torch.softmax(query @ key.T / width**0.5, -1) / layer.heads
    torch.testing.assert_close(recorder.mean()[0], expected)


def test_a_resolution_that_no_layer_has_is_named(unet: torch.nn.Module) -> None:
    with record_cross_attention(unet, 7) as recorder:
        unet(**inputs())
    with pytest.raises(MemfixError, match="over 7 positions"):
        recorder.mean()
