"""Rows of what a denoiser is told: every operation takes all parts along."""

import pytest
import torch
from diffusers import UNet2DConditionModel

from memfix.models.conditioning import Conditioning, Texts
from memfix.models.denoiser import network_of

CPU = torch.device("cpu")


def rows(n: int, seed: int = 0) -> Conditioning:
    generator = torch.Generator().manual_seed(seed)
    parts = (torch.randn(n, *shape, generator=generator) for shape in ((7, 6), (5,), (6,)))
    return Conditioning(*parts)


def check(found: Conditioning, wanted: list[tuple[Conditioning, int]]) -> None:
    """Row by row, those of others."""
    assert len(found) == len(wanted)
    for i, (other, row) in enumerate(wanted):
        assert torch.equal(found.tokens[i], other.tokens[row])
        assert torch.equal(found.pooled[i], other.pooled[row])
        assert torch.equal(found.time_ids[i], other.time_ids[row])


def test_rows_are_picked_repeated_and_joined() -> None:
    a, b = rows(3), rows(2, seed=1)
    check(a.pick(torch.tensor([True, False, True])), [(a, 0), (a, 2)])
    check(a.pick(torch.tensor([2, 2])), [(a, 2), (a, 2)])
    check(a.pick(slice(1, None)), [(a, 1), (a, 2)])
    check(b.repeat_interleave(2), [(b, 0), (b, 0), (b, 1), (b, 1)])
    check(a.pick(slice(1)).expand(2), [(a, 0), (a, 0)])
    check(Conditioning.cat([b, a]), [(b, 0), (b, 1), (a, 0), (a, 1), (a, 2)])
    check(b.where(torch.tensor([False, True]), a.pick(slice(2))), [(a, 0), (b, 1)])


@pytest.mark.parametrize("part", ["tokens", "pooled", "time_ids"])
def test_rows_are_equal_if_all_parts_are(part: str) -> None:
    a, b = rows(3), rows(3)
    assert a.equals(b).tolist() == [True] * 3
    getattr(b, part)[1, 0] += 1
    assert a.equals(b).tolist() == [True, False, True]


def test_a_part_that_a_model_does_not_have_stays_away() -> None:
    a = Conditioning(torch.randn(2, 7, 6))
    for made in (a.pick(slice(1)), a.expand(2), Conditioning.cat([a, a]), a.where(torch.tensor([True, False]), a)):
        assert made.pooled is made.time_ids is None
    with pytest.raises(TypeError):
        Conditioning.cat([rows(2), a])


def test_texts_by_text() -> None:
    a = rows(3)
    texts = Texts(["x", "y", "z"], a, CPU)
    check(texts.stack(["z", "x", "z"]), [(a, 2), (a, 0), (a, 2)])
    assert texts.stack([]).tokens.shape == (0, 7, 6)
    with pytest.raises(KeyError):
        texts.stack(["w"])


def test_a_network_gets_all_parts() -> None:
    """One that takes pooled embeddings and sizes besides the tokens, as SDXL does, against a direct call."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(8, 16), layers_per_block=1, cross_attention_dim=6, norm_num_groups=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=2, addition_embed_type="text_time", addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=5 + 6 * 4,
    )  # fmt: skip
    told, noisy, t = rows(2), torch.randn(2, 4, 8, 8), torch.tensor([3, 900])
    with torch.no_grad():
        answer = network_of(unet, "no")(noisy, t, told)
        more = {"text_embeds": told.pooled, "time_ids": told.time_ids}
        wanted = unet(noisy, t, encoder_hidden_states=told.tokens, added_cond_kwargs=more).sample
        other = network_of(unet, "no")(noisy, t, Conditioning(told.tokens, told.pooled + 1, told.time_ids))
    assert torch.equal(answer, wanted)
    assert not torch.allclose(answer, other)
