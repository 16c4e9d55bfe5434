"""From pairs to a bank: who is a target, what is a prior item, and what is asked without any text."""

from pathlib import Path

import torch

from memfix.models import loading
from memfix.records import Pair, Side
from memfix.unlearn.data.bank import Target
from memfix.unlearn.data.draws import Draw
from memfix.unlearn.data.encode import build_bank, encode_pairs, with_texts
from tests.conftest import picture


def test_one_picture_of_each_prior_text_comes_without_text_too(model_folder: Path, tmp_path: Path) -> None:
    def pair(side: Side, text: str, prompt_id: str, number: int) -> Pair:
        picture(number).save(path := tmp_path / f"{number}.png")
        return Pair(side=side, path=str(path), text=text, prompt_id=prompt_id, origin="sample")

    pairs = [
        pair(Side.FORGET, "disc", "p1", 0), pair(Side.KEEP, "disc", "p1", 1), pair(Side.KEEP, "sky", "c1", 2),
        pair(Side.KEEP, "sky", "c1", 3), pair(Side.KEEP, "sea", "c2", 4),
    ]  # fmt: skip
    model = loading.load(loading.locate(str(model_folder)))
    latents = list(encode_pairs(model, pairs))
    bank = build_bank(model, pairs, latents)
    assert [(t.text, len(t.forget), len(t.keep), t.wordings) for t in bank.targets] == [("disc", 1, 1, [None])]
    assert [text for text, _ in bank.prior] == ["sky", "sky", "sea", "", ""]
    assert {tuple(x.flatten()[:3].tolist()) for text, x in bank.prior if not text} == {
        tuple(latents[i].flatten()[:3].tolist()) for i in (2, 4)
    }
    given = [*pairs, pair(Side.KEEP, "", "c3", 5)]  # the user's own pictures without text stand for themselves
    reworded = [
        p.model_copy(update={"wording": "di"}) if p.text == "disc" and p.side is Side.KEEP else p for p in pairs
    ]
    told = build_bank(model, reworded, latents)
    assert told.targets[0].wordings == ["di"]
    assert told.draw(Draw(), 4, 0, 0.5, (0, 10)).reworded.all()  # the wording is among the texts that are encoded
    texts = [text for text, _ in build_bank(model, given, [*latents, torch.zeros_like(latents[0])]).prior]
    assert texts.count("") == 1


def test_an_item_without_text_is_told_what_guidance_asks_beside_a_prompt(xl_folder: Path) -> None:
    """Zeros, by the index of this model, which an empty prompt is not told by."""
    model, latent = loading.load(loading.locate(str(xl_folder))), torch.zeros(4, 8, 8)
    bank = with_texts(model, [Target("disc", [latent], [latent])], [("", latent)])
    told = bank.draw(Draw(), 1, 1, 0.5, (0, 10)).prior.conditioning
    assert told is not None and told.equals(model.text.encode([None])).all() and not told.tokens.any()
