"""What is wrong with a command line before its command runs: empty words, and flags that only other scripts have."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from itertools import pairwise, takewhile
from typing import Any

import typer
from typer.core import TyperCommand

from memfix.console import Talk
from memfix.errors import ExitCode, MemfixError

UNSET = "A variable of the shell may be unset. Give a value, or leave it out."

NO_CROPS = "memfix does not crop or mirror pictures: each is shown whole, at the size of the model"
ADAM = "AdamW runs with the values that PyTorch has"
OTHER_FLAGS: Mapping[str, str] = {
    **dict.fromkeys(("adam-beta1", "adam-beta2", "adam-epsilon"), f"{ADAM}; only --adam-weight-decay can be set"),
    "num-train-epochs": "an unlearning is counted in steps: --max-train-steps, or --draws-per-prompt for each prompt",
    "scale-lr": "the learning rate is taken as it is: multiply --learning-rate yourself",
    "logging-dir": "trackers write to logs/ of the run; --report-to names them",
    "validation-prompt": "validations take the memorized prompts and the controls: --validation-steps says how often",
    "validation-epochs": "an unlearning is counted in steps: --validation-steps",
    "num-validation-samples": "it is called --num-validation-images",
    "dataloader-num-workers": "pictures are encoded once before the training, so nothing is loaded during it",
    **dict.fromkeys(("center-crop", "random-flip", "image-interpolation-mode"), NO_CROPS),
    **dict.fromkeys(("lora-alpha", "lora-dropout"), "a LoRA is scaled by its rank, without dropout: see --rank"),
    "lora-rank": "it is called --rank",
    "lr": "it is called --learning-rate",
    "batch-size": "of a training it is called --train-batch-size, of sampling --batch-size of 'memfix detect'",
    **dict.fromkeys(("instance-prompt", "class-prompt", "caption-column"), "prompts are those of 'memfix detect'"),
    **dict.fromkeys(
        ("instance-data-dir", "class-data-dir", "train-data-dir", "dataset-name", "image-column"),
        "training pictures are given to 'memfix detect', as --references",
    ),
    **dict.fromkeys(
        ("with-prior-preservation", "num-class-images"), "keep pictures are always drawn: see --keep-folder"
    ),
    **dict.fromkeys(("train-text-encoder", "text-encoder-lr"), "memfix changes the denoiser alone"),
    **dict.fromkeys(
        ("push-to-hub", "hub-token", "hub-model-id"), "memfix uploads nothing: see 'memfix export', then 'hf upload'"
    ),
    "noise-offset": "noise is drawn as the model's schedule has it",
    "prediction-type": "it is read from the model",
    **dict.fromkeys(("revision", "variant"), "the model is that of 'memfix detect', which has the flag"),
    "cache-dir": "set HF_HOME",
}
"""Flags of training scripts of diffusers that memfix has not: what to use instead, or why there is nothing."""


class Command(TyperCommand):
    """A command that tells what is wrong with the words of its command line as any other error."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words of the command line. Ends with a message and exit code 2 where there is nothing to read."""
        known = {name for p in self.get_params(ctx) for name in (*p.opts, *p.secondary_opts)}
        if problem := problem_of(args, known):
            Talk().error(problem.message, problem.hint)
            raise typer.Exit(int(problem.exit_code))
        return super().parse_args(ctx, args)


def problem_of(arguments: Sequence[str], known: Container[str]) -> MemfixError | None:
    """What is wrong with the words of a command line, whose command has the `known` flags; None if nothing is.

    A path that is empty would be the folder that one stands in.
    """
    flags = list(takewhile(lambda word: word != "--", arguments))
    for before, word in pairwise(("", *arguments)):
        flag, equals, value = word.partition("=")
        if not word.strip():
            return _error(f"The value of {before} is empty." if before in known else "An argument is empty.", UNSET)
        if flag in known and equals and not value.strip():
            return _error(f"The value of {flag} is empty.", UNSET)
    for word in flags:
        flag = word.partition("=")[0]
        if flag not in known and (told := OTHER_FLAGS.get(flag.removeprefix("--").removeprefix("no-"))):
            return _error(f"There is no {flag} here.", told[0].upper() + told[1:] + ".")
    return None


def _error(problem: str, hint: str) -> MemfixError:
    return MemfixError(problem, hint, ExitCode.USAGE)
