"""A trainer's state in a folder: written whole or not at all, and taken up again bit for bit. Knows no method."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from memfix.errors import MemfixError
from memfix.files import atomic_folder, remove_folder, sort_metadata
from memfix.unlearn.train.trainer import Trainer

LATEST = "latest"
WEIGHTS, OPTIMIZER, AVERAGES = "weights.safetensors", "optimizer.safetensors", "averages.safetensors"
ADVERSARY = "adversary.safetensors"
CHECKPOINT_NAME = re.compile(r"checkpoint-(\d+)")


class Checkpoints:
    """The folders `checkpoint-<step>` of one training.

    Each holds the weights that are trained, and the optimizer's state of each, by the names that they have in the
    model. What a step draws depends on the seed and on its number alone, so the number is all there is to say of the
    generators and of the position in the data. Masks and priors come from the weights before training: make the trainer
    first, then `restore`. `limit` is how many to keep, the newest ones; all when None.
    """

    def __init__(self, folder: Path, trainer: Trainer, limit: int | None = None) -> None:
        self._folder, self._trainer, self._limit = folder, trainer, limit
        self._parameters = trainer.weights

    def steps(self) -> list[int]:
        """The steps there are whole checkpoints of, in order."""
        return steps_in(self._folder)

    def save(self, spared: int | None = None) -> None:
        """Write the state, whole or not at all; then remove the oldest beyond the limit but `spared`."""
        tensors, numbers = self._optimizer_state()
        metadata = {
            "step": str(self._trainer.step), "loss_scale": str(self._trainer.loss_scale),
            "reached": str(self._trainer.reached), "numbers": json.dumps(numbers),
        }  # fmt: skip
        with atomic_folder(self._path(self._trainer.step)) as folder:
            _write(folder / WEIGHTS, {name: p.detach() for name, p in self._parameters.items()})
            _write(folder / OPTIMIZER, tensors, metadata)
            if averages := self._trainer.averages:
                _write(folder / AVERAGES, dict(zip(self._parameters, averages.values, strict=True)))
            if adversary := self._trainer.adversary:
                _write(folder / ADVERSARY, adversary.state())
        for step in self.steps()[: -self._limit] if self._limit else []:
            if step != spared:
                remove_folder(self._path(step))

    def restore(self, chosen: str = LATEST) -> int:
        """Put the trainer where a checkpoint left it, the newest or that of a step; returns the step.

        Without any checkpoint, and none asked for by its step, the trainer stays at its beginning. Raises MemfixError
        if there is no such checkpoint, or if it does not fit.
        """
        step = chosen_step(self._folder, chosen)
        if step is None:
            return self._trainer.step
        path = self._path(step)
        try:
            self._take_up(path)
        except torch.OutOfMemoryError:
            raise
        except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:
            raise MemfixError(
                f"Checkpoint {path} does not fit this training: {str(error).splitlines()[0]}",
                "Give the step of an older checkpoint to --resume-from-checkpoint, or give --overwrite to start again.",
            ) from None
        return self._trainer.step

    @torch.no_grad()
    def _take_up(self, path: Path) -> None:
        weights, tensors = load_file(path / WEIGHTS), load_file(path / OPTIMIZER)
        with safe_open(path / OPTIMIZER, "pt") as file:
            metadata: dict[str, str] = file.metadata()
        if weights.keys() != self._parameters.keys():
            raise ValueError(f"it holds {len(weights)} weights, and {len(self._parameters)} others are trained")
        state: dict[str, dict[str, Any]] = {name: {} for name in self._parameters}
        for key, value in [*tensors.items(), *json.loads(metadata["numbers"]).items()]:
            kind, name = key.split("/", 1)
            state[name][kind] = value
        for name, parameter in self._parameters.items():
            parameter.copy_(weights[name])
        optimizer = self._trainer.optimizer  # which knows where each of its tensors belongs
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": dict(enumerate(state.values())), "param_groups": groups})
        self._trainer.step, self._trainer.reached = int(metadata["step"]), metadata.get("reached") == str(True)
        self._trainer.loss_scale = float(metadata.get("loss_scale", self._trainer.loss_scale))
        if averages := self._trainer.averages:
            kept = load_file(path / AVERAGES)
            averages.values = [kept[name].to(p.device) for name, p in self._parameters.items()]
            averages.steps = self._trainer.step
        if adversary := self._trainer.adversary:
            adversary.take_up(load_file(path / ADVERSARY))

    def _optimizer_state(self) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
        """`<kind>/<name>` → what the optimizer holds for a weight: tensors, and numbers that are none."""
        state: Mapping[Any, dict[str, Any]] = self._trainer.optimizer.state
        flat = {f"{kind}/{name}": v for name, p in self._parameters.items() for kind, v in state.get(p, {}).items()}
        tensors = {key: v for key, v in flat.items() if isinstance(v, torch.Tensor)}
        return tensors, {key: v for key, v in flat.items() if key not in tensors}

    def _path(self, step: int) -> Path:
        return self._folder / f"checkpoint-{step}"


def steps_in(folder: Path) -> list[int]:
    """The steps of which a folder holds whole checkpoints, in order."""
    found = (CHECKPOINT_NAME.fullmatch(path.name) for path in folder.glob("checkpoint-*"))
    return sorted(int(match[1]) for match in found if match)


def chosen_step(folder: Path, chosen: str) -> int | None:
    """The step to go on from: the newest one, or the one asked for; None where there is none, and none asked for.

    A step is asked for by its number, or as its folder is called, with or without the way there, as in the scripts of
    diffusers. Raises MemfixError if there is no checkpoint of it.
    """
    there = steps_in(folder)
    if chosen == LATEST:
        return there[-1] if there else None
    named = Path(chosen)
    if match := CHECKPOINT_NAME.fullmatch(named.name):
        elsewhere = named.is_absolute() and named.resolve().parent != folder.resolve()
        chosen = chosen if elsewhere else match[1]
    if chosen not in map(str, there):
        listed = f", or one of these steps: {', '.join(map(str, there))}" if there else ""
        raise MemfixError(
            f"{folder} contains no checkpoint of step {chosen}.", f"Give --resume-from-checkpoint latest{listed}."
        )
    return int(chosen)


def _write(path: Path, tensors: Mapping[str, torch.Tensor], metadata: dict[str, str] | None = None) -> None:
    save_file(_apart(tensors), path, metadata)
    sort_metadata(path)


def _apart(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same, none of which share their memory: safetensors refuses those that do."""
    seen: set[int] = set()
    found = {}
    for name, tensor in tensors.items():
        place = tensor.untyped_storage().data_ptr()
        found[name] = tensor.clone() if place in seen else tensor.contiguous()
        seen.add(place)
    return found
