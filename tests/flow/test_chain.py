"""The chain on a real, tiny pipeline, through the command line: words, exit codes, resume, bad input, the page."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from memfix.inputs.prompts import id_of
from memfix.records import Role
from memfix.run.folder import Run
from tests.processes import memfix

pytestmark = pytest.mark.slow  # the whole chain, one process per command

MEMFIX = [sys.executable, "-m", "memfix"]
SMALL = [
    "--num-samples",
    "4",
    "--num-inference-steps",
    "3",
    "--batch-size",
    "8",
    "--mixed-precision",
    "no",
    "--measure",
    "tiled_l2",
]
# the untrained model gives much the same for every prompt: all its samples are near-copies of one another
FEW = ["--train_batch_size", 4, "--keep-margin", 0]
TRAINING = [*FEW, "--max-train-steps", 40, "--keep_variants", 2]
UNATTACKED = ["--attacks", "none"]
FIRST = id_of("disc")
HOSTILE = 'red <script>alert("x")</script> [bold]& \x1b[31mred'


PIXELWISE = ["--measure", "tiled_l2"]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory, model_folder: Path, reference_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("work")
    (folder / "prompts.txt").write_text(f"disc\n{HOSTILE}\ncat\n")
    (folder / "controls.txt").write_text("sky\nsea\n")
    (folder / "model").symlink_to(model_folder)
    (folder / "refs").symlink_to(reference_folder)
    return folder


@pytest.fixture(scope="module")
def threshold(work: Path) -> float:
    """A threshold at which some samples of the untrained model count as copies and others do not."""
    done = memfix("detect", "prompts.txt", "-m", "model", "--references", "refs", "--controls", "controls.txt",
                  "-o", "probe", *SMALL, "--json", cwd=work)  # fmt: skip
    scores = [json.loads(line) for line in (work / "probe/before/scores.jsonl").read_text().splitlines()]
    assert json.loads(done.stdout)["memorized"] == 0
    values = {
        p: sorted(s["measures"]["tiled_l2"] for s in scores if s["prompt_id"] == p)
        for p in (FIRST, *(id_of(text, Role.CONTROL) for text in ("sky", "sea")))
    }
    assert values[FIRST][0] > 0
    return values[FIRST][1] + 1e-6


def detect(work: Path, threshold: float, out: str, *more: object, code: int = 0, prompts: str = "prompts.txt"):
    return memfix("detect", prompts, "-m", "model", "--references", "refs", "--controls", "controls.txt", "-o", out,
                  "--threshold", threshold, *SMALL, *more, cwd=work, code=code)  # fmt: skip


@pytest.fixture(scope="module")
def run(work: Path, threshold: float) -> Path:
    detect(work, threshold, "run")
    memfix("unlearn", "run", "--lora", *TRAINING, cwd=work)
    memfix("recheck", "run", "--num-fresh", 4, *UNATTACKED, cwd=work)
    memfix("report", "run", cwd=work)
    return work / "run"


def test_the_folder_holds_what_the_design_says(run: Path) -> None:
    names = {p.relative_to(run).as_posix() for p in run.rglob("*") if p.is_file()}
    assert {
        "run.json", "prompts.jsonl", "references.jsonl", "before/metadata.jsonl", "before/scores.jsonl",
        "before/verdicts.jsonl", f"before/{FIRST}-0.png", "pairs.jsonl", "training.jsonl", "changes.jsonl",
        "model/pytorch_lora_weights.safetensors", "model/README.md", "after/metadata.jsonl",
        f"after/{FIRST}-fresh-100000.png", "report.json", "report.html",
    } <= names  # fmt: skip
    header = json.loads((run / "run.json").read_text())
    assert header["status"] == "finished"
    assert list(header["stages"]) == ["detect", "unlearn", "recheck"]
    assert header["stages"]["detect"]["inputs"]["model_sha256"]
    assert header["environment"]["packages"]["torch"]


def test_report_json_is_the_schema(run: Path) -> None:
    import jsonschema

    schema = json.loads(memfix("schema", cwd=run).stdout)
    report = json.loads((run / "report.json").read_text())
    jsonschema.validate(report, schema)
    assert report["summary"]["prompts"] == 3
    assert report["summary"]["controls"] == 2
    assert report["prompts"][1]["text"] == HOSTILE


def test_hostile_prompts_stay_text(run: Path, work: Path) -> None:
    page = (run / "report.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert 'http-equiv="Content-Security-Policy"' in page
    talk = memfix("recheck", "run", "--num-fresh", 4, *UNATTACKED, cwd=work)
    assert "\x1b[31mred" not in talk.stdout + talk.stderr


def test_everything_is_inlined(run: Path) -> None:
    page = (run / "report.html").read_text()
    assert 'src="data:image/webp;base64,' in page
    assert page.count("<img") > 20
    assert 'src="http' not in page


def test_rerun_does_nothing_and_changed_settings_are_refused(run: Path, work: Path, threshold: float) -> None:
    before = {p: p.stat().st_mtime_ns for p in (run / "before").iterdir()}
    assert "nothing to do" in detect(work, threshold, "run").stderr
    assert before == {p: p.stat().st_mtime_ns for p in (run / "before").iterdir()}
    done = detect(work, threshold, "run", "--seed", 5, code=1)
    assert "seed: 0 there, 5 now" in done.stderr
    done = memfix("unlearn", "run", "--full", cwd=work, code=1)
    assert "weights: 'lora' there, 'full' now" in done.stderr
    assert "--overwrite" in done.stderr


def test_resume_gives_the_same_bytes(work: Path, threshold: float) -> None:
    detect(work, threshold, "whole")
    arguments = ["detect", "prompts.txt", "-m", "model", "--references", "refs", "--controls", "controls.txt",
                 "-o", "cut", "--threshold", str(threshold), *SMALL]  # fmt: skip
    process = subprocess.Popen([*MEMFIX, *arguments], cwd=work, stderr=subprocess.DEVNULL,
                               env={**os.environ, "OMP_NUM_THREADS": "1"})  # fmt: skip
    deadline = time.monotonic() + 300
    while not (work / "cut/before/scores.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (work / f"cut/before/{id_of('cat')}-3.png").unlink(
        missing_ok=True
    )  # and something is lost in the middle of a batch
    memfix(*arguments, cwd=work)
    for file in sorted((work / "whole/before").iterdir()):
        if file.name != "metadata.jsonl" and file.name != "scores.jsonl":
            assert file.read_bytes() == (work / "cut/before" / file.name).read_bytes(), file.name
    for name in ("metadata.jsonl", "scores.jsonl"):
        lines = [sorted((work / r / "before" / name).read_text().splitlines()) for r in ("whole", "cut")]
        assert lines[0] == lines[1]


def test_a_killed_training_goes_on_and_gives_the_same_weights(work: Path, run: Path) -> None:
    cut = work / "killed"
    shutil.copytree(run, cut, ignore=shutil.ignore_patterns(".lock"))
    validations = [
        "--validation-steps",
        10,
        "--validation-inference-steps",
        1,
        "--clean-validations",
        99,
        "--max-broken",
        1,
    ]
    arguments = ["unlearn", "killed", "--lora", *map(str, [*TRAINING, *validations]), "--checkpointing-steps", "2"]
    process = subprocess.Popen([*MEMFIX, *arguments, "--overwrite"], cwd=work, stderr=subprocess.DEVNULL,
                               env={**os.environ, "OMP_NUM_THREADS": "1"})  # fmt: skip
    deadline, steps, pairs = time.monotonic() + 300, cut / "training.jsonl", cut / "pairs.jsonl"
    old = (run / "pairs.jsonl").stat().st_mtime_ns

    def under_way() -> bool:
        """What was there is discarded before pairs are written anew, and steps come after these."""
        with suppress(FileNotFoundError):
            return pairs.stat().st_mtime_ns != old and steps.read_text().count("\n") >= 5
        return False

    while not under_way():
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (cut / "model").exists()
    for picture in (cut / "variants").iterdir():
        os.utime(picture, ns=(1, 1))  # to see that none is sampled again
    done = memfix(*arguments, cwd=work)
    assert "continues after step" in done.stderr
    assert {p.stat().st_mtime_ns for p in (cut / "variants").iterdir()} == {1}
    whole, resumed = (load_file(r / "model/pytorch_lora_weights.safetensors") for r in (run, cut))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert [json.loads(line)["step"] for line in steps.read_text().splitlines()] == list(range(1, 41))
    looked = [json.loads(line)["step"] for line in (cut / "validations.jsonl").read_text().splitlines()]
    assert looked == [0, 10, 20, 30, 40]  # and looking changes nothing


def test_training_that_breaks_pictures_goes_back_and_everyone_is_told(work: Path, run: Path) -> None:
    shutil.copytree(run, work / "broken-run", ignore=shutil.ignore_patterns(".lock"))
    harsh = ["--learning-rate", 1000, "--validation-steps", 2, "--validation-inference-steps", 2]
    told = "NOTHING IS UNLEARNED"
    assert told in memfix("unlearn", "broken-run", "--overwrite", *TRAINING, *harsh, cwd=work).stderr
    validations = [json.loads(line) for line in (work / "broken-run/validations.jsonl").read_text().splitlines()]
    assert validations[0]["step"] == validations[0]["broken_targets"] == validations[0]["skew_forget"] == 0
    state = load_file(work / "broken-run/model/pytorch_lora_weights.safetensors")
    assert not any(w.any() for name, w in state.items() if "lora_B" in name)  # the weights are the original ones
    assert told in " ".join(memfix("report", "broken-run", cwd=work).stdout.split())
    for page in ("report.html", "model/README.md"):
        assert told in (work / "broken-run" / page).read_text(), page


def test_full_weights_load_in_diffusers_and_are_checked(work: Path, threshold: float) -> None:
    from diffusers import StableDiffusionPipeline

    detect(work, threshold, "full")
    memfix("unlearn", "full", "--full", "--max-train-steps", 2, "--keep-variants", 1, *FEW, cwd=work)
    pipe = StableDiffusionPipeline.from_pretrained(work / "full/model")
    original = StableDiffusionPipeline.from_pretrained(work / "model")
    assert (pipe.unet.conv_in.weight - original.unet.conv_in.weight).abs().max() > 0
    memfix("recheck", "full", "--num-fresh", 2, *UNATTACKED, cwd=work)
    changes = [json.loads(line) for line in (work / "full/changes.jsonl").read_text().splitlines()]
    assert len(changes) == 5
    assert any(c["damage"]["drift"] > 0 for c in changes)  # the check saw the new weights


def test_nothing_memorized_unlearns_nothing_and_says_so(work: Path) -> None:
    done = memfix("unlearn", "probe", "--lora", cwd=work)
    assert "nothing is unlearned" in done.stderr
    assert not (work / "probe/model").exists()
    page = memfix("report", "probe", cwd=work).stdout
    assert "not every prompt could be decided" in page  # four samples are too few to call a prompt clean


def test_an_unlearned_model_that_was_not_checked_is_called_that(work: Path, run: Path) -> None:
    shutil.copytree(run, work / "unchecked", ignore=shutil.ignore_patterns(".lock"))
    Run.open(work / "unchecked").discard("recheck")
    assert "no proof" in memfix("report", "unchecked", cwd=work).stdout
    assert "no proof" in (work / "unchecked/model/README.md").read_text()


def test_json_is_all_there_is_on_stdout(work: Path, run: Path) -> None:
    assert json.loads(memfix("report", "run", "--json", cwd=work).stdout)["summary"]["prompts"] == 3
    assert memfix("report", "run", cwd=work).stdout.startswith("\n")
    assert {m["name"] for m in json.loads(memfix("list", "measures", "--json", cwd=work).stdout)} == {
        "clip",
        "sscd",
        "tiled_l2",
        "ssim",
        "structure",
    }
    plan = json.loads(
        memfix("detect", "prompts.txt", "-m", "model", "--references", "refs", "--dry-run", "--json", cwd=work).stdout
    )
    assert plan["images"] == 48


def test_fail_on(work: Path, threshold: float, run: Path) -> None:
    detect(work, threshold, "run", "--fail-on", "memorized", code=3)
    detect(work, threshold, "run", "--fail-on", "clean", code=2)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["detect", "none.txt", "-m", "model", "--references", "refs", *PIXELWISE], 2, "no prompt list none.txt"),
        (["detect", "empty.txt", "-m", "model", "--references", "refs", *PIXELWISE], 1, "contains no prompt"),
        (["detect", "prompts.txt", "-m", "model", "--false-alarm-rate", "0.1", *PIXELWISE], 2, "need training images"),
        (["detect", "prompts.txt", "-m", "refs/", "--references", "refs", *PIXELWISE], 1, "not a diffusers model"),
        (["detect", "prompts.txt", "-m", "model", "--references", "broken", *PIXELWISE], 1, "bad.png cannot be read"),
        (
            ["detect", "prompts.txt", "-m", "model", "--references", "refs", "--measure", "ssm"],
            2,
            "Did you mean 'ssim'?",
        ),
        (["detect", "prompts.txt", "-m", "model", "--references", "refs", "--num-samples", "0"], 2, "num_samples"),
        (["unlearn", "refs"], 1, "not a run folder"),
        (["unlearn", "run", "--lora", "--full"], 2, "cannot be given together"),
        (["recheck", "probe"], 1, "There is no unlearned model"),
        (["list", "method"], 2, "Did you mean 'methods'?"),
        (["frobnicate"], 2, "No such command"),
    ],
)
def test_bad_input(work: Path, run: Path, arguments: list[str], code: int, message: str) -> None:
    (work / "empty.txt").write_text("\n")
    (work / "broken").mkdir(exist_ok=True)
    (work / "broken/bad.png").write_text("<html>")
    done = memfix(*arguments, cwd=work, code=code)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    if code == 1:
        assert "Next:" in done.stderr


def test_long_prompts_are_named_and_still_checked(work: Path, threshold: float) -> None:
    (work / "long.txt").write_text("a\n" + "word " * 40)
    done = detect(work, threshold, "long", prompts="long.txt")
    assert "long.txt:2" in done.stderr
    assert "tokens too long" in done.stderr


def test_a_locked_run_is_refused(work: Path, run: Path) -> None:
    from filelock import FileLock

    with FileLock(run / ".lock"):
        assert "in use by another" in memfix("recheck", "run", "--num-fresh", 4, *UNATTACKED, cwd=work, code=1).stderr


def ranks(folder: Path) -> dict[str, int]:
    weights = load_file(folder / "model/pytorch_lora_weights.safetensors")
    return {name: len(w) for name, w in weights.items() if "lora_A" in name}


def test_unlearning_goes_on_from_an_adapter(work: Path, threshold: float, run: Path) -> None:
    detect(work, 2.0, "more", "--adapter", "run/model")  # everything is a copy, so that there is something to unlearn
    first = Path(f"before/{FIRST}-0.png")
    assert (work / "more" / first).read_bytes() != (run / first).read_bytes()
    arguments = ["unlearn", "more", "--method", "neggrad", "--max-train-steps", 2, *FEW]
    memfix(*arguments, cwd=work)
    once = ranks(work / "more")
    memfix(*arguments, "--adapter-per-prompt", "--overwrite", cwd=work)
    parts = sorted(p.name for p in (work / "more/adapters").iterdir())
    assert len(parts) == 3 and FIRST in parts
    assert {r for part in parts for r in ranks(work / "more/adapters" / part).values()} == {16}
    for layer, rank in ranks(run).items():
        assert once[layer] == rank + 16
        assert ranks(work / "more")[layer] == rank + 3 * 16
    assert len((work / "more/training.jsonl").read_text().splitlines()) == 3 * 2
    memfix("merge", "run/model", "run/model", "-m", "model", "-o", "twice", cwd=work)
    shutil.copytree(run, work / "again", ignore=shutil.ignore_patterns(".lock"))
    pictures = []
    for adapters in (["--lora", "twice"], ["--lora", "run/model", "--lora", "run/model"]):
        memfix("recheck", "again", "--overwrite", "--num-fresh", 1, *adapters, *UNATTACKED, cwd=work)
        pictures.append(np.asarray(Image.open(work / f"again/after/{FIRST}-0.png"), int))
    assert np.abs(pictures[0] - pictures[1]).max() <= 2
    done = memfix(
        "detect", "prompts.txt", "-m", "model", *PIXELWISE, "--adapter", "nowhere", "-o", "none", cwd=work, code=1
    )
    assert "There is no LoRA at nowhere" in done.stderr


def test_pictures_of_the_user_are_kept_and_surrogate(work: Path, run: Path) -> None:
    shutil.copytree(run, work / "own", ignore=shutil.ignore_patterns(".lock"))
    keep = work / "keep"
    keep.mkdir()
    rows = []
    for i, text in enumerate(["disc", "a lake"]):
        Image.effect_noise((64, 64), 90).convert("RGB").save(keep / f"{i}.png")
        rows.append(json.dumps({"file_name": f"{i}.png", "text": text}))
    (keep / "metadata.jsonl").write_text("\n".join(rows) + "\n")
    arguments = ["unlearn", "own", "--method", "surrogate", "--max-train-steps", 1, *FEW, "--no-reword",
                 "--forget-from", "references", "--keep-folder", "keep", "--surrogates", "refs"]  # fmt: skip
    memfix(*arguments, "--overwrite", cwd=work)
    pairs = [json.loads(line) for line in (work / "own/pairs.jsonl").read_text().splitlines()]
    own = {(p["text"], Path(p["path"]).name) for p in pairs if p["origin"] == "given"}
    assert own == {("disc", "0.png"), ("a lake", "1.png")}
    forgotten = [p for p in pairs if p["side"] == "forget"]
    assert {p["origin"] for p in forgotten} == {"reference"}
    assert all(Path(p["surrogate"]).name == p["reference"] for p in forgotten)
    (keep / "0.png").write_bytes((keep / "1.png").read_bytes())
    assert "keep_pictures" in memfix(*arguments, cwd=work, code=1).stderr
