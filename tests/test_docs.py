"""What the documents say is what the program does."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from PIL import Image

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "research").glob("*.md"))]


def commands(first: str) -> list[str]:
    """Command lines in code blocks of the documents that start with a word."""
    blocks = [b for page in PAGES for b in re.findall(r"```(?:sh|bash)?\n(.*?)```", page.read_text(), re.S)]
    lines = [line.split("  #")[0].strip() for b in blocks for line in b.replace("\\\n", " ").splitlines()]
    return list(dict.fromkeys(line for line in lines if line.split(" ")[0] == first))


@pytest.mark.parametrize("line", commands("memfix"))
def test_every_command_of_the_documents_parses(line: str) -> None:
    words = shlex.split(line.split("&&")[0])[1:]
    done = subprocess.run([sys.executable, "-m", "memfix", *words, "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout


@pytest.mark.parametrize("line", commands("make"))
def test_every_make_target_of_the_documents_exists(line: str) -> None:
    done = subprocess.run(["make", "--dry-run", *shlex.split(line)[1:]], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_two_commands_are_there() -> None:
    assert {"make demo", "make test"} <= set(commands("make"))


def test_settings_page_is_that_of_the_code() -> None:
    sys.path.insert(0, str(ROOT / "research"))
    from settings_table import page

    assert page() == (ROOT / "docs/settings.md").read_text(), "run python research/settings_table.py"


def test_tables_of_the_unlearning_study_are_of_its_results() -> None:
    sys.path.insert(0, str(ROOT / "research"))
    from unlearning_study import PAGE, page, read

    text = PAGE.read_text()
    assert "| siss, preset |" in text
    assert page(text, read()) == text, "run python research/unlearning_study.py"


def test_links_between_documents_lead_somewhere() -> None:
    for document in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_the_example_without_prompts_runs(tmp_path: Path) -> None:
    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=8, block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4, attention_head_dim=4,
        down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    DDPMPipeline(unet, DDPMScheduler()).save_pretrained(tmp_path / "model")
    for folder, count in (("forget", 1), ("keep", 3)):
        (tmp_path / folder).mkdir()
        for i in range(count):
            noise = (torch.rand(8, 8, 3) * 255).byte().numpy()
            Image.fromarray(noise).save(tmp_path / folder / f"{i}.png")
    [example] = re.findall(r"```python\n(.*?)```", (ROOT / "docs/unlearning.md").read_text(), re.S)
    example = example.replace("max_train_steps=100", "max_train_steps=2, train_batch_size=4")
    done = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["1", "2"]
    before, after = (next(DDPMPipeline.from_pretrained(tmp_path / n).unet.parameters()) for n in ("model", "unlearned"))
    assert not torch.equal(before, after)
