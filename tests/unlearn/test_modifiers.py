"""Which weights move, and what pulls them back."""

import pytest
import torch
from diffusers import UNet2DConditionModel, UNet2DModel
from tiny import Net, bank_of, gradient
from torch import nn

from memfix.errors import MemfixError
from memfix.unlearn.data.bank import Bank, Target
from memfix.unlearn.data.draws import Draw
from memfix.unlearn.objective.importance import forget_sensitivity, keep_fisher
from memfix.unlearn.objective.modifiers import (
    Mask,
    ParameterPrior,
    parameter_group,
    salient,
    top_share,
    with_first_factors,
)
from memfix.unlearn.objective.terms import View


def conditional() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8, block_out_channels=(8, 16), layers_per_block=1, cross_attention_dim=6, norm_num_groups=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=2,
    )  # fmt: skip


def unconditional(attention: bool = True) -> UNet2DModel:
    down = "AttnDownBlock2D" if attention else "DownBlock2D"
    return UNet2DModel(
        sample_size=8, in_channels=2, out_channels=2, block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4,
        attention_head_dim=4, down_block_types=(down, "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"),
        add_attention=attention,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("group", "inside", "outside"),
    [("cross-attention", "attn2.to_k.weight", "attn1."), ("self-attention", "attn1.to_q.weight", "attn2.")],
)
def test_groups_of_a_conditional_network(group: str, inside: str, outside: str) -> None:
    unet = conditional()
    names = list(parameter_group(dict(unet.named_parameters()), group))
    assert any(n.endswith(inside) for n in names)
    assert not any(outside in n for n in names)
    assert {n for n, p in unet.named_parameters() if p.requires_grad} == set(names)


def test_groups_of_a_network_without_prompts() -> None:
    unet = unconditional()
    every = dict(unet.named_parameters())
    names = list(parameter_group(every, "self-attention"))
    assert names and all(".attentions.0.to_" in n for n in names)
    with pytest.raises(MemfixError, match="no cross-attention weights"):
        parameter_group(every, "cross-attention")
    assert parameter_group(every, "all") == every


def test_top_share_by_hand() -> None:
    magnitudes = [torch.tensor([[0.1, 5.0], [0.0, 2.0]]), torch.tensor([3.0, 0.2, 0.0, 0.05])]
    assert [m.tolist() for m in top_share(magnitudes, 3 / 8)] == [
        [[False, True], [False, True]],
        [True, False, False, False],
    ]
    assert sum(int(m.sum()) for m in top_share(magnitudes, 1.0)) == 6  # entries of 0 never


def test_top_share_is_a_quantile() -> None:
    magnitudes = [torch.rand(1000, generator=torch.Generator().manual_seed(i)) ** 8 for i in range(3)]
    allowed = torch.cat(top_share(magnitudes, 0.25))
    every = torch.cat(magnitudes)
    assert int(allowed.sum()) == 750
    assert every[allowed].min() > every[~allowed].max()


NAMES = ["to_q.lora_A.memfix.weight", "to_q.lora_B.memfix.weight", "conv_in.weight"]


def test_rows_of_an_adapter_stand_or_fall_as_one() -> None:
    """Row lengths of B are 5 and 1, and the other weights are 3 and 0.5: half of six entries are 3."""
    found = [torch.zeros(2, 3), torch.tensor([[3.0, 4.0], [1.0, 0.0]]), torch.tensor([3.0, 0.5])]
    masks = salient(NAMES, found, 0.5)
    assert masks[0].all()
    assert [m.tolist() for m in masks[1:]] == [[[True, True], [False, False]], [True, False]]
    found[1] = found[1][..., None, None]  # an adapter of a convolution
    assert salient(NAMES, found, 0.5)[1].flatten(1).tolist() == [[True, True], [False, False]]


def test_first_factors_are_held_as_their_second_ones() -> None:
    fisher = [torch.zeros(2, 3), torch.tensor([[3.0, 4.0], [1.0, 0.0]]), torch.tensor([3.0, 0.5])]
    found = with_first_factors(NAMES, fisher)
    assert found[0].tolist() == [[2.0] * 3] * 2
    assert found[1] is fisher[1] and found[2] is fisher[2]


def test_prior_gradient_is_autograd() -> None:
    torch.manual_seed(0)
    parameters = [nn.Parameter(torch.randn(4, 3)), nn.Parameter(torch.randn(5))]
    prior = ParameterPrior.from_variance(
        [torch.randn(4, 3), torch.randn(5)], [torch.rand(4, 3), torch.rand(5)]
    )  # fmt: skip
    wanted = torch.autograd.grad(prior.loss(parameters), parameters)
    before = [torch.randn_like(p) for p in parameters]
    for p, g in zip(parameters, before, strict=True):
        p.grad = g.clone()
    prior.pull(parameters, 0.3)
    for p, g, w in zip(parameters, before, wanted, strict=True):
        torch.testing.assert_close(p.grad, 0.7 * g + 0.3 * w)


def test_prior_of_checkpoints_by_hand() -> None:
    # weight 0 was 1 and 3 (mean 2, variance 1), weight 1 was 5 and 5: held a thousand times as hard
    checkpoints = [{"w": torch.tensor([1.0, 5.0])}, {"w": torch.tensor([3.0, 5.0])}]
    prior = ParameterPrior.from_checkpoints({"w": torch.zeros(2)}, checkpoints)
    assert prior.mean[0].tolist() == [2, 5]
    precision = prior.precision[0]
    assert precision.mean().item() == pytest.approx(1)
    # floor = 0.001 · mean variance = 0.0005
    assert (precision[1] / precision[0]).item() == pytest.approx(1.0005 / 0.0005, rel=1e-3)


def test_checkpoints_that_do_not_differ_hold_all_weights_alike() -> None:
    prior = ParameterPrior.from_checkpoints({"w": torch.zeros(3)}, [{"w": torch.ones(3)}] * 2)
    assert prior.precision[0].tolist() == [1, 1, 1]


def test_fisher_prior_pulls_where_the_keep_loss_is_sensitive() -> None:
    parameter = nn.Parameter(torch.tensor([1.0, 1.0]))
    prior = ParameterPrior.from_fisher([parameter], [torch.tensor([9.0, 1.0])])
    with torch.no_grad():
        parameter += 1
    prior.pull([parameter], 0.5)
    assert parameter.grad is not None
    assert (parameter.grad[0] / parameter.grad[1]).item() == pytest.approx(9, rel=0.02)
    assert parameter.grad.mean().item() == pytest.approx(0.5)


def test_sensitivities_are_of_their_own_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """One item each: |∇| of a forget image, and ∇² of a keep image."""
    monkeypatch.setattr("memfix.unlearn.objective.importance.ITEMS", 1)
    bank, model, view = bank_of("epsilon"), Net(), View("epsilon")
    parameters = list(model.parameters())

    def error(side, t_range: tuple[int, int]) -> torch.Tensor:
        draw = Draw(4, 0, "fisher" if side == "keep" else "saliency")
        batch = bank.draw(draw, 1, int(side == "keep"), float(side == "forget"), t_range)
        items = getattr(batch, side)
        g, s = (v.float().reshape(-1, 1, 1, 1) for v in (items.signal, items.noise))
        eps = (items.noisy - g * items.clean) / s
        return (model.network(items.noisy, items.t, items.conditioning) - eps).square().sum()

    wanted = gradient(model, error("forget", (50, 100))).abs()
    model.zero_grad(set_to_none=True)
    found = forget_sensitivity(bank, parameters, model.network, view, (50, 100), 4)
    torch.testing.assert_close(torch.cat([f.flatten() for f in found]), wanted, rtol=1e-3, atol=1e-4)
    assert all(p.grad is None for p in parameters)

    wanted = gradient(model, error("keep", (0, 100))).square()
    model.zero_grad(set_to_none=True)
    found = keep_fisher(bank, parameters, model.network, view, 4)
    torch.testing.assert_close(torch.cat([f.flatten() for f in found]), wanted, rtol=1e-3, atol=1e-3)


def test_mask_keeps_every_bit_of_the_others() -> None:
    parameter = nn.Parameter(torch.tensor([1.0, 2.0]))
    parameter.grad = torch.tensor([5.0, 5.0])
    mask = Mask([torch.tensor([True, False])])
    mask.apply([parameter])
    mask.decay([parameter], 0.1)
    assert parameter.grad.tolist() == [5, 0]
    assert parameter.tolist() == [pytest.approx(0.9), 2]
    assert mask.share == 0.5


def test_without_keep_images_no_weight_is_known_to_matter() -> None:
    bank, model = bank_of("epsilon"), Net()
    bare = Bank([Target("a", bank.targets[0].forget)], [], bank.texts, bank.schedule)
    with pytest.raises(ValueError, match="keep images"):
        keep_fisher(bare, list(model.parameters()), model.network, View("epsilon"), 0)
