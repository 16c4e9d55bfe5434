"""The folders are the flow: imports form a DAG, stages do not know each other."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import memfix

PACKAGE = Path(memfix.__file__).parent
STAGES = {"detect", "unlearn", "recheck", "report"}


def module_name(path: Path) -> str:
    parts = ["memfix", *path.relative_to(PACKAGE).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports() -> dict[str, set[str]]:
    files = {module_name(p): p for p in PACKAGE.rglob("*.py")}
    graph: dict[str, set[str]] = {}
    for name, path in files.items():
        found = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {a.name for a in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found |= {
                    f"{node.module}.{a.name}" if f"{node.module}.{a.name}" in files else node.module for a in node.names
                }
        graph[name] = {f for f in found if f in files and f != name}
    return graph


def test_imports_form_a_dag() -> None:
    graph, done, path = imports(), set(), []

    def visit(name: str) -> None:
        assert name not in path, " -> ".join([*path, name])
        if name in done:
            return
        path.append(name)
        for other in graph[name]:
            visit(other)
        done.add(path.pop())

    for name in graph:
        visit(name)
    assert len(graph) > 30


def test_the_command_line_starts_without_torch() -> None:
    subprocess.run([sys.executable, "-c", "import sys, memfix.cli; assert 'torch' not in sys.modules"], check=True)


def test_stages_do_not_import_each_other() -> None:
    for name, found in imports().items():
        stage = name.split(".")[1] if "." in name else ""
        if stage in STAGES:
            others = {f.split(".")[1] for f in found if "." in f} & (STAGES - {stage})
            assert not others, f"{name} imports {others}"


def test_pure_parts_know_nothing_of_runs_and_command_line() -> None:
    for name, found in imports().items():
        if name.startswith(
            (
                "memfix.measures",
                "memfix.models",
                "memfix.screens",
                "memfix.unlearn",
                "memfix.recheck",
                "memfix.inputs",
                "memfix.index",
            )
        ):
            assert not {f for f in found if f.startswith(("memfix.runs", "memfix.cli", "memfix.flow"))}, name


# What a model is made of, by the names that diffusers and transformers give it.
PARTS_OF_A_MODEL = re.compile(
    r"\bsample_size\b|\btext_encoder\b|\btokenizer\b|\.unet\b|\.vae\b|\bpipe\b|\w*(Pipeline|UNet2D|Autoencoder)\w*"
)


def test_only_models_know_diffusers_and_transformers() -> None:
    """Outside `models/` no file imports them or names a part of theirs: another kind of model concerns one folder.

    Their names alone are allowed, where a run writes down which versions it was made with.
    """
    read = 0
    for path in PACKAGE.rglob("*.py"):
        if path.is_relative_to(PACKAGE / "models"):
            continue
        text = path.read_text()
        for node in ast.walk(ast.parse(text)):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & {"diffusers", "transformers", "peft"}, path
        for number, line in enumerate(text.splitlines(), 1):
            assert not PARTS_OF_A_MODEL.search(line), f"{path}:{number}: {line.strip()}"
        read += 1
    assert read > 100
    assert PARTS_OF_A_MODEL.search("StableDiffusionPipeline") and PARTS_OF_A_MODEL.search("self.pipe.unet")
