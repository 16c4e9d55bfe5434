"""Embeddings of textual inversion: words that a user adds to a model's vocabulary, read from safetensors."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from memfix.errors import MemfixError
from memfix.files import sha256

BARE = "emb_params"
"""What user interfaces call the embedding in their files, which say no word."""
BY_ENCODER = {"clip_l": ("text_encoder", "tokenizer"), "clip_g": ("text_encoder_2", "tokenizer_2")}
"""Names in files for Stable Diffusion XL → the encoder and the tokenizer that they are for."""
SOLE = BY_ENCODER["clip_l"]


class Inversion(NamedTuple):
    """A file of an embedding, and the word that stands for it in prompts where its own is not wanted."""

    path: Path
    word: str | None = None

    @classmethod
    def named(cls, words: str) -> Inversion:
        """As users write it: `PATH`, or `PATH:WORD`. Raises MemfixError for what is no such file."""
        path, colon, word = words.rpartition(":")
        found = cls(Path(path), word) if colon and not Path(words).exists() else cls(Path(words))
        if not found.path.is_file() or found.path.suffix != ".safetensors":
            raise MemfixError(
                f"There is no embedding at {found.path}: it must be a .safetensors file.",
                "Other files of embeddings are pickles, which can run any code when they are opened. Convert it first.",
            )
        return found

    @property
    def digest(self) -> str:
        """What identifies it and its word."""
        return hashlib.sha256(f"{sha256([self.path])} {self.word or ''}".encode()).hexdigest()

    @property
    def token(self) -> str:
        """The word that prompts have: the one given, that in the file, or else its name."""
        own = next(iter(self.vectors()), BARE)
        return self.word or (self.path.stem if own in (BARE, *BY_ENCODER) else own)

    def vectors(self) -> dict[str, torch.Tensor]:
        """Name in the file → vectors, [n, D] each."""
        try:
            return {name: rows[None] if rows.ndim == 1 else rows for name, rows in load_file(self.path).items()}
        except (SafetensorError, OSError) as error:
            raise MemfixError(f"Embedding {self.path} cannot be read: {error}.", "Restore it.") from None


def add_embeddings(pipe: Any, embeddings: Sequence[Inversion]) -> None:
    """Let a pipeline know the words of embeddings. One that it knows already, by the same vectors, stays as it is.

    Raises MemfixError for a file that does not fit, and for a word that means something else.
    """
    for embedding in embeddings:
        found = embedding.vectors()
        _require_fitting(pipe, embedding, found)
        word = embedding.token
        for name, vectors in found.items():
            encoder, tokenizer = (getattr(pipe, part) for part in BY_ENCODER.get(name, SOLE))
            if not _is_known(encoder, tokenizer, word, vectors, embedding):
                pipe.load_textual_inversion(
                    {word: vectors}, token=word, text_encoder=encoder, tokenizer=tokenizer
                )  # fmt: skip
            _find_end(encoder, tokenizer)


def _require_fitting(pipe: Any, embedding: Inversion, found: dict[str, torch.Tensor]) -> None:
    """As many encoders as the model has, one embedding each, as wide as theirs."""
    encoders = [part for part, _ in BY_ENCODER.values() if hasattr(pipe, part)]
    told = [BY_ENCODER.get(name, SOLE)[0] for name in found]
    wide = {part: getattr(pipe, part).get_input_embeddings().embedding_dim for part in encoders}
    fits = sorted(told) == encoders and all(
        rows.ndim == 2 and rows.shape[1] == wide[part] for part, rows in zip(told, found.values(), strict=True)
    )
    if not fits:
        shapes = ", ".join(f"{name} {list(rows.shape)}" for name, rows in found.items()) or "nothing"
        raise MemfixError(
            f"Embedding {embedding.path} does not fit the model: it holds {shapes}, and the model reads vectors of "
            f"{' and '.join(str(wide[part]) for part in encoders)} numbers.",
            "Give the model that it was made for.",
        )


def _is_known(encoder: Any, tokenizer: Any, word: str, vectors: torch.Tensor, embedding: Inversion) -> bool:
    """Whether a word is in a vocabulary with these vectors. Raises MemfixError if it is there with others."""
    vocabulary, table = tokenizer.get_vocab(), encoder.get_input_embeddings().weight
    words = [word, *(f"{word}_{i}" for i in range(1, len(vectors)))]
    if not any(one in vocabulary for one in words):
        return False
    known = all(one in vocabulary for one in words)
    if known and torch.equal(table[[vocabulary[one] for one in words]].cpu(), vectors.to(table.dtype)):
        return True
    raise MemfixError(
        f"The word '{word}' of embedding {embedding.path} is in the model's vocabulary, and means something else.",
        f"Give it a word of its own: --embedding {embedding.path}:WORD.",
    )


def _find_end(encoder: Any, tokenizer: Any) -> None:
    """Let an encoder find the end of a text by its token: old configurations take the highest number for it, which is
    that of an added word now."""
    for module in (encoder, getattr(encoder, "text_model", encoder)):
        module.config.eos_token_id = tokenizer.eos_token_id
        if hasattr(module, "eos_token_id"):
            module.eos_token_id = tokenizer.eos_token_id
