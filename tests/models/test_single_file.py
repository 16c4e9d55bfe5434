"""Single files: told by their keys, refused by name before weights are read, and loaded as the pipeline they hold."""

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from memfix.demo import MODEL
from memfix.errors import MemfixError
from memfix.models import loading, single_file
from memfix.models.latents import LatentSpace, generators
from memfix.models.original import write_like
from memfix.models.probe import HALF
from memfix.models.single_file import CLASSES, CONFIGS, FIRST_LAYER, clip_tokenizer, contents, untold
from memfix.models.text import TextReader
from tests.conftest import tiny_pipeline, tiny_xl
from tests.original_layout import CLIP, VAE, in_open_clips_words, original_state, save_original

PREFIX = "model.diffusion_model."
XL_TEXTS = "conditioner.embedders.1.model.transformer.resblocks.9.mlp.c_proj.bias"
READS = f"{PREFIX}input_blocks.2.1.transformer_blocks.0.attn2.to_k.weight"
SAID = {"modelspec.prediction_type": "v"}
"""Of untrained networks, which do not answer what they predict."""
STEPS = 40
WEIGHTS = {
    "sd1": (859_520_964, 83_653_863, 123_060_480), "sd2-epsilon": (865_910_724, 83_653_863, 340_387_840),
    "sd2-v": (865_910_724, 83_653_863, 340_387_840), "xl": (2_567_463_684, 83_653_863, 123_060_480, 694_659_840),
}  # fmt: skip
"""How many numbers UNet, VAE and text encoders of the published models are."""


def written(file: Path, shapes: dict[str, tuple[int, ...]], metadata: dict[str, str] | None = None) -> Path:
    save_file({name: torch.zeros(shape, dtype=torch.float16) for name, shape in shapes.items()}, file, metadata)
    return file


def base(width: int, channels: int = 4) -> dict[str, tuple[int, ...]]:
    parts = (f"{VAE}decoder.conv_in.weight", f"{CLIP}text_model.x" if width == 768 else "cond_stage_model.model.x")
    return {FIRST_LAYER: (8, channels, 3, 3), READS: (8, width), **dict.fromkeys(parts, (1,))}


@pytest.fixture(scope="module")
def pipe() -> StableDiffusionPipeline:
    return tiny_pipeline()


@pytest.fixture(scope="module")
def file(pipe: StableDiffusionPipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_original(pipe, tmp_path_factory.mktemp("single") / "tiny.safetensors", SAID)


def of_velocity() -> StableDiffusionPipeline:
    """A network that learned to answer noise as one of v does: alone with a picture, and half of it with the noise."""
    pipe = tiny_pipeline("v_prediction")
    noise, powers = LatentSpace(pipe).noise(generators([0])), pipe.scheduler.alphas_cumprod
    t = torch.tensor([len(powers) - 1, int((powers - HALF).abs().argmin())])
    noisy = noise * (1 - powers[t]).sqrt()[:, None, None, None]
    wanted = torch.cat([-noise.flip(-1), noise * HALF**0.5])
    told = TextReader(pipe).encode([""]).tokens.expand(2, -1, -1)
    steps = torch.optim.Adam(pipe.unet.parameters(), 0.01)
    for _ in range(STEPS):
        steps.zero_grad()
        (pipe.unet(noisy, t, told).sample - wanted).square().mean().backward()
        steps.step()
    return pipe


@pytest.mark.parametrize(
    ("shapes", "told"),
    [
        ({f"{PREFIX}double_blocks.0.img_attn.norm.key_norm.scale": (8,)}, "flux"),
        ({XL_TEXTS: (8,)}, "no UNet in the original layout"),
        (base(2048, 9) | {XL_TEXTS: (8,)}, "inpainting"),
        (base(2048, 8) | {XL_TEXTS: (8,), CLASSES: (8, 8)}, "told more than texts"),
        (base(1280) | {CLASSES: (8, 8)}, "told more than texts"),
        (base(2048) | {XL_TEXTS: (8,), CLASSES: (8, 8), "edm_mean": (4,)}, "Playground"),
        (base(2048) | {XL_TEXTS: (8,), CLASSES: (8, 8), "edm_vpred.sigma_max": (1,)}, "noise of EDM, as CosXL"),
        ({"conditioner.embedders.0.model.transformer.resblocks.9.mlp.c_proj.bias": (8,)}, "refiner"),
        (base(768, 9), "inpainting"),
        (base(1024, 9), "inpainting"),
        (base(768, 8), "InstructPix2Pix"),
        (base(1024, 5), "told more than texts"),
        (base(1024) | {CLASSES: (8, 8)}, "told more than texts"),
        ({"lora_unet_mid_block.lora_down.weight": (8, 8)}, "is a LoRA"),
        ({"conv_in.weight": (8, 4, 3, 3)}, "no UNet in the original layout"),
    ],
    ids=[
        "flux", "xl's texts", "xl inpainting", "xl pix2pix", "refiner's unet", "playground", "cosxl", "refiner",
        "inpainting", "inpainting 2", "pix2pix", "depth", "unclip", "lora", "unet alone",
    ],
)  # fmt: skip
def test_other_models_are_refused_by_name(tmp_path: Path, shapes: dict[str, tuple[int, ...]], told: str) -> None:
    with pytest.raises(MemfixError, match=told) as caught:
        loading.locate(str(written(tmp_path / "m.safetensors", shapes)))
    assert caught.value.hint


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_bytes(b"broken")
    with pytest.raises(MemfixError, match="cannot be read"):
        loading.locate(str(tmp_path / "m.safetensors"))


def test_keys_tell_the_family_and_metadata_the_rest(tmp_path: Path) -> None:
    told = {"modelspec.prediction_type": "v", "modelspec.resolution": "768x768"}
    one, two = written(tmp_path / "1.safetensors", base(768)), written(tmp_path / "2.safetensors", base(1024), told)
    assert contents(one)[:4] == ("sd1", None, None, ())
    assert contents(two)[:4] == ("sd2", "v_prediction", (768, 768), ())
    marked = written(tmp_path / "3.safetensors", base(768) | {"v_pred": (1,)})
    assert contents(marked).prediction == "v_prediction"


@pytest.mark.parametrize(
    ("words", "size"),
    [
        ("832x1216", (1216, 832)), ("1216X832", (832, 1216)), ("832 × 1216", (1216, 832)), ("832,1216", (1216, 832)),
        ("512", (512, 512)), ("", None), ("0x0", None), ("any", None), ("512x512x3", None),
    ],
)  # fmt: skip
def test_the_width_of_pictures_comes_first(tmp_path: Path, words: str, size: tuple[int, int] | None) -> None:
    """As kohya's scripts write it and SwarmUI reads it; memfix has heights first."""
    assert contents(written(tmp_path / "m.safetensors", base(768), {"modelspec.resolution": words})).size == size


def test_what_a_file_lacks_is_named_and_may_come_from_elsewhere(tmp_path: Path) -> None:
    bare = {name: shape for name, shape in base(768).items() if name.startswith(PREFIX)}
    file = str(written(tmp_path / "m.safetensors", bare))
    with pytest.raises(MemfixError, match="no vae and no text_encoder") as caught:
        loading.locate(file)
    assert "--vae" in caught.value.hint and "--text-encoder" in caught.value.hint
    with pytest.raises(MemfixError, match="There is no vae at"):
        loading.locate(file, donors={"vae": str(tmp_path / "none")})


@pytest.mark.parametrize("family", WEIGHTS)
def test_configurations_are_those_of_the_published_models(family: str) -> None:
    with torch.device("meta"):
        parts: list[torch.nn.Module] = [
            UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(CONFIGS / family, subfolder="unet")),
            AutoencoderKL.from_config(AutoencoderKL.load_config(CONFIGS / family, subfolder="vae")),
            CLIPTextModel(CLIPTextConfig.from_pretrained(CONFIGS / family / "text_encoder")),
        ]
        if (second := CONFIGS / family / "text_encoder_2").is_dir():
            parts.append(CLIPTextModelWithProjection(CLIPTextConfig.from_pretrained(second)))
    assert tuple(sum(p.numel() for p in part.parameters()) for part in parts) == WEIGHTS[family]


@pytest.mark.parametrize("of_open_clip", [False, True])
def test_the_tokenizer_is_clips(of_open_clip: bool) -> None:
    mine, table = clip_tokenizer(of_open_clip), SimpleTokenizer()
    for text in ("a photo of a cat", "Living in the Light with Ann Graham Lotz", "naïve café, 3.14 日本's <b>x</b>"):
        ids = mine(text, padding="max_length", max_length=77).input_ids
        told = table.encode(text)
        assert ids == [49406, *told, 49407, *[0 if of_open_clip else 49407] * (75 - len(told))]


def test_a_file_holds_the_pipeline_that_it_was_made_of(
    pipe: StableDiffusionPipeline, file: Path, model_folder: Path
) -> None:
    found = single_file.load_single_file(file, {}, model_folder)
    for part in ("unet", "vae", "text_encoder"):
        own, other = getattr(pipe, part).state_dict(), getattr(found, part).state_dict()
        assert own.keys() == other.keys() and all(torch.equal(own[name], other[name]) for name in own)


def test_the_network_is_asked_what_it_predicts(tmp_path: Path) -> None:
    """The bundled model was trained on ε."""
    bundled = save_original(loading.load(loading.locate("demo"))._pipe, tmp_path / "d.safetensors")
    trained = single_file.load_single_file(bundled, {}, MODEL)
    assert trained.scheduler.config.prediction_type == "epsilon" and not untold(bundled, trained)
    wrong = tmp_path / "w.safetensors"
    save_file(load_file(bundled), wrong, SAID)
    with pytest.raises(MemfixError, match="answers as one of 'epsilon'"):
        single_file.load_single_file(wrong, {}, MODEL)


def test_a_network_that_gives_back_what_noise_hides_is_one_of_velocity_and_users_are_told(
    model_folder: Path, tmp_path: Path
) -> None:
    """As one of v does: v = γε - σz is the noise where both have their share, and the picture alone at the end."""
    velocity = of_velocity()
    file = save_original(velocity, tmp_path / "v.safetensors")
    found = single_file.load_single_file(file, {}, model_folder)
    assert found.scheduler.config.prediction_type == "v_prediction"
    assert "does not say" in untold(file, found) and "'v_prediction'" in untold(file, found)
    save_file(load_file(file), file, SAID)
    assert not untold(file, single_file.load_single_file(file, {}, model_folder))
    save_file(load_file(file), file, {"modelspec.prediction_type": "epsilon"})
    with pytest.raises(MemfixError, match="answers as one of 'v_prediction'"):
        single_file.load_single_file(file, {}, model_folder)


@pytest.mark.parametrize("told", [None, {"modelspec.prediction_type": "epsilon"}])
def test_noise_alone_without_a_word_of_velocity_is_left_to_the_network_and_refused_for_one_of_noise(
    model_folder: Path, tmp_path: Path, told: dict[str, str] | None
) -> None:
    """Files that are marked by `ztsnr` but not by `v_pred`: tools draw those of ε with one noise or another."""
    bundled, velocity = tmp_path / "d.safetensors", tmp_path / "v.safetensors"
    mark = {"ztsnr": torch.ones(1)}
    save_file(original_state(loading.load(loading.locate("demo"))._pipe) | mark, bundled, told)
    with pytest.raises(MemfixError, match=r"\(ztsnr\), but not as one of 'v_prediction' \(v_pred\)") as caught:
        single_file.load_single_file(bundled, {}, MODEL)
    assert "Take ztsnr out" in caught.value.hint
    save_file(original_state(of_velocity()) | mark, velocity)
    config = single_file.load_single_file(velocity, {}, model_folder).scheduler.config
    assert config.prediction_type == "v_prediction" and config.rescale_betas_zero_snr


@pytest.mark.parametrize("said", [None, "epsilon"])
def test_a_network_that_answers_as_neither_is_refused(model_folder: Path, tmp_path: Path, said: str | None) -> None:
    """An untrained one, and a trained one that lost the scales of some weights."""
    told = {"modelspec.prediction_type": said} if said else None
    pipe = loading.load(loading.locate("demo"))._pipe
    with torch.no_grad():
        for weight in pipe.unet.parameters():
            weight.mul_(448 / weight.abs().max() if weight.ndim == 2 else 1)
    scaled = save_original(pipe, tmp_path / "scaled.safetensors", told)
    untrained = save_original(tiny_pipeline(), tmp_path / "untrained.safetensors", told)
    for file, config in ((scaled, MODEL), (untrained, model_folder)):
        with pytest.raises(MemfixError, match="answers noise neither as one of") as caught:
            single_file.load_single_file(file, {}, config)
        assert "modelspec.prediction_type" in caught.value.hint


def test_parts_come_from_donors(pipe: StableDiffusionPipeline, file: Path, model_folder: Path, tmp_path: Path) -> None:
    """From a diffusers model, from a folder of their own, and from a file."""
    state = {name: weight for name, weight in original_state(pipe).items() if name.startswith(PREFIX)}
    bare = tmp_path / "bare.safetensors"
    save_file(state, bare, SAID)
    for vae, texts in (
        (model_folder, file),
        (model_folder / "vae", model_folder / "text_encoder"),
        (file, model_folder),
    ):
        found = single_file.load_single_file(bare, {"vae": vae, "text_encoder": texts}, model_folder)
        assert torch.equal(found.vae.decoder.conv_in.weight, pipe.vae.decoder.conv_in.weight)
        for name, weight in found.text_encoder.state_dict().items():
            assert torch.equal(weight, pipe.text_encoder.state_dict()[name])
    with pytest.raises(MemfixError, match="120 weights of the part vae are not in"):
        single_file.load_single_file(bare, {"vae": bare, "text_encoder": file}, model_folder)


def test_a_file_that_is_not_whole_names_what_it_lacks(file: Path, model_folder: Path, tmp_path: Path) -> None:
    state = load_file(file)
    lost = f"{PREFIX}middle_block.1.transformer_blocks.0.attn2.to_v.weight"
    save_file({name: weight for name, weight in state.items() if name != lost}, tmp_path / "m.safetensors")
    with pytest.raises(MemfixError, match=r"UNet are not in .*attn2\.to_v\.weight"):
        single_file.load_single_file(tmp_path / "m.safetensors", {}, model_folder)


@pytest.mark.parametrize("scale", ["scale_weight", "weight_scale"])
@pytest.mark.parametrize("part", [PREFIX, VAE, CLIP])
def test_weights_that_need_a_scale_are_refused(
    file: Path, model_folder: Path, tmp_path: Path, part: str, scale: str
) -> None:
    """As ComfyUI writes scaled fp8: without the scales the network is another one, and copies nothing."""
    state, scaled = load_file(file), tmp_path / "scaled.safetensors"
    layer = next(name for name, w in state.items() if name.startswith(part) and name.endswith(".weight") and w.ndim > 1)
    state[layer] = (state[layer] / 0.01).to(torch.float8_e4m3fn)
    save_file(state | {layer.removesuffix("weight") + scale: torch.tensor(0.01)}, scaled)
    for model, donors in ((scaled, {}), (file, {} if part == PREFIX else {"vae": scaled, "text_encoder": scaled})):
        if model == scaled or donors:
            with pytest.raises(MemfixError, match=f"quantized weights, .*{scale}"):
                single_file.load_single_file(model, donors, model_folder)


def test_weights_of_no_layer_are_named(file: Path, model_folder: Path, tmp_path: Path) -> None:
    extra = f"{PREFIX}middle_block.7.weight"
    save_file(load_file(file) | {extra: torch.ones(2)}, tmp_path / "more.safetensors")
    with pytest.raises(MemfixError, match=f"1 weights of the UNet in .* are in none of its layers: {extra}"):
        single_file.load_single_file(tmp_path / "more.safetensors", {}, model_folder)


def test_the_text_encoder_of_stable_diffusion_2_is_read(
    pipe: StableDiffusionPipeline, model_folder: Path, tmp_path: Path
) -> None:
    own = pipe.text_encoder.state_dict()
    rest = {name: weight for name, weight in original_state(pipe).items() if not name.startswith(CLIP)}
    words = in_open_clips_words(own) | {"cond_stage_model.model.text_projection": torch.eye(16)}
    save_file(rest | words, tmp_path / "two.safetensors", SAID)
    assert contents(tmp_path / "two.safetensors").family == "sd2"
    found = single_file.load_single_file(tmp_path / "two.safetensors", {}, model_folder).text_encoder.state_dict()
    assert all(torch.equal(found[name], weight) for name, weight in own.items())


def test_a_file_of_xl_holds_the_pipeline_that_it_was_made_of(tmp_path: Path) -> None:
    """Both encoders with the projection of the second, and the layers that read sizes; written back, they are there."""
    pipe = tiny_xl(layers=10)
    pipe.save_pretrained(tmp_path / "folder")
    file = save_original(pipe, tmp_path / "xl.safetensors", SAID | {"modelspec.resolution": "24x24"})
    told = contents(file)
    assert told[:4] == ("xl", "v_prediction", (24, 24), ())
    found = single_file.load_single_file(file, {}, tmp_path / "folder")
    assert found.unet.config.sample_size == 12
    for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
        own, other = getattr(pipe, part).state_dict(), getattr(found, part).state_dict()
        assert own.keys() == other.keys() and all(torch.equal(own[name], other[name]) for name in own)
    assert found.tokenizer_2.pad_token == "!"
    with torch.no_grad():
        pipe.unet.add_embedding.linear_1.bias += 1
    write_like(file, pipe.unet, tmp_path / "new.safetensors")
    again = single_file.load_single_file(tmp_path / "new.safetensors", {}, tmp_path / "folder")
    assert torch.equal(again.unet.add_embedding.linear_1.bias, pipe.unet.add_embedding.linear_1.bias.half().float())


def test_both_encoders_of_xl_may_come_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One flag names them; a folder that has the first one alone would leave the second one numbers by chance."""
    pipe = tiny_xl(layers=10)
    pipe.save_pretrained(tmp_path / "folder")
    monkeypatch.setattr(single_file, "XL_WIDTH", 16 + 24)
    whole, bare, half = (tmp_path / f"{name}.safetensors" for name in ("whole", "bare", "half"))
    state = original_state(pipe)
    save_file(state, whole)
    save_file({name: weight for name, weight in state.items() if name.startswith((PREFIX, VAE))}, bare, SAID)
    save_file({n: weight for n, weight in state.items() if not n.startswith("conditioner.embedders.1.")}, half, SAID)
    assert contents(bare)[:4] == ("xl", "v_prediction", None, ("text_encoder", "text_encoder_2"))
    assert contents(half)[:4] == ("xl", "v_prediction", None, ("text_encoder_2",))
    with pytest.raises(MemfixError, match="no text_encoder and no text_encoder_2") as caught:
        loading.locate(str(bare))
    assert caught.value.hint.count("--text-encoder ") == 1 and "--text-encoder-2" not in caught.value.hint
    for file in (bare, half):
        for donor in (whole, tmp_path / "folder"):
            source = loading.locate(str(file), donors={"text_encoder": str(donor)})
            found = single_file.load_single_file(file, source.donors, tmp_path / "folder")
            for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
                own, other = getattr(pipe, part).state_dict(), getattr(found, part).state_dict()
                assert own.keys() == other.keys() and all(torch.equal(own[name], other[name]) for name in own)
    one = loading.locate(str(bare), donors={"text_encoder": str(tmp_path / "folder/text_encoder")})
    with pytest.raises(MemfixError, match="weights of the part text_encoder_2 are not in"):
        single_file.load_single_file(bare, one.donors, tmp_path / "folder")


def test_a_file_of_xl_that_says_so_predicts_velocity_down_to_noise_alone(tmp_path: Path) -> None:
    pipe = tiny_xl("v_prediction", layers=10)
    pipe.save_pretrained(tmp_path / "folder")
    marks = {"v_pred": torch.ones(1), "ztsnr": torch.ones(1)}
    save_file(original_state(pipe) | marks, tmp_path / "xl.safetensors")
    config = single_file.load_single_file(tmp_path / "xl.safetensors", {}, tmp_path / "folder").scheduler.config
    assert config.prediction_type == "v_prediction" and config.rescale_betas_zero_snr
    assert config.timestep_spacing == "trailing"
