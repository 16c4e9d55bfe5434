"""From pairs on disk to the bank that training draws from: each picture and each text encoded once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from memfix.inputs.opening import open_image
from memfix.models.model import DiffusionModel
from memfix.records import Pair, Side
from memfix.unlearn.data.bank import Bank, Target


def encode_pairs(model: DiffusionModel, pairs: Sequence[Pair]) -> Iterator[torch.Tensor]:
    """The latent of each pair's picture, in order."""
    yield from _encode(model, [p.path for p in pairs])


def _encode(model: DiffusionModel, paths: Sequence[str]) -> Iterator[torch.Tensor]:
    step = 64
    for i in range(0, len(paths), step):
        yield from model.latents.encode([open_image(path) for path in paths[i : i + step]])


def build_bank(model: DiffusionModel, pairs: Sequence[Pair], latents: Sequence[torch.Tensor]) -> Bank:
    """Sort encoded pairs into targets and prior items; surrogates are encoded here."""
    targets: dict[str, Target] = {p.prompt_id: Target(p.text) for p in pairs if p.side is Side.FORGET}
    prior: list[tuple[str, torch.Tensor]] = []
    surrogates = _encode(model, [p.surrogate for p in pairs if p.surrogate])
    for pair, latent in zip(pairs, latents, strict=True):
        if pair.prompt_id not in targets:
            prior.append((pair.text, latent))
        elif pair.side is Side.FORGET:
            targets[pair.prompt_id].forget.append(latent)
            if pair.surrogate:
                targets[pair.prompt_id].surrogates.append(next(surrogates)[None])
        else:
            target = targets[pair.prompt_id]
            target.keep.append(latent)
            if pair.wording and pair.wording not in target.anchors:
                target.anchors.append(pair.wording)
    return with_texts(model, list(targets.values()), [*prior, *_without_text(prior)])


def _without_text(prior: Sequence[tuple[str, torch.Tensor]]) -> list[tuple[str, torch.Tensor]]:
    """One picture of each text under the empty prompt, which guidance asks beside every other one."""
    return [("", latent) for latent in dict(reversed(prior)).values()] if all(text for text, _ in prior) else []


def with_texts(model: DiffusionModel, targets: Sequence[Target], prior: Sequence[tuple[str, torch.Tensor]]) -> Bank:
    """A bank of latents, with what the model makes of all their texts, and its noise."""
    texts = [*(t.text for t in targets), *(a for t in targets for a in t.anchors), *(text for text, _ in prior), ""]
    return Bank(targets, prior, model.text.keep(texts), model.schedule)
