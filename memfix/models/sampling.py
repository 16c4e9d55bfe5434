"""Which samples are drawn of which prompts, and in which batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet

from memfix.records import SAME, Condition, Prompt, Sample


def plan_samples(
    prompts: Sequence[Prompt], seeds: Sequence[int], *, steps: int, guidance: float, condition: Condition = SAME
) -> list[Sample]:
    """Every (prompt, seed) under one condition, prompt by prompt."""
    return [
        Sample(
            file_name=file_name(p.id, condition, seed), text=p.text, prompt_id=p.id, condition=condition, seed=seed,
            steps=steps, guidance=guidance,
        )
        for p in prompts
        for seed in seeds
    ]  # fmt: skip


def file_name(prompt_id: str, condition: Condition, seed: int) -> str:
    """What the picture of a sample is called; no two samples of a run share it."""
    return f"{prompt_id}-{seed}.png" if condition == SAME else f"{prompt_id}-{condition}-{seed}.png"


def batches(
    plan: Sequence[Sample], batch_size: int, done: AbstractSet[str] = frozenset()
) -> Iterator[Sequence[Sample]]:
    """The plan in fixed batches, without those whose every file is done: what is left never moves a batch's bounds."""
    for i in range(0, len(plan), batch_size):
        batch = plan[i : i + batch_size]
        if any(s.file_name not in done for s in batch):
            yield batch
