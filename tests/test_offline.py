"""Offline is what huggingface_hub takes for offline."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub.constants import ENV_VARS_TRUE_VALUES

from memfix.offline import TRUE, can_be_reached, is_offline


def test_every_word_of_the_hub_library() -> None:
    assert TRUE == ENV_VARS_TRUE_VALUES
    for word in ("1", "on", "yes", "True", "TRUE", "Yes"):
        assert is_offline({"HF_HUB_OFFLINE": word}), word
    for word in ("", "0", "no", "off", "False"):
        assert not is_offline({"HF_HUB_OFFLINE": word}), word
    assert not is_offline({})
    assert is_offline({"TRANSFORMERS_OFFLINE": "yes"})
    assert not is_offline({"HF_HUB_OFFLINE": "no", "TRANSFORMERS_OFFLINE": "yes"})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("fetch", "links.txt"), "memfix is offline"),
        (("prompts", "get", "nemo-memorized"), "offline"),
    ],
)
def test_commands_do_not_try_the_network(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    (tmp_path / "links.txt").write_text("https://example.invalid/a.png\n")
    done = subprocess.run(
        [sys.executable, "-m", "memfix", *words], cwd=tmp_path, capture_output=True, text=True, timeout=300,
        env={**os.environ, "HF_HUB_OFFLINE": "Yes", "COLUMNS": "160"},
    )  # fmt: skip
    assert done.returncode == 1
    assert message in done.stderr


def test_a_server_that_is_there_can_be_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        assert can_be_reached(address)
    assert not can_be_reached(address)


@pytest.mark.slow
def test_a_hub_that_cannot_be_reached_is_told_in_one_error(tmp_path: Path) -> None:
    env = {k: v for k, v in os.environ.items() if "OFFLINE" not in k and "PROXY" not in k.upper()}
    done = subprocess.run(
        [sys.executable, "-m", "memfix", "detect", "a cat on a mat"], cwd=tmp_path, capture_output=True, text=True,
        timeout=300, env={**env, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), "COLUMNS": "300"},
    )  # fmt: skip
    assert done.returncode == 1
    said = [line for line in done.stderr.splitlines() if line.strip()]
    assert "No model was named" in said[0]
    assert "is not on this machine, and http://127.0.0.1:9 cannot be reached" in said[-2]
    assert all(way in said[-1] for way in ("-m MODEL", "MEMFIX_MODEL", "--config", "save_pretrained"))
    assert len(said) <= 5, done.stderr
