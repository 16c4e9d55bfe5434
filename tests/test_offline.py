"""Offline is what huggingface_hub takes for offline."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub.constants import ENV_VARS_TRUE_VALUES

from memfix.offline import TRUE, is_offline


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
