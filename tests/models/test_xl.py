"""Stable Diffusion XL at a tiny size, against diffusers' own pipelines."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLImg2ImgPipeline, StableDiffusionXLPipeline
from PIL import Image
from safetensors.torch import save_file

from memfix.errors import MemfixError
from memfix.models import kohya, loading, lora
from memfix.models.model import DiffusionModel
from memfix.models.sampling import plan_samples
from memfix.models.walk import walk
from memfix.models.xl import XLModel
from memfix.records import SAME, Prompt, Sample
from tests.conftest import TOKENS, picture, tiny_xl

HEIGHT, WIDTH = 16, 32  # of pictures; latents are half as large
TEXTS = ["a cat", "two dogs, a very long text that both of the encoders cut"]
PLAN = [
    sample for i, text in enumerate(TEXTS)
    for sample in plan_samples([Prompt(id=f"p{i}", text=text)], [3, 4], steps=4, guidance=3.0)
]  # fmt: skip


@pytest.fixture
def model(xl_folder: Path) -> DiffusionModel:
    return loading.load(loading.locate(str(xl_folder)), lambda own: (HEIGHT, WIDTH))


@pytest.fixture
def alone(xl_folder: Path) -> StableDiffusionXLPipeline:
    pipe = StableDiffusionXLPipeline.from_pretrained(xl_folder, add_watermarker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def drawn_alone(
    pipe: StableDiffusionXLPipeline, plan: list[Sample], guidance: float = 3.0, **more: object
) -> np.ndarray:
    generators = [torch.Generator().manual_seed(s.seed) for s in plan]
    pictures = pipe(
        [s.text for s in plan], height=HEIGHT, width=WIDTH, generator=generators, num_inference_steps=4,
        guidance_scale=guidance, **more,
    ).images  # fmt: skip
    return np.stack([np.asarray(p, int) for p in pictures])


def pixels(images: list[Image.Image]) -> np.ndarray:
    return np.stack([np.asarray(image, int) for image in images])


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_samples_are_those_of_diffusers_alone(
    model: DiffusionModel, alone: StableDiffusionXLPipeline, guidance: float
) -> None:
    plan = [sample.model_copy(update={"guidance": guidance}) for sample in PLAN]
    found = pixels(model.sample(plan, "no"))
    assert np.array_equal(found, drawn_alone(alone, plan, guidance))
    assert len({p.tobytes() for p in found}) == len(plan)


def test_steps_one_by_one_end_where_the_pipeline_does(model: DiffusionModel, alone: StableDiffusionXLPipeline) -> None:
    (*_, last) = walk(model, [TEXTS[0]], [3, 4], 4, 3.0)
    wanted = alone(
        [TEXTS[0]] * 2, height=HEIGHT, width=WIDTH, num_inference_steps=4, guidance_scale=3.0, output_type="latent",
        generator=[torch.Generator().manual_seed(seed) for seed in (3, 4)],
    ).images  # fmt: skip
    torch.testing.assert_close(last.clean, wanted, rtol=1e-4, atol=1e-4)  # Euler's last step goes to the clean latents


@pytest.mark.parametrize("zeros", [True, False])
def test_an_empty_prompt_is_read_as_diffusers_does_and_is_not_the_same_as_none(
    alone: StableDiffusionXLPipeline, tmp_path: Path, zeros: bool
) -> None:
    """Beside a prompt nothing is told by zeros if the index says so, and else as an empty prompt, which is a text."""
    alone.register_to_config(force_zeros_for_empty_prompt=zeros)
    alone.save_pretrained(tmp_path)
    model = loading.load(loading.locate(str(tmp_path)), lambda own: (HEIGHT, WIDTH))
    for plan in (PLAN, plan_samples([Prompt(id="p", text="")], [3, 4], steps=4, guidance=3.0)):
        assert np.array_equal(pixels(model.sample(plan, "no")), drawn_alone(alone, plan))
    assert model.text.encode([""]).equals(model.text.encode([None])).tolist() == [not zeros]


def test_samples_from_pictures_are_those_of_diffusers(model: DiffusionModel, alone: StableDiffusionXLPipeline) -> None:
    own = StableDiffusionXLImg2ImgPipeline(**alone.components, add_watermarker=False)
    own.set_progress_bar_config(disable=True)
    start = torch.stack(list(model.latents.encode([picture(i) for i in range(4)])))
    wanted = own(
        [s.text for s in PLAN], image=start, strength=0.75, num_inference_steps=4, guidance_scale=3.0,
        generator=[torch.Generator().manual_seed(s.seed) for s in PLAN],
    ).images  # fmt: skip
    assert np.array_equal(pixels(model.sample_from([picture(i) for i in range(4)], PLAN, 0.75, "no")), pixels(wanted))


def test_a_denoiser_is_told_what_the_pipeline_tells_it(model: DiffusionModel, alone: StableDiffusionXLPipeline) -> None:
    told = model.text.encode([*TEXTS, None])
    tokens, without, pooled, no_pooled = alone.encode_prompt(TEXTS)
    assert [tuple(part.shape) for part in told.parts()] == [(3, TOKENS, 40), (3, 12), (3, 6)]
    assert told.pooled is not None and told.time_ids is not None
    assert torch.equal(told.tokens, torch.cat([tokens, without[:1]]))
    assert torch.equal(told.pooled, torch.cat([pooled, no_pooled[:1]]))
    assert told.time_ids.tolist() == [[HEIGHT, WIDTH, 0, 0, HEIGHT, WIDTH]] * 3
    assert not told.tokens[2].any() and not told.pooled[2].any()
    early, own = model.text.encode_early(TEXTS[0], 1), alone.encode_prompt(TEXTS[:1], clip_skip=1)
    assert early is not None and torch.equal(early.tokens, own[0]) and torch.equal(early.pooled, own[2])
    assert model.text.encode_early(TEXTS[0], 2) is None
    assert model.text.cut_tokens(TEXTS[0]) == 0 < model.text.cut_tokens(TEXTS[1])


@pytest.mark.parametrize(
    ("size", "frame"),
    [
        ((32, 16), [16, 32, 0, 0, 16, 32]),
        ((64, 32), [32, 64, 0, 0, 16, 32]),
        ((100, 40), [40, 100, 0, 4, 16, 32]),  # 16 × 40 once it is as small, of which 4 columns go on either side
        ((50, 100), [100, 50, 24, 0, 16, 32]),  # 64 × 32
    ],
)
def test_pictures_come_with_their_size_and_crop(model: DiffusionModel, size: tuple[int, int], frame: list[int]) -> None:
    told = model.frames([Image.new("RGB", size)])
    assert told is not None and told.tolist() == [frame]


def test_the_autoencoder_computes_in_full_where_it_overflows_in_half(model: DiffusionModel) -> None:
    dtypes: list[torch.dtype] = []
    for part in (model._pipe.vae.encoder, model._pipe.vae.decoder):
        part.register_forward_hook(lambda module, given, answer: dtypes.append(answer.dtype))
    model.sample(PLAN[:1], "bf16")
    model.sample_from([picture(0)], PLAN[:1], 0.75, "bf16")
    with torch.autocast("cpu", torch.bfloat16):
        list(model.latents.encode([picture(0)]))
    assert dtypes == [torch.float32] * 4


def test_it_is_saved_as_it_was(model: DiffusionModel, tmp_path: Path) -> None:
    model.save(tmp_path)
    again = loading.load(loading.locate(str(tmp_path)))
    assert again.latents.picture_size == (HEIGHT, WIDTH)
    assert np.array_equal(pixels(again.sample(PLAN, "no")), pixels(model.sample(PLAN, "no")))
    assert again.loaded_by == "StableDiffusionXLPipeline"


def test_a_folder_of_half_precision_is_loaded(alone: StableDiffusionXLPipeline, tmp_path: Path) -> None:
    alone.to(torch.float16).save_pretrained(tmp_path, variant="fp16")
    source = loading.locate(str(tmp_path))
    assert source.variant == "fp16"
    model = loading.load(source)
    assert torch.equal(model.denoiser.module.conv_in.weight, alone.unet.conv_in.weight.float())
    assert len(model.sample(PLAN[:1], "no")) == 1


def test_what_is_not_its_base_is_refused(xl_folder: Path, tmp_path: Path) -> None:
    pipe = tiny_xl()
    pipe.register_modules(text_encoder=None, tokenizer=None)
    pipe.save_pretrained(tmp_path / "refiner")
    with pytest.raises(MemfixError, match="no text_encoder, as the refiner"):
        loading.load(loading.locate(str(tmp_path / "refiner")))
    other = tiny_xl()
    other.vae.register_to_config(latents_mean=[0.0] * 4, latents_std=[1.0] * 4)
    other.save_pretrained(tmp_path / "shifted")
    with pytest.raises(MemfixError, match="latents_mean"):
        loading.load(loading.locate(str(tmp_path / "shifted")))
    index = json.loads((xl_folder / "model_index.json").read_text())
    for kind in ("StableDiffusionXLImg2ImgPipeline", "StableDiffusionXLInpaintPipeline"):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "model_index.json").write_text(json.dumps(index | {"_class_name": kind}))
        with pytest.raises(MemfixError, match=f"is a {kind}"):
            loading.locate(str(tmp_path / kind))


def with_lora(model: DiffusionModel, folder: Path) -> torch.Tensor:
    """Train one by chance, save it, and give the prediction with it."""
    torch.manual_seed(1)
    model.adapters.add(2)
    for parameter in model.denoiser.trained().values():
        torch.nn.init.normal_(parameter, std=0.2)
    model.adapters.save(folder)
    return predicted(model)


@torch.no_grad()
def predicted(model: DiffusionModel) -> torch.Tensor:
    noisy = torch.randn(2, *model.latents.shape, generator=torch.Generator().manual_seed(0))
    return model.denoiser.predict(noisy, torch.tensor([3, 900]), model.text.encode(TEXTS))


def test_a_lora_is_loaded_by_the_pipeline_and_predicts_the_same(
    model: DiffusionModel, alone: StableDiffusionXLPipeline, xl_folder: Path, tmp_path: Path
) -> None:
    before = predicted(model)
    wanted = with_lora(model, tmp_path)
    kohya.write_kohya(tmp_path, tmp_path / "run.kohya.safetensors", model.loaded_by)
    assert not torch.allclose(wanted, before, atol=0.01)
    for name in (lora.FILE, "run.kohya.safetensors"):
        pipe = StableDiffusionXLPipeline.from_pretrained(xl_folder, add_watermarker=False)
        pipe.unet.register_to_config(sample_size=(HEIGHT // 2, WIDTH // 2))
        pipe.load_lora_weights(tmp_path, weight_name=name)
        torch.testing.assert_close(predicted(XLModel(pipe)), wanted, atol=1e-5, rtol=1e-5)
        fresh = loading.load(loading.locate(str(xl_folder)), lambda own: (HEIGHT, WIDTH))
        fresh.adapters.fuse(tmp_path / name)
        torch.testing.assert_close(predicted(fresh), wanted, atol=1e-4, rtol=1e-4)


def test_a_lora_may_change_both_encoders(model: DiffusionModel, xl_folder: Path, tmp_path: Path) -> None:
    """As kohya's scripts name them; added to another one, and written for other tools, it does the same."""
    torch.manual_seed(0)
    state = dict[str, torch.Tensor]()
    layers = [(e, w, n) for e, w in (("te1", 16), ("te2", 24)) for n in ("q_proj", "out_proj")]
    for encoder, width, layer in layers:
        key = f"lora_{encoder}_text_model_encoder_layers_0_self_attn_{layer}"
        state |= {
            f"{key}.lora_down.weight": torch.randn(2, width), f"{key}.lora_up.weight": torch.randn(width, 2),
            f"{key}.alpha": torch.tensor(2.0),
        }  # fmt: skip
    save_file(state, tmp_path / "texts.safetensors")
    with_lora(model, tmp_path / "unet")
    model.adapters.remove()
    model.adapters.save_sum(tmp_path / "sum", [tmp_path / "unet", tmp_path / "texts.safetensors"])
    kohya.write_kohya(tmp_path / "sum", tmp_path / "sum.safetensors", model.loaded_by)
    model.adapters.fuse(tmp_path / "unet", tmp_path / "texts.safetensors")
    own = loading.load(loading.locate(str(xl_folder))).text.encode(TEXTS)
    moved = model.text.encode(TEXTS)
    assert moved.pooled is not None and own.pooled is not None
    assert not torch.allclose(moved.tokens, own.tokens, atol=1e-3)
    assert not torch.allclose(moved.pooled, own.pooled, atol=1e-3)
    for adapter in (tmp_path / "sum", tmp_path / "sum.safetensors"):
        other = loading.load(loading.locate(str(xl_folder)), lambda own: (HEIGHT, WIDTH))
        other.adapters.fuse(adapter)
        torch.testing.assert_close(predicted(other), predicted(model), atol=1e-4, rtol=1e-4)


def test_a_picture_is_asked_for_with_its_own_size_and_crop(
    model: DiffusionModel, alone: StableDiffusionXLPipeline
) -> None:
    own = torch.tensor([[50.0, 100.0, 24.0, 0.0, HEIGHT, WIDTH]])
    told = replace(model.text.encode(TEXTS[:1]).to("cpu"), time_ids=own)
    found = pixels(model.sample(PLAN[:2], "no", {("p0", SAME): told}))
    more = {"original_size": (50, 100), "crops_coords_top_left": (24, 0), "target_size": (HEIGHT, WIDTH)}
    assert np.array_equal(found, drawn_alone(alone, PLAN[:2], **more))
    assert not np.array_equal(found, drawn_alone(alone, PLAN[:2]))
    with pytest.raises(ValueError, match="one size and crop"):
        model.sample(PLAN, "no", {("p0", SAME): told})
