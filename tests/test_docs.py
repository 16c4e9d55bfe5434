"""What the documents say is what the program does."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


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
    sys.path.insert(0, str(ROOT / "docs"))
    from settings_table import page

    assert page() == (ROOT / "docs/settings.md").read_text(), "run python docs/settings_table.py"


def test_tables_of_the_unlearning_study_are_of_its_results() -> None:
    sys.path.insert(0, str(ROOT / "docs"))
    from unlearning_study import PAGE, page, read

    text = PAGE.read_text()
    assert "| siss, preset |" in text
    assert page(text, read()) == text, "run python docs/unlearning_study.py"


def test_links_between_documents_lead_somewhere() -> None:
    for document in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"
