"""Texts as a model reads them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from transformers import CLIPTokenizer

from memfix.models.conditioning import Conditioning, Texts

BATCH = 32


def bound_texts(pipe: Any) -> None:
    """Let tokenizers cut texts where the encoder's positions end, if their configuration names no length."""
    for names in (("tokenizer", "text_encoder"), ("tokenizer_2", "text_encoder_2")):
        tokenizer, encoder = (getattr(pipe, name, None) for name in names)
        if tokenizer is not None and encoder is not None:
            most = encoder.config.max_position_embeddings
            tokenizer.model_max_length = min(tokenizer.model_max_length, most)


class TextReader:
    """Tokens and embeddings of texts. Keeps nothing between calls: prompt lists may be larger than memory.

    pools: whether the denoiser is also told one embedding of the whole text, beside those of its tokens.
    """

    pools = False

    def __init__(self, pipe: StableDiffusionPipeline | StableDiffusionXLPipeline) -> None:
        self._pipe = pipe

    def encode(self, texts: Sequence[str | None]) -> Conditioning:
        """What the denoiser is told of each text, a row a text, on the device; one that comes again is encoded once.

        None is no prompt, as guidance asks beside a prompt. Some models tell it from an empty one.
        """
        return self.keep(texts).stack(texts)

    @torch.no_grad()
    def keep(self, texts: Iterable[str | None]) -> Texts:
        """The same of all texts, to be asked for later by text; one text or more."""
        different = list(dict.fromkeys(texts))
        rows = [self._encode(different[i : i + BATCH]) for i in range(0, len(different), BATCH)]
        return Texts(different, Conditioning.cat(rows), self._pipe.device)

    def _encode(self, texts: Sequence[str | None]) -> Conditioning:
        """On the CPU."""
        read = [text or "" for text in texts]
        embeds, _ = self._pipe.encode_prompt(
            read, self._pipe.device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        return Conditioning(embeds.float().cpu())

    @torch.no_grad()
    def encode_early(self, text: str, skipped: int) -> Conditioning | None:
        """What the denoiser is told of a text by the text encoder without its last layers, one row; None if it has no
        more layers than these. As diffusers' `clip_skip`, which does not know every version of transformers."""
        encoder = self._pipe.text_encoder
        if skipped >= encoder.config.num_hidden_layers:
            return None
        ids = self._padded([text]).to(self._pipe.device)
        states = encoder(ids, output_hidden_states=True).hidden_states
        last = getattr(encoder, "text_model", encoder).final_layer_norm
        return Conditioning(last(states[-1 - skipped]).float())

    def cut_tokens(self, text: str) -> int:
        """How many tokens of a text the text encoder never sees."""
        return self._cut(self._pipe.tokenizer, text)

    def _cut(self, tokenizer: CLIPTokenizer, text: str) -> int:
        whole = self._pipe.maybe_convert_prompt(text, tokenizer)
        ids = tokenizer(whole, truncation=False, verbose=False).input_ids
        return max(0, len(ids) - int(tokenizer.model_max_length))

    def has_word(self, text: str, word: str) -> bool:
        """Whether a text has a word that was added to the vocabulary."""
        return word in self._pipe.tokenizer.tokenize(text)

    def end_places(self, texts: Sequence[str]) -> torch.Tensor:
        """Place of the end-of-text token that closes each text, [n]; what follows it is padding."""
        return torch.argmax((self._padded(texts) == self._pipe.tokenizer.eos_token_id).int(), 1)

    def _padded(self, texts: Sequence[str]) -> torch.Tensor:
        """Token ids of texts, [n, L], as long as the text encoder reads them; a word may have several."""
        tokenizer = self._pipe.tokenizer
        length, whole = tokenizer.model_max_length, self._pipe.maybe_convert_prompt(list(texts), tokenizer)
        found = tokenizer(whole, padding="max_length", truncation=True, max_length=length, return_tensors="pt")
        ids: torch.Tensor = found.input_ids
        return ids

    @property
    def vocabulary(self) -> Iterable[str]:
        """Every token that texts are made of; a word's last one ends in `</w>`."""
        known: dict[str, int] = self._pipe.tokenizer.get_vocab()
        return known
