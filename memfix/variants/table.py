"""The kinds of variants by name. Pictures of them are kept where a memorized prompt gives none but copies."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from memfix.errors import ExitCode, MemfixError, did_you_mean
from memfix.variants import wordings
from memfix.variants.base import Subject, Variant, VariantKind
from memfix.variants.embeddings import DESCENT, NOISE, descended, noised

CLOSER = (0.5, 0.0)  # of what the guidance adds to the prompt's own prediction


def _worded(reword: Callable[[str], list[str]]) -> Callable[[Subject], list[Variant]]:
    return lambda subject: [Variant(wording=w) for w in reword(subject.text)]


def padded(subject: Subject) -> list[Variant]:
    """With words of the model's own vocabulary put in."""
    known = wordings.known_words(subject.model.text.vocabulary)
    return _worded(lambda text: wordings.paddings(text, known))(subject) if known else []


def guided_less(subject: Subject) -> list[Variant]:
    """Half the guidance, then none. Nothing where there is none to begin with."""
    more = subject.settings.guidance_scale - 1
    return [Variant(guidance=1 + share * more) for share in CLOSER] if more > 0 else []


# Those first whose samples were most often kept and still showed what the prompt names (research/variants.py)
VARIANT_KINDS: dict[str, VariantKind] = {
    kind.name: kind
    for kind in [
        VariantKind("shorten", "beginnings of the prompt", _worded(wordings.beginnings), wordings.MOST_WORDINGS),
        VariantKind("template", "the prompt inside a sentence", _worded(wordings.framed), len(wordings.FRAMES)),
        VariantKind("insert", "the prompt with random words inserted", padded, len(wordings.TIMES)),
        VariantKind("repeat", "the prompt with some words repeated", _worded(wordings.echoes), len(wordings.TIMES)),
        VariantKind("delete", "the prompt without some words", _worded(wordings.thinned), wordings.MOST_WORDINGS),
        VariantKind("magnitude", "its embedding, moved to a lower magnitude score", descended, len(DESCENT)),
        VariantKind("noise", "its embedding with noise added", noised, len(NOISE)),
        VariantKind("guidance", "the prompt with less guidance", guided_less, len(CLOSER)),
    ]
}  # fmt: skip


def get_kinds(names: str | None) -> Sequence[VariantKind]:
    """The kinds of a comma-separated list in its order, all when None. Raises MemfixError for an unknown name."""
    if names is None:
        return list(VARIANT_KINDS.values())
    listed = [name.strip() for name in names.split(",") if name.strip()]
    for name in listed:
        if name not in VARIANT_KINDS:
            raise MemfixError(
                f"Unknown kind of variant '{name}'.", did_you_mean(name, list(VARIANT_KINDS)), ExitCode.USAGE
            )
    return [VARIANT_KINDS[name] for name in listed]
