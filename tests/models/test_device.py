"""What users of a device are told of its precision, and where products of matrices are rounded."""

import torch

from memfix.models.device import advice_for, autocast, device, gpu_memory, precision_advice, tf32


def test_cards_without_fast_bf16_are_told_of_fp16() -> None:
    told = advice_for("cuda", "Tesla T4", False, "auto")
    assert told.startswith("Arithmetic is in fp32, since Tesla T4 is not fast at bf16. --mixed-precision fp16")
    assert advice_for("cuda", "Tesla V100", False, "no") == told.replace("Tesla T4", "Tesla V100")
    assert "slow at it" in advice_for("cuda", "Tesla T4", False, "bf16")
    assert advice_for("cuda", "Tesla T4", False, "fp16") == ""


def test_where_nothing_is_better_nothing_is_said() -> None:
    for asked in ("auto", "no", "fp16", "bf16"):
        assert advice_for("cuda", "NVIDIA A100", True, asked) == ""


def test_mps_computes_in_fp32_unless_something_else_is_asked_for() -> None:
    assert "in fp32" in advice_for("mps", "MPS", False, "auto")
    assert "not tried" in advice_for("mps", "MPS", False, "fp16")


def test_a_cpu_has_no_memory_of_a_gpu_and_rounds_no_products() -> None:
    if device().type != "cpu":
        return
    assert gpu_memory() is None and precision_advice("auto") == ""
    before = torch.get_float32_matmul_precision()
    with tf32(), autocast("no"):
        assert torch.get_float32_matmul_precision() == before
