"""Which samples are drawn of which prompts, and in which batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet

from memfix.records import Prompt, Sample, Seeds


def plan_samples(
    prompts: Sequence[Prompt], seeds: Sequence[int], *, steps: int, guidance: float, kind: Seeds = Seeds.SAME
) -> list[Sample]:
    """Every (prompt, seed), prompt by prompt."""
    return [
        Sample(
            file_name=f"{p.id}-{seed}.png", text=p.text, prompt_id=p.id, seed=seed, seeds=kind, steps=steps,
            guidance=guidance,
        )
        for p in prompts
        for seed in seeds
    ]  # fmt: skip


def batches(
    plan: Sequence[Sample], batch_size: int, done: AbstractSet[str] = frozenset()
) -> Iterator[Sequence[Sample]]:
    """The plan in fixed batches, without those whose every file is done: what is left never moves a batch's bounds."""
    for i in range(0, len(plan), batch_size):
        batch = plan[i : i + batch_size]
        if any(s.file_name not in done for s in batch):
            yield batch
