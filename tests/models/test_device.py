"""What users of a device are told of its precision, and where products of matrices are rounded."""

import os
import socket
import subprocess
import sys

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


ENDING = """
import atexit

from torch import distributed

atexit.register(lambda: print("still there" if distributed.is_initialized() else "ended"))  # runs last
from memfix.models.device import state

state()
assert distributed.is_initialized()
"""


def test_a_process_leaves_the_others_before_python_ends() -> None:
    """Or threads of the group may abort the process after its work, and torchrun calls the training failed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    one = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    done = subprocess.run(
        [sys.executable, "-c", ENDING], env={**os.environ, **one, "CUDA_VISIBLE_DEVICES": ""}, capture_output=True,
        text=True, timeout=300,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "ended\n"), done.stderr
