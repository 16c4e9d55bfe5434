"""What the documents say is what the program does."""

import importlib
import pkgutil
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from PIL import Image
from typer.testing import CliRunner

import memfix
from memfix.cli import _dashed, app

sys.path.insert(0, str(Path(__file__).parent.parent / "research"))
import commands_page
import hardware_page
import settings_table
import unlearning_study

ROOT = Path(__file__).parent.parent
USER_PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES = [*USER_PAGES, *sorted((ROOT / "research").glob("*.md")), ROOT / "recipes/README.md", ROOT / "prompts/README.md"]
FOLDERS = ("docs", "memfix", "prompts", "recipes", "research", "tests")
FLAG = re.compile(r"(?<![\w-])(?:--[a-z][\w-]*|-[a-zA-Z])(?![\w-])")
FOREIGN = {"--use-fsdp", "--num-processes", "--cpu", "--nproc-per-node"}
"""Flags of accelerate and torchrun that pages name by themselves."""

GENERAL = {"--version", "-h", "--help", "--install-completion", "--show-completion"}


def fences(page: str) -> list[str]:
    """Lines of code blocks of a shell or of no language, without comments; a backslash at the end joins two lines."""
    blocks = [code for kind, code in re.findall(r"```(\w*)\n(.*?)```", page, re.S) if kind in ("", "sh", "bash")]
    return [line.split("  #")[0].strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]


def spans(page: str) -> list[str]:
    """Code between backticks in the text of a page; a line break in it counts as a space."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", page, flags=re.S))]


def code(page: str) -> list[str]:
    """All code of a page: lines of its blocks, and what stands between backticks."""
    return [*fences(page), *spans(page)]


def known_flags() -> dict[str, set[str]]:
    """Full name of a command → its flags."""
    found = {
        name: {f for p in c.params if p.param_type_name == "option" for f in commands_page.flags(p)}
        for name, c in commands_page.commands()
    }
    return {name: {*flags, "-h", "--help"} for name, flags in found.items()} | {"memfix": GENERAL}


def commands(first: str) -> list[str]:
    """Command lines in code blocks of the documents that have a word, from there on, once each."""
    lines = [line for page in PAGES for line in fences(page.read_text()) if not line.startswith("docker build")]
    starts = [re.split(rf"(?:^|(?<= )){first}(?= |$)", line, maxsplit=1) for line in lines]
    return list(dict.fromkeys(f"{first}{start[1]}" for start in starts if len(start) == 2))


@pytest.mark.parametrize("line", commands("memfix"))
def test_every_command_of_the_documents_parses(line: str) -> None:
    words = [_dashed(word) for word in shlex.split(line.split("&&")[0])[1:]]
    done = CliRunner().invoke(app, [*words, "--help"])
    assert done.exit_code == 0, done.output
    assert "Usage" in done.output


@pytest.mark.parametrize("line", commands("make"))
def test_every_make_target_of_the_documents_exists(line: str) -> None:
    done = subprocess.run(["make", "--dry-run", *shlex.split(line)[1:]], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_command_and_flag_is_named_on_a_page_for_users() -> None:
    """By hand or on a page made from the program: nothing of the command line is left out."""
    text = "\n".join(line for page in USER_PAGES for line in code(page.read_text()))
    named = set(FLAG.findall(text))
    for command, flags in known_flags().items():
        assert re.search(rf"\b{command}\b", text), f"no page names the command {command}"
        assert flags <= named, f"no page names {sorted(flags - named)} of {command}"


def wrong_flags(page: str) -> Iterator[str]:
    """Commands in the code of a page that do not exist, and flags that what they are given to does not have."""
    known = known_flags()
    every = {flag for flags in known.values() for flag in flags} | FOREIGN
    for line in code(page):
        if not (line.startswith("-") or re.search(r"\b(memfix|python)\b", line)):
            continue  # another program's command, or no command at all
        before, own, after = line.partition("memfix ") if "memfix " in line else ("", "", line)
        if script := re.search(r"python ((?:research|recipes|tests)/[\w/]+\.py)(.*)", line):
            source = (ROOT / script[1]).read_text()
            yield from (f"{line}: {flag}" for flag in FLAG.findall(script[2]) if f'"{flag}"' not in source)
        elif own and not before.startswith(("pip", "docker build")):
            words = [word for word in after.split() if re.fullmatch(r"[a-z]+", word)]
            name = next((n for n in (f"memfix {' '.join(words[:k])}".strip() for k in (2, 1)) if n in known), None)
            if words and not name:
                yield f"{line}: {words[0]}"
            allowed = known[name] if name else every
            yield from (f"{line}: {flag}" for flag in FLAG.findall(after) if _dashed(flag) not in allowed)
        elif line.startswith("-"):
            yield from (f"{line}: {flag}" for flag in FLAG.findall(line) if _dashed(flag) not in every)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_flag_on_a_page_exists(page: Path) -> None:
    assert not list(wrong_flags(page.read_text()))


def test_a_flag_or_command_that_does_not_exist_is_found() -> None:
    text = (
        "`memfix detect P --num-smaples 4`, `--frob`, `--num_samples`, `python research/screens.py --no`, `memfix fnd`"
    )
    assert [wrong.rsplit(": ", 1)[1] for wrong in wrong_flags(text)] == ["--num-smaples", "--frob", "--no", "fnd"]


def test_the_two_commands_are_there() -> None:
    assert {"make demo", "make test"} <= set(commands("make"))


@pytest.mark.parametrize(
    ("made", "file"),
    [(settings_table, "docs/settings.md"), (commands_page, "docs/commands.md"), (hardware_page, "docs/hardware.md")],
)
def test_generated_pages_are_those_of_the_code(made: ModuleType, file: str) -> None:
    """So a default, a limit or a help text that was changed in one place only fails here."""
    assert made.page() == (ROOT / file).read_text(), f"run python research/{made.__name__}.py"


def test_tables_of_the_unlearning_study_are_of_its_results() -> None:
    text = unlearning_study.PAGE.read_text()
    assert "| siss, preset |" in text
    assert unlearning_study.page(text, unlearning_study.read()) == text, "run python research/unlearning_study.py"


def anchors(page: str) -> set[str]:
    """What GitHub makes of the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", page, flags=re.S), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


NAMED = re.compile(r"`([A-Z][A-Z_]+)` = ([\d.]+\d|\d)")
ROW = re.compile(r"\| ((?:`[A-Z_]+`,? ?)+)(?:in `([\w/]+\.py)`)? \| ([\d., ;]+) \| .+ \|")


def constants() -> dict[str, set[float]]:
    """Name → its values, of all constants of the package that are numbers."""
    found: dict[str, set[float]] = {}
    for info in pkgutil.walk_packages(memfix.__path__, "memfix."):
        if not info.name.endswith("__main__"):
            for name, value in vars(importlib.import_module(info.name)).items():
                if name.isupper() and isinstance(value, int | float):
                    found.setdefault(name, set()).add(float(value))
    return found


def test_numbers_that_pages_give_to_constants_are_theirs() -> None:
    known, told = constants(), {pair for page in USER_PAGES for pair in NAMED.findall(page.read_text())}
    assert len(told) >= 10
    assert {(name, float(value)) for name, value in told} == {(name, v) for name, _ in told for v in known[name]}


def test_the_table_of_constants_is_that_of_the_code() -> None:
    page, module, rows = (ROOT / "docs/architecture.md").read_text(), "", 0
    table = page.split("## Constants of the re-check")[1].split("\n## ")[0]
    for names, file, values in ROW.findall(table):
        module, rows = file or module, rows + 1
        code = importlib.import_module("memfix." + module.removesuffix(".py").replace("/", "."))
        wanted = [list(v) if isinstance(v, tuple) else [v] for v in (getattr(code, n) for n in spans(names))]
        assert [[float(n) for n in part.split(",")] for part in values.split(";")] == wanted, names
    assert rows == table.count("\n|") - 2 * table.count("\n|---") >= 15  # every row but the heads


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target, _, anchor in re.findall(r"\]\(([^)#:]*)(#([^)]*))?\)", page.read_text()):
        file = page.parent / target if target else page
        assert file.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in anchors(file.read_text()), f"{page.name}: {target}#{anchor}"


def missing_paths(text: str) -> list[str]:
    """Paths into the repository that a text names and that are not there."""
    paths = re.findall(rf"(?<![\w/.…<>-])(?:{'|'.join(FOLDERS)})/[\w./-]*(?![\w./…<*-])", text)
    return [path for path in paths if not (ROOT / path.rstrip(".")).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_paths_on_a_page_exist(page: Path) -> None:
    assert not missing_paths("\n".join(code(page.read_text())))


def test_pages_that_the_source_names_exist() -> None:
    files = subprocess.run(["git", "ls-files", "*.py", "*.toml"], cwd=ROOT, capture_output=True, text=True, check=True)
    named = re.compile(r"(?<![\w/])(?:docs|research|recipes)/[\w/]+\.(?:md|py|jsonl|svg|png)")
    for file in set(files.stdout.split()) - {"tests/test_docs.py"}:
        text = (ROOT / file).read_text()
        assert not [path for path in named.findall(text) if not (ROOT / path).exists()], file


def test_a_path_that_does_not_exist_is_found() -> None:
    assert missing_paths("see docs/verdicts.md and docs/verdict.md, memfix/unlearn/ and runs/x") == ["docs/verdict.md"]


def test_every_page_is_in_the_list_of_pages() -> None:
    listed = (ROOT / "docs/README.md").read_text()
    for page in sorted((ROOT / "docs").glob("*.md")):
        assert page.name == "README.md" or f"]({page.name})" in listed, page.name
    listed = (ROOT / "research/README.md").read_text()
    for page in sorted((ROOT / "research").glob("*.md")):
        assert page.name == "README.md" or f"]({page.name})" in listed, page.name


@pytest.mark.slow
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
