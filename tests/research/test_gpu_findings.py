"""What pieces of research/gpu.py find: verdicts, pictures, numbers, speeds, the published step, the code."""

import json
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode

from memfix.errors import MemfixError

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "research"))
import gpu
from gpu_pieces import cards, internals, lines, meters, models, speed, works
from gpu_pieces.fits import FITS, Fit
from gpu_pieces.piece import Here, WrongResultError

pytestmark = pytest.mark.slow  # waits for processes


@pytest.fixture
def here(tmp_path: Path) -> Here:
    return Here("cpu", True, tmp_path, tmp_path / "values.json")


# -- the verdicts of a run ------------------------------------------------------------------------------------------

SCORE = {"detail": 0.2, "distance": 0.5, "part": None}
STEP = {"seconds": 0.5, "loss_keep": 1.0}


def run_folder(folder: Path, score: dict = SCORE, steps: tuple[dict, ...] = (STEP,)) -> Path:
    """A run of one prompt that was memorized and is not any more, as far as it is looked at."""
    files = {
        "prompts": [{"id": "p", "text": "a sea"}],
        "before/verdicts": [{"prompt_id": "p", "verdict": "memorized"}],
        "before/scores": [SCORE],
        "after/scores": [SCORE, score],
        "changes": [{"prompt_id": "p", "outcome": "mitigated"}],
        "training": list(steps),
    }
    for name, records in files.items():
        file = folder / f"{name}.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(json.dumps(r) + "\n" for r in records))
    stages = {"detect": None, "unlearn": {"timings": {"seconds": 3.5}, "peak_memory_bytes": 2**30}}
    (folder / "run.json").write_text(json.dumps({"stages": stages}))
    return folder


def test_what_a_run_found_is_noted(here: Here) -> None:
    works.judge(here, run_folder(here.work), "demo")
    wanted = {
        "memorized": 1, "mitigated": 1, "persistent": 0, "pictures": 3, "blank_pictures": 0, "steps": 1,
        "numbers_that_are_none": 0, "unlearn_seconds": 3.5, "unlearn_peak_gib": 1.0,
    }  # fmt: skip
    assert wanted.items() <= here.values.items()


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"score": {**SCORE, "detail": 0.0}}, "1 blank pictures, 0 numbers are none"),
        ({"score": {**SCORE, "distance": None}}, "0 blank pictures, 1 numbers are none"),
        ({"score": {**SCORE, "distance": float("nan")}}, "0 blank pictures, 1 numbers are none"),
        ({"steps": ({**STEP, "loss_keep": float("inf")},)}, "0 blank pictures, 1 numbers are none"),
        ({"steps": ()}, "nothing was unlearned"),
    ],
)
def test_blank_pictures_and_numbers_that_are_none_are_a_failure(here: Here, wrong: dict, reason: str) -> None:
    with pytest.raises(WrongResultError, match=reason):
        works.judge(here, run_folder(here.work, **wrong), "demo")


def expected(monkeypatch: pytest.MonkeyPatch, folder: Path, code: str, outcome: str = "mitigated") -> None:
    found = {"prompts": {"a sea": {"before": "memorized", "outcome": outcome}}}
    file = folder / "verdicts.json"
    file.write_text(json.dumps({"code": code, "demo": found, "chain-lora": found, "chain-full": found}))
    monkeypatch.setattr(works, "EXPECTED", file)


def test_verdicts_of_a_run_are_held_against_those_of_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Here("cuda", False, tmp_path, tmp_path / "values.json")
    expected(monkeypatch, tmp_path, lines.memfix_code())
    works.judge(here, run_folder(tmp_path), "chain-lora")
    assert here.values["verdicts_compared"] == 1 and here.values["verdicts_differing"] == 0
    assert "verdicts_of_other_code" not in here.values
    expected(monkeypatch, tmp_path, lines.memfix_code(), "persistent")
    with pytest.raises(WrongResultError, match=r"^1 verdicts are not those of the CPU: a sea"):
        works.judge(here, run_folder(tmp_path), "demo")


def test_verdicts_of_other_code_are_never_compared_without_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Here("cuda", False, tmp_path, tmp_path / "values.json")
    expected(monkeypatch, tmp_path, "0123abcd")
    works.judge(here, run_folder(tmp_path), "demo")
    assert "other code (0123abcd)" in str(here.values["verdicts_of_other_code"])
    expected(monkeypatch, tmp_path, "0123abcd", "persistent")
    with pytest.raises(WrongResultError, match=r"CPU .the CPU's verdicts were made by other code"):
        works.judge(here, run_folder(tmp_path), "demo")
    (tmp_path / "verdicts.json").write_text("{}")
    with pytest.raises(WrongResultError, match=r"holds no verdicts of a CPU .KeyError"):
        works.judge(here, run_folder(tmp_path), "demo")


@pytest.mark.parametrize("prompts", [{}, [], "a sea", {"a sea": "memorized"}, {"a sea": {"outcome": "mitigated"}}])
def test_a_file_without_verdicts_is_refused_before_any_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prompts: object
) -> None:
    found = {"prompts": {"a sea": {"before": "memorized"}}}
    verdicts = {"demo": {"prompts": prompts}, "chain-lora": found, "chain-full": found}
    monkeypatch.setattr(works, "EXPECTED", tmp_path / "verdicts.json")
    works.EXPECTED.write_text(json.dumps(verdicts))
    with pytest.raises(SystemExit, match=r"No piece was begun, since .* holds no verdicts of a CPU"):
        gpu.check_verdicts()
    works.EXPECTED.write_text(json.dumps({**verdicts, "demo": found}))
    gpu.check_verdicts()


def test_the_script_warns_of_verdicts_of_other_code_and_refuses_to_begin_without_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    expected(monkeypatch, tmp_path, lines.memfix_code())
    gpu.check_verdicts()
    assert capsys.readouterr().err == ""
    expected(monkeypatch, tmp_path, "0123abcd")
    gpu.check_verdicts()
    assert "WARNING: the CPU's verdicts were made by other code (0123abcd)" in capsys.readouterr().err
    (tmp_path / "verdicts.json").unlink()
    with pytest.raises(SystemExit, match="holds no verdicts of a CPU"):
        gpu.check_verdicts()


def test_verdicts_of_a_cpu_are_written_with_the_code_that_found_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(works, "EXPECTED", tmp_path / "results" / "verdicts.json")
    monkeypatch.setattr(works, "memfix", lambda *words: run_folder(words[-1]))
    monkeypatch.setattr(works, "chain_to", lambda run, *_: run_folder(run))
    works.expect(tmp_path)
    found = works.expected_verdicts()
    assert works.stale(found) == ""
    assert found["chain-full"]["prompts"] == {"a sea": {"before": "memorized", "outcome": "mitigated"}}


def test_verdicts_of_the_repository_can_be_read() -> None:
    assert works.expected_verdicts()["code"]


def test_other_verdicts_are_a_failure(here: Here) -> None:
    wanted = {"a": {"before": "memorized", "outcome": "mitigated"}, "b": {"before": "clean", "outcome": "unchanged"}}
    works.compare(here, wanted, wanted)
    assert here.values == {"verdicts_compared": 2, "verdicts_differing": 0}
    with pytest.raises(WrongResultError, match=r"1 verdicts are not those of the CPU: a: .*persistent"):
        works.compare(here, {**wanted, "a": {"before": "memorized", "outcome": "persistent"}}, wanted)
    with pytest.raises(WrongResultError, match="b: None"):
        works.compare(here, {"a": wanted["a"]}, wanted)


def test_what_an_attack_happens_to_bring_back_is_no_other_verdict(here: Here) -> None:
    wanted = {"a": {"before": "memorized", "outcome": "mitigated"}}
    works.compare(here, {"a": {"before": "memorized", "outcome": "hidden"}}, wanted)
    works.compare(here, wanted, {"a": {"before": "memorized", "outcome": "hidden"}})
    for other in ("persistent", "damaged", "undecided"):
        with pytest.raises(WrongResultError, match="1 verdicts are not those of the CPU"):
            works.compare(here, {"a": {"before": "memorized", "outcome": other}}, wanted)


def attack(version: str, copies: int) -> dict:
    return {"version": version, "arm": "target", "curve": [{"work": 50, "copies": copies, "samples": 8}]}


def test_attacks_that_get_nothing_from_the_original_model_are_a_failure(here: Here) -> None:
    run = run_folder(here.work)
    file = run / "after" / "attacks.jsonl"
    file.write_text("".join(json.dumps(attack(*a)) + "\n" for a in (("before", 8), ("after", 0), ("after", 1))))
    works.judge(here, run, "demo")
    wanted = {"attacks_before": 1, "attacks_before_succeeded": 1, "attacks_after": 2, "attacks_after_succeeded": 1}
    assert wanted.items() <= here.values.items()
    file.write_text(json.dumps(attack("before", 0)) + "\n")
    with pytest.raises(WrongResultError, match="attacks do not work"):
        works.judge(here, run, "demo")


@pytest.mark.parametrize(
    ("record", "count"),
    [
        ({"x": 1.0, "part": None, "measures": {"ssim": 0.3}}, 0),
        ({"x": None, "measures": {"ssim": None}}, 2),
        ({"x": float("inf"), "y": "nan"}, 1),
    ],
)
def test_numbers_that_are_none_are_seen(record: dict, count: int) -> None:
    assert works.not_numbers(json.loads(json.dumps(record))) == count


# -- the code -------------------------------------------------------------------------------------------------------


def test_code_is_known_by_memfix_the_pieces_and_their_tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "ROOT", tmp_path)
    own = ["memfix/a.py", "memfix/demo/model/unet.bin", "prompts/demo.txt"]
    more = ["research/gpu.py", "research/gpu_pieces/speed.py", "research/published_step.py", "tests/gpu/test_x.py"]
    for name in [*own, *more]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("one")
    seen, seen_of_memfix = {lines.code()}, {lines.memfix_code(tmp_path)}
    for name in [*own, *more]:
        (tmp_path / name).write_text("two")
        seen.add(lines.code())
        seen_of_memfix.add(lines.memfix_code(tmp_path))
    assert len(seen) == 1 + len(own) + len(more)
    assert len(seen_of_memfix) == 1 + len(own)
    (tmp_path / "memfix" / "__pycache__").mkdir()
    (tmp_path / "memfix" / "__pycache__" / "a.pyc").write_text("")
    (tmp_path / "research" / "gpu.md").write_text("")
    assert lines.code() in seen


# -- speed ----------------------------------------------------------------------------------------------------------


def test_a_ratio_is_the_own_speed_over_the_others(here: Here) -> None:
    speed.over(here, "batch8", "loop", "images_per_second")
    assert here.values == {}
    here.note(batch8_images_per_second=12.0, loop_images_per_second=8.0)
    speed.over(here, "batch8", "loop", "images_per_second")
    assert here.values["batch8_over_loop"] == 1.5


@pytest.mark.slow
def test_training_and_sampling_are_held_against_the_others(here: Here) -> None:
    speed.training(here, "sd1", "lora")
    speed.sampling(here, "sd1")
    own = {"batch16_over_published": "steps", "batch1_over_loop": "images", "batch8_over_loop": "images"}
    for name, what in own.items():
        mine, other = (float(here.values[f"{title}_{what}_per_second"]) for title in name.split("_over_"))
        assert here.values[name] == pytest.approx(mine / other, rel=0.01)


class Products(TorchDispatchMode):
    """Counts matrix products."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten.mm.default
        return func(*args, **(kwargs or {}))


def test_the_peak_is_that_of_a_warm_device() -> None:
    assert meters.THOROUGH.warm >= 0.5 and meters.THOROUGH.rounds >= 20 and meters.THOROUGH.side >= 4096
    started = time.perf_counter()
    with Products() as cold:
        meters.bf16_peak("cpu", meters.Product(16, 0.0, 20))
    with Products() as warm:
        assert meters.bf16_peak("cpu", meters.Product(16, 0.5, 20)) > 0
    assert cold.count == 20 and warm.count > 40
    assert time.perf_counter() - started >= 0.5


def test_only_a_lack_of_memory_is_called_one(here: Here) -> None:
    def broken() -> None:
        raise MemfixError("something else", "")

    with pytest.raises(MemfixError, match="something else"):
        speed._steps(here, "batch16", broken, 1.0)
    assert here.values == {}

    def too_large() -> None:
        raise MemfixError("the GPU ran out of memory", "") from torch.OutOfMemoryError("2 GiB")

    assert speed._steps(here, "batch16", too_large, 1.0) == ["batch16"]


def test_a_batch_that_fails_is_named_and_the_others_are_measured(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    def sampled(model, texts, steps):
        if len(texts) == 8:
            raise RuntimeError("INT_MAX")
        return [Image.effect_noise((16, 16), 64) for _ in texts]

    monkeypatch.setattr(speed, "sampled", sampled)
    with pytest.raises(WrongResultError, match=r"^batch8_failed$"):
        speed.sampling(here, "sd1")
    assert here.values["batch8_failed"] == "INT_MAX" and "batch8_over_loop" not in here.values
    assert here.values["batch1_over_loop"] > 0 and here.values["loop_bf16_weights_images_per_second"] > 0


@pytest.mark.parametrize("prediction", ["sd1", "sd2"])
def test_the_published_step_has_the_gradient_of_memfixs_own(prediction: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the same draws, in fp32, where every item has one text."""
    monkeypatch.setattr(internals, "PRECISION", "no")
    training = internals.Training(models.build(models.architecture(prediction, True), "cpu"), "full")
    seen: list[torch.Tensor] = []

    def keep(optimizer: torch.optim.Optimizer, *_: object) -> None:
        seen.append(torch.cat([p.grad.flatten() for g in optimizer.param_groups for p in g["params"]]))

    handle = register_optimizer_step_pre_hook(keep)
    try:
        own, published = training.siss(8, 1, False)(), training.published(8)()
    finally:
        handle.remove()
    assert published == pytest.approx(own[:2], rel=1e-4)
    assert float((seen[0] - seen[1]).norm() / seen[0].norm()) < 1e-4


# -- cards ----------------------------------------------------------------------------------------------------------


def test_every_card_has_a_name_of_its_own() -> None:
    assert len({f.name for f in FITS}) == len({(f.card, f.words) for f in FITS}) == len(cards.pieces()) == len(FITS)


def test_a_setting_that_does_not_fit_says_so(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    cards.fit(here, Fit(12, "sd1", "lora", 2, checkpointing=True))
    assert "out_of_memory" not in here.values and here.values["limit_gib"] == 11.5

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(cards, "build", full)
    with pytest.raises(torch.OutOfMemoryError):
        cards.fit(here, Fit(12, "sd1", "lora", 2, checkpointing=True))
    assert here.values["out_of_memory"] is True
