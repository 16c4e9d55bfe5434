"""Words that a user adds: read as diffusers reads them, known by content, and kept in a saved model."""

from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file

from memfix import flow
from memfix.config.checks import DetectSettings
from memfix.console import Talk
from memfix.errors import MemfixError
from memfix.models import loading
from memfix.models.inversion import Inversion
from memfix.models.model import DiffusionModel
from tests.conftest import tiny_xl

TEXT = "a <face> cat"


def written(file: Path, seed: int = 0, **vectors: tuple[int, int]) -> Path:
    """A file of random vectors, by name."""
    torch.manual_seed(seed)
    save_file({name: torch.randn(shape) for name, shape in vectors.items()}, file)
    return file


def source(model: Path, *words: str) -> loading.ModelSource:
    return loading.source_of(DetectSettings(model=str(model), embedding=words))


def tokens(model: DiffusionModel) -> torch.Tensor:
    return model.text.encode([TEXT]).tokens


@pytest.mark.parametrize("n", [1, 3])
def test_a_word_is_read_as_diffusers_reads_it(model_folder: Path, tmp_path: Path, n: int) -> None:
    file = written(tmp_path / "face.safetensors", **{"<face>": (n, 16)})
    pipe = StableDiffusionPipeline.from_pretrained(model_folder, safety_checker=None)
    pipe.load_textual_inversion(tmp_path, weight_name=file.name, token="<face>")
    model = loading.load(source(model_folder, str(file)))
    wanted = pipe.encode_prompt([TEXT], "cpu", 1, False)[0]
    assert torch.equal(tokens(model), wanted)
    plain = loading.load(source(model_folder))
    assert not torch.allclose(tokens(plain), wanted, atol=1e-3)
    assert int(model.text.end_places(["<face>"])[0]) == n + 1


def test_its_word_is_in_the_file_or_its_name_or_given(model_folder: Path, tmp_path: Path) -> None:
    bare = written(tmp_path / "<face>.safetensors", emb_params=(1, 16))
    told = written(tmp_path / "other.safetensors", **{"<face>": (1, 16)})
    by_name, by_key, by_user = (
        tokens(loading.load(source(model_folder, words))) for words in (str(bare), str(told), f"{told}:<face>")
    )
    assert torch.equal(by_name, by_key) and torch.equal(by_key, by_user)
    renamed = tokens(loading.load(source(model_folder, f"{told}:<nose>")))
    assert torch.equal(renamed, tokens(loading.load(source(model_folder))))


def test_a_model_is_known_by_its_words_too(model_folder: Path, tmp_path: Path) -> None:
    one = written(tmp_path / "one.safetensors", **{"<face>": (1, 16)})
    other = written(tmp_path / "other.safetensors", 1, **{"<face>": (1, 16)})
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(one.read_bytes())
    known = [source(model_folder, *words).sha256 for words in ([], [str(one)], [str(other)], [f"{one}:<nose>"])]
    assert len(set(known)) == 4
    assert source(model_folder, str(copy)).sha256 == known[1]
    assert source(model_folder).sha256 == loading.locate(str(model_folder)).sha256


def test_a_saved_model_knows_it(model_folder: Path, tmp_path: Path) -> None:
    """Given again beside it, as a re-check does, it stays as it is; another one of that word is refused."""
    file = written(tmp_path / "face.safetensors", **{"<face>": (2, 16)})
    model = loading.load(source(model_folder, str(file)))
    model.save(tmp_path / "saved")
    for words in ([], [str(file)]):
        assert torch.equal(tokens(loading.load(source(tmp_path / "saved", *words))), tokens(model))
    other = written(tmp_path / "other.safetensors", 1, **{"<face>": (2, 16)})
    with pytest.raises(MemfixError, match="means something else"):
        loading.load(source(tmp_path / "saved", str(other)))


def test_both_encoders_of_xl_learn_it(xl_folder: Path, tmp_path: Path) -> None:
    """The pooled embedding is that of the end of the text, also where an old configuration takes the highest number."""
    pipe = tiny_xl()
    end = pipe.text_encoder_2.config.eos_token_id
    pipe.text_encoder_2.config.eos_token_id = pipe.text_encoder_2.text_model.eos_token_id = 2
    pipe.save_pretrained(tmp_path / "old")
    file = written(tmp_path / "<face>.safetensors", clip_l=(1, 16), clip_g=(1, 24))
    old, new = (loading.load(source(folder, str(file))) for folder in (tmp_path / "old", xl_folder))
    assert old._pipe.text_encoder_2.config.eos_token_id == end
    one, other = (model.text.encode([TEXT]) for model in (old, new))
    assert torch.equal(one.tokens, other.tokens)
    assert one.pooled is not None and other.pooled is not None and torch.equal(one.pooled, other.pooled)


@pytest.mark.parametrize(
    ("vectors", "told"),
    [
        ({"<face>": (1, 8)}, "holds <face> [1, 8], and the model reads vectors of 16"),
        ({"clip_l": (1, 16), "clip_g": (1, 24)}, "does not fit"),
        ({"cat</w>": (1, 16), "dog": (1, 16)}, "does not fit"),
        ({"a</w>": (1, 16)}, "means something else"),
    ],
)
def test_what_does_not_fit_is_refused(
    model_folder: Path, tmp_path: Path, vectors: dict[str, tuple[int, int]], told: str
) -> None:
    file = written(tmp_path / "e.safetensors", **vectors)
    with pytest.raises(MemfixError) as caught:
        loading.load(source(model_folder, str(file)))
    assert told in caught.value.message and caught.value.hint


def test_pickles_and_what_is_not_there_are_refused(tmp_path: Path) -> None:
    (tmp_path / "face.pt").write_bytes(b"")
    for words in (str(tmp_path / "face.pt"), str(tmp_path / "none.safetensors")):
        with pytest.raises(MemfixError, match="There is no embedding at"):
            Inversion.named(words)


def test_words_that_no_prompt_has_are_warned_of(
    model_folder: Path, reference_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    used = written(tmp_path / "used.safetensors", emb_params=(2, 16))
    unused = written(tmp_path / "face.safetensors", emb_params=(1, 16))
    (tmp_path / "prompts.txt").write_text("a used cat\na dog\n")
    settings = DetectSettings(
        model=str(model_folder), references=str(reference_folder), embedding=(str(used), str(unused)), num_samples=1,
        num_inference_steps=1, mixed_precision="no", measure="tiled_l2",
    )  # fmt: skip
    flow.detect(str(tmp_path / "prompts.txt"), settings, tmp_path / "run", tmp_path, [], Talk())
    told = "".join(capsys.readouterr().err.split())  # lines end where the path's length has them end
    assert f"No prompt has the word 'face' of embedding {unused}".replace(" ", "") in told and "'used'" not in told
