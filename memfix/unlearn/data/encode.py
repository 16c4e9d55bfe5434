"""From pairs on disk to the bank that training draws from: each picture and each text encoded once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from memfix.inputs.opening import open_image
from memfix.models.model import DiffusionModel
from memfix.records import Pair, Side
from memfix.unlearn.data.bank import Bank, Picked, Target


def encode_pairs(model: DiffusionModel, pairs: Sequence[Pair]) -> Iterator[torch.Tensor]:
    """The latent of each pair's picture, in order."""
    yield from _encode(model, [p.path for p in pairs])


def _encode(model: DiffusionModel, paths: Sequence[str]) -> Iterator[torch.Tensor]:
    step = 64
    for i in range(0, len(paths), step):
        yield from model.latents.encode([open_image(path) for path in paths[i : i + step]])


def _frames(model: DiffusionModel, paths: Sequence[str]) -> Iterator[torch.Tensor | None]:
    """What the denoiser is told of the size and crop of each picture; pictures are opened only if it is told that."""
    if model.frames([]) is None:
        yield from [None] * len(paths)
        return
    for path in paths:
        told = model.frames([open_image(path)])
        yield None if told is None else told[0]


def build_bank(model: DiffusionModel, pairs: Sequence[Pair], latents: Sequence[torch.Tensor]) -> Bank:
    """Sort encoded pairs into targets and prior items; surrogates are encoded here."""
    targets: dict[str, Target] = {p.prompt_id: Target(p.text) for p in pairs if p.side is Side.FORGET}
    prior: list[Picked] = []
    surrogates = _encode(model, [p.surrogate for p in pairs if p.surrogate])
    frames = _frames(model, [p.path for p in pairs])
    for pair, latent, frame in zip(pairs, latents, frames, strict=True):
        if pair.prompt_id not in targets:
            prior.append(Picked(pair.text, latent, frame))
        elif pair.side is Side.FORGET:
            targets[pair.prompt_id].forget.append(latent)
            if frame is not None:
                targets[pair.prompt_id].frames.append(frame)
            if pair.surrogate:
                targets[pair.prompt_id].surrogates.append(next(surrogates)[None])
        else:
            target = targets[pair.prompt_id]
            target.keep.append(latent)
            target.wordings.append(pair.wording)
            if pair.wording and pair.wording not in target.anchors:
                target.anchors.append(pair.wording)
    prior += _without_text(prior)
    told = [item.frame for item in prior if item.frame is not None]
    return with_texts(model, list(targets.values()), [(item.text, item.latent) for item in prior], told)


def _without_text(prior: Sequence[Picked]) -> list[Picked]:
    """One picture of each text without a prompt, as guidance asks beside every other one."""
    firsts = {item.text: item for item in reversed(prior)}.values()
    return [item._replace(text="") for item in firsts] if all(item.text for item in prior) else []


def with_texts(
    model: DiffusionModel, targets: Sequence[Target], prior: Sequence[tuple[str, torch.Tensor]],
    frames: Sequence[torch.Tensor] = (),
) -> Bank:  # fmt: skip
    """A bank of latents, with what the model makes of all their texts, and its noise."""
    worded = [w for t in targets for w in (*t.anchors, *t.wordings) if w is not None]
    texts = [*(t.text for t in targets), *worded, *(text or None for text, _ in prior), None]
    return Bank(targets, prior, model.text.keep(texts), model.schedule, frames)
