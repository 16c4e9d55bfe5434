"""Let a prompt that was unlearned read like a shorter wording of it: a closed-form edit of cross-attention.

A fully memorized prompt never learned to show anything but its training image. Once that is unlearned, its embedding
means nothing to the network. The edit maps the embeddings of such prompts onto those of wordings that name the same
things without reproducing anything. Only for prompts that are unlearned already: built in before that, it would hide
what the weights still hold (research/rewording.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from random import Random

import torch

from memfix.models.context import ContextEdit
from memfix.models.model import DiffusionModel
from memfix.records import Pair, Rewording
from memfix.unlearn.data.pairs import safe_wordings
from memfix.unlearn.data.sampler import Asked, Sampler, count_copies
from memfix.variants.wordings import known_words

KNOWN_WEIGHT = 50.0  # weight of the run's other texts, which must not move, against what must
ANYTHING = 0.1  # weight of texts out of the model's vocabulary: what nobody listed must not move either
RIDGE = 1e-5  # of the mean squared embedding
ENERGY = 0.999  # share of the wanted shift (squared) that the low-rank edit keeps


def reword(
    sample: Sampler, variants: Sequence[Pair], each: int, others: Iterable[str]
) -> tuple[list[Rewording], ContextEdit | None]:
    """Decide which targets are made to read like a shortened wording, and solve for the edit that does it.

    Only targets of which the trained weights, sampled as often as in the detection, give no copy any more. `others` are
    texts that must go on meaning what they do.
    """
    texts = {p.prompt_id: p.text for p in variants}
    choice = safe_wordings(variants, each)
    candidates = [Asked(i, texts[i]) for i, wording in choice.items() if wording]
    n = sample.settings.num_samples
    copies = dict.fromkeys(choice, 0) | count_copies(sample, candidates, n, "Checking what was unlearned")
    decided = []
    for i, wording in choice.items():
        samples = n if wording else 0
        if not wording:
            reason = f"no shortened wording gave {each} keep images of {each} samples"
        elif copies[i]:
            reason = f"{copies[i]} of {n} samples still reproduce a reference, which rewording would only hide"
        else:
            reason = f"none of {n} samples reproduces a reference any more"
        decided.append(
            Rewording(
                prompt_id=i, text=texts[i], wording=wording, copies=copies[i], samples=samples,
                applied=bool(wording) and not copies[i], reason=reason,
            )
        )  # fmt: skip
    applied = {r.text: r.wording or "" for r in decided if r.applied}
    if not applied:
        return decided, None
    return decided, the_edit(sample.model, applied, {*others, *(p.wording or "" for p in variants)})


def the_edit(model: DiffusionModel, applied: Mapping[str, str], others: Iterable[str]) -> ContextEdit:
    """Solve for the edit that makes each text of `applied` read like its wording."""
    known = [None, *sorted({*others} - {"", *applied})]
    anything = random_texts(model.text.vocabulary)
    rows = model.text.keep([*applied, *applied.values(), *known, *anything])
    return solve(*(rows.stack(texts).tokens.cpu() for texts in (applied, applied.values(), known, anything)))


def solve(memorized: torch.Tensor, wording: torch.Tensor, known: torch.Tensor, anything: torch.Tensor) -> ContextEdit:
    """The edit that brings `memorized` closest to `wording`, token by token, and moves the others least.

    memorized, wording: [n, L, D]; known: [m, L, D]; anything: [k, L, D]. Least squares as in UCE (Gandikota
    et al., WACV 2024, eq. 7), but on the embeddings instead of on each layer's answer to them, so that one edit serves
    all layers and is of low rank: the projection on the main directions of the shift that it makes on `memorized`.
    """
    x, y = (v.double().flatten(0, 1) for v in (memorized, wording))
    moments = _moments(memorized) + KNOWN_WEIGHT * _moments(known) + ANYTHING * _moments(anything)
    moments += RIDGE * moments.diagonal().mean() * torch.eye(len(moments), dtype=moments.dtype)
    shift = torch.linalg.solve(moments, x.T @ (y - x) / len(x))
    _, strength, directions = torch.linalg.svd(x @ shift, full_matrices=False)
    kept = strength.square().cumsum(0) / strength.square().sum().clamp_min(1e-30)
    write = directions[: int((kept < ENERGY).sum()) + 1].T
    return ContextEdit((shift @ write).T.float(), write.float())


def _moments(context: torch.Tensor) -> torch.Tensor:
    """Mean outer product of all tokens of [n, L, D], [D, D]."""
    tokens = context.double().flatten(0, 1)
    return tokens.T @ tokens / len(tokens)


def random_texts(vocabulary: Iterable[str], count: int = 400, longest: int = 8) -> list[str]:
    """Texts of 1 to `longest` random words of a vocabulary of CLIP's kind, always the same ones."""
    words = known_words(vocabulary)
    draw = Random(0)
    return [" ".join(draw.choices(words, k=draw.randint(1, longest))) for _ in range(count)]
