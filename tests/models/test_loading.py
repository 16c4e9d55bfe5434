"""Finding and loading models, good and bad."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import (
    AsymmetricAutoencoderKL,
    AutoencoderTiny,
    DDIMScheduler,
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)

from memfix.config.checks import DetectSettings
from memfix.demo import MODEL
from memfix.errors import MemfixError
from memfix.models import loading
from memfix.models.model import DiffusionModel
from memfix.models.sampling import batches, plan_samples
from memfix.models.schedule import NoiseSchedule
from memfix.records import Prompt
from tests.conftest import TOKENS, picture, tiny_pipeline


def test_half_precision_weights_are_loaded_as_fp32(tmp_path: Path) -> None:
    tiny_pipeline().to(torch.float16).save_pretrained(tmp_path)
    pipe = loading.load(loading.locate(str(tmp_path)))._pipe
    kinds = {p.dtype for m in (pipe.unet, pipe.vae, pipe.text_encoder) for p in m.parameters()}
    assert kinds == {torch.float32}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("empty", "no model_index.json"),
        ("x.ckpt", "pickle"),
        ("x.png", "is not a model"),
        ("/none/at/all", "There is no model"),
    ],
)
def test_what_is_no_model(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.ckpt").write_bytes(b"")
    (tmp_path / "x.png").write_bytes(b"")
    with pytest.raises(MemfixError, match=message) as caught:
        loading.locate(str(tmp_path / name))
    assert caught.value.hint


def test_a_relative_path_that_is_missing_says_where_it_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, there in (("m", True), ("./models/m", True), (str(tmp_path / "m"), False)):
        with pytest.raises(MemfixError, match="There is no model") as caught:
            loading.locate(name)
        assert (f"looked for in {tmp_path}" in caught.value.hint) is there


def test_damaged_weights(model_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(model_folder, tmp_path / "m")
    next((tmp_path / "m" / "unet").glob("*.safetensors")).write_bytes(b"broken")
    with pytest.raises(MemfixError, match="cannot be loaded"):
        loading.load(loading.locate(str(tmp_path / "m")))


def with_scheduler(folder: Path, scheduler) -> str:
    pipe = tiny_pipeline()
    pipe.register_modules(scheduler=scheduler)
    pipe.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        (FlowMatchEulerDiscreteScheduler(), "FlowMatchEulerDiscreteScheduler"),
        (EDMEulerScheduler(), "EDMEulerScheduler"),
        (UniPCMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction"), "flow matching"),
        (DDIMScheduler(prediction_type="sample"), "predicts 'sample'"),
    ],
    ids=["flow", "edm", "flow sigmas", "sample"],
)
def test_noise_that_is_not_supported_is_refused_when_the_model_is_loaded(
    tmp_path: Path, scheduler, message: str
) -> None:
    with pytest.raises(MemfixError, match=message) as caught:
        loading.load(loading.locate(with_scheduler(tmp_path, scheduler)))
    assert caught.value.hint


@pytest.mark.parametrize("scheduler", [PNDMScheduler(), EulerDiscreteScheduler(), UniPCMultistepScheduler()])
def test_other_schedulers_of_a_diffusion_are_taken(tmp_path: Path, scheduler) -> None:
    assert loading.load(loading.locate(with_scheduler(tmp_path, scheduler)))


def test_hub_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(MemfixError, match="is not on this machine, and memfix is offline"):
        loading.locate("memfix-test/no-such-model")


def test_the_hash_follows_the_weights(model_folder: Path, tmp_path: Path) -> None:
    assert loading.locate(str(model_folder)).sha256 == loading.locate(str(model_folder)).sha256
    pipe = tiny_pipeline()
    with torch.no_grad():
        pipe.unet.conv_in.weight.add_(1)
    pipe.save_pretrained(tmp_path)
    assert loading.locate(str(tmp_path)).sha256 != loading.locate(str(model_folder)).sha256


@pytest.mark.parametrize("store", ["store", "m/versions/2"])  # beside the model, and in its own folder
def test_the_hash_follows_weights_in_a_folder_that_is_a_link(model_folder: Path, tmp_path: Path, store: str) -> None:
    model, unet = Path(shutil.copytree(model_folder, tmp_path / "m")), tmp_path / store / "unet"
    unet.parent.mkdir(parents=True)
    (model / "unet").rename(unet)
    (model / "unet").symlink_to(unet)
    before, whole = loading.locate(str(model)), loading.locate(str(model_folder))
    assert (before.sha256, before.config_sha256) == (whole.sha256, whole.config_sha256)
    (model / "unet").unlink()
    shutil.copytree(unet, tmp_path / store / "other")
    weights = tmp_path / store / "other/diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    (model / "unet").symlink_to(weights.parent)
    assert loading.locate(str(model)).sha256 != before.sha256


def edited(folder: Path, file: str, **values: object) -> str:
    told = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(told | values))
    return str(folder)


@pytest.mark.parametrize(
    "kind", ["FluxPipeline", "StableDiffusion3Pipeline", "PixArtSigmaPipeline", "StableDiffusionXLInpaintPipeline",
             "StableDiffusionXLImg2ImgPipeline", "StableDiffusionInpaintPipeline"],
)  # fmt: skip
def test_other_pipelines_are_refused_by_name_before_weights_are_read(
    model_folder: Path, tmp_path: Path, kind: str
) -> None:
    model = Path(shutil.copytree(model_folder, tmp_path / "m"))
    next(model.glob("unet/*.safetensors")).unlink()
    with pytest.raises(MemfixError, match=f"is a {kind}"):
        loading.locate(edited(model, "model_index.json", _class_name=kind))


@pytest.mark.parametrize(("channels", "told"), [(9, "inpainting"), (8, "InstructPix2Pix"), (7, "reads 7 channels")])
def test_networks_that_read_more_than_latents_are_refused(
    model_folder: Path, tmp_path: Path, channels: int, told: str
) -> None:
    model = Path(shutil.copytree(model_folder, tmp_path / "m"))
    with pytest.raises(MemfixError, match=told):
        loading.locate(edited(model, "unet/config.json", in_channels=channels))


def test_a_scheduler_that_takes_noise_for_velocity_is_refused(tmp_path: Path) -> None:
    """It would draw noise, which is a copy of nothing."""
    model = Path(shutil.copytree(MODEL, tmp_path / "m"))
    with pytest.raises(MemfixError, match="answers with the noise"):
        loading.load(loading.locate(edited(model, "scheduler/scheduler_config.json", prediction_type="v_prediction")))


def test_the_hash_of_a_model_in_the_hubs_cache_is_that_of_its_files(model_folder: Path, tmp_path: Path) -> None:
    snapshot, blobs = Path(shutil.copytree(model_folder, tmp_path / "snapshots/1a2b")), tmp_path / "blobs"
    blobs.mkdir()
    for number, file in enumerate(sorted(f for f in snapshot.rglob("*") if f.is_file())):
        file.rename(blobs / f"{number}")
        file.symlink_to(blobs / f"{number}")
    cached, plain = loading.locate(str(snapshot)), loading.locate(str(model_folder))
    assert (cached.sha256, cached.config_sha256) == (plain.sha256, plain.config_sha256)


@pytest.mark.parametrize(
    "name", ["unet", "unet/diffusion_pytorch_model.safetensors", "scheduler/scheduler_config.json"]
)
def test_a_link_to_nowhere_is_named(model_folder: Path, tmp_path: Path, name: str) -> None:
    model = Path(shutil.copytree(model_folder, tmp_path / "m"))
    (model / name).rename(tmp_path / "elsewhere")
    (model / name).symlink_to("gone")
    (model / "LICENSE.md").symlink_to("gone")  # no part of what the model does
    with pytest.raises(MemfixError, match=f"{name} cannot be read: No such file") as caught:
        loading.locate(str(model))
    assert caught.value.hint
    (model / name).unlink()
    (tmp_path / "elsewhere").rename(model / name)
    assert loading.locate(str(model)).sha256 == loading.locate(str(model_folder)).sha256


def test_cut_tokens(model_folder: Path) -> None:
    text = loading.load(loading.locate(str(model_folder))).text
    assert text.cut_tokens("cat") == 0
    assert text.cut_tokens("c" * TOKENS) == 2  # start and end take two places


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_samples_do_not_depend_on_their_batch(prediction_type: str) -> None:
    pipe = tiny_pipeline(prediction_type)
    pipe.set_progress_bar_config(disable=True)
    prompts = [Prompt(id=f"p{i}", text=text) for i, text in enumerate(["cat", "a dog", "<b>"])]
    plan = plan_samples(prompts, range(3), steps=3, guidance=4.0)
    runs = []
    for size in (1, 4, 9):
        images = [image for batch in batches(plan, size) for image in DiffusionModel(pipe).sample(batch, "no")]
        runs.append(torch.stack([torch.frombuffer(bytearray(i.tobytes()), dtype=torch.uint8) for i in images]).int())
    assert (runs[0] - runs[1]).abs().max() <= 2
    assert (runs[0] - runs[2]).abs().max() <= 2
    assert (runs[0][0] - runs[0][1]).abs().max() > 2  # seeds differ


def test_batches_keep_their_bounds() -> None:
    plan = plan_samples([Prompt(id="p", text="t")], range(6), steps=1, guidance=1.0)
    left = list(batches(plan, 2, {"p-0.png", "p-2.png", "p-3.png"}))
    assert [[s.seed for s in b] for b in left] == [[0, 1], [4, 5]]


def test_noise_schedule_is_the_schedulers() -> None:
    pipe = tiny_pipeline()
    schedule = NoiseSchedule(pipe.scheduler)
    x, eps, t = torch.randn(3, 4, 8, 8), torch.randn(3, 4, 8, 8), torch.tensor([0, 500, 999])
    mine = schedule.signal_scale[t].reshape(3, 1, 1, 1) * x + schedule.noise_scale[t].reshape(3, 1, 1, 1) * eps
    torch.testing.assert_close(mine.float(), pipe.scheduler.add_noise(x, eps, t), atol=1e-5, rtol=1e-5)


def test_latents_are_scaled_and_batched(reference_folder: Path) -> None:
    from PIL import Image

    latent_space = DiffusionModel(tiny_pipeline()).latents
    images = [Image.open(p).convert("RGB") for p in sorted(reference_folder.glob("*.png"))] * 3
    latents = list(latent_space.encode(images))
    assert len(latents) == 12
    assert latents[0].shape == (4, 8, 8)
    (alone,) = latent_space.encode(images[:1])
    torch.testing.assert_close(latents[0], alone, atol=1e-5, rtol=1e-5)


def test_a_tokenizer_of_no_length_cuts_where_the_positions_end(
    model_folder: Path, xl_folder: Path, tmp_path: Path
) -> None:
    for whole in (model_folder, xl_folder):
        folder = Path(shutil.copytree(whole, tmp_path / whole.name))
        for file in folder.glob("tokenizer*/tokenizer_config.json"):
            told = json.loads(file.read_text())
            del told["model_max_length"]
            file.write_text(json.dumps(told))
        own, bare = (loading.load(loading.locate(str(model))) for model in (whole, folder))
        text = "cat " * 2 * TOKENS
        assert torch.equal(bare.text.encode([text]).tokens, own.text.encode([text]).tokens)
        assert bare.text.cut_tokens(text) == own.text.cut_tokens(text) > 0


def with_vae(folder: Path, vae) -> str:
    pipe = tiny_pipeline()
    pipe.register_modules(vae=vae)
    pipe.save_pretrained(folder)
    return str(folder)


def test_a_vae_that_gives_no_latents_of_pictures_is_refused_before_weights_are_read(
    model_folder: Path, tmp_path: Path
) -> None:
    """Such as taesd: samples are drawn, and training pictures cannot be encoded, or not in the same scale."""
    tiny = AutoencoderTiny(
        encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8), num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    )  # fmt: skip
    model = with_vae(tmp_path / "m", tiny)
    with pytest.raises(MemfixError, match=r"vae of .* of the class AutoencoderTiny") as caught:
        loading.locate(model)
    assert "--vae" in caught.value.hint
    with pytest.raises(MemfixError, match=r"vae of .* of the class AutoencoderTiny"):
        loading.locate(str(model_folder), donors={"vae": model})
    with pytest.raises(MemfixError, match=r"vae of .* of the class AutoencoderTiny"):
        loading.locate(str(model_folder), donors={"vae": f"{model}/vae"})
    given = loading.load(loading.locate(model, donors={"vae": str(model_folder)}))
    assert len(list(given.latents.encode([picture(0)]))) == 1


def test_a_vae_with_another_decoder_encodes_as_well(tmp_path: Path) -> None:
    blocks = {"down_block_out_channels": (8, 8), "up_block_out_channels": (8, 8), "norm_num_groups": 4}
    kinds = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    model = loading.load(loading.locate(with_vae(tmp_path, AsymmetricAutoencoderKL(**blocks, **kinds))))
    (drawn,) = model.latents.drawn([picture(0)])
    assert drawn.size == (16, 16)


@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_quantized_parts_are_refused_before_weights_are_read(model_folder: Path, tmp_path: Path, part: str) -> None:
    model = Path(shutil.copytree(model_folder, tmp_path / "m"))
    edited(model, f"{part}/config.json", quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True})
    with pytest.raises(MemfixError, match=rf"part {part} of .* is quantized"):
        loading.locate(str(model))
    if part == "text_encoder":
        with pytest.raises(MemfixError, match=rf"part {part} of .* is quantized"):
            loading.locate(str(model_folder), donors={part: str(model)})


def test_a_model_that_says_no_size_is_asked_for_one(model_folder: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(model_folder, tmp_path / "m"))
    source = loading.locate(edited(model, "unet/config.json", sample_size=None))
    with pytest.raises(MemfixError, match="does not say how large its pictures are") as caught:
        loading.load(source)
    assert "--resolution" in caught.value.hint
    given = DetectSettings.model_validate({"resolution": 32})
    assert loading.load(source, given.picture_size).latents.picture_size == (32, 32)
