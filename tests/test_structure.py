"""The folders are the flow: imports form a DAG, stages do not know each other."""

import ast
import contextlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import memfix

PACKAGE = Path(memfix.__file__).parent
STAGES = {"detect", "unlearn", "recheck", "report"}
ARCHITECTURE = PACKAGE.parent / "docs/architecture.md"
RUNS = {"memfix.run", "memfix.flow", "memfix.cli", "memfix.__main__"}


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


def circle(graph: dict[str, set[str]]) -> list[str]:
    """The first way found from a node back to itself; empty if there is none."""
    done, path = set[str](), list[str]()

    def visit(name: str) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name not in done:
            path.append(name)
            for other in sorted(graph.get(name, ())):
                if found := visit(other):
                    return found
            done.add(path.pop())
        return []

    return next((found for name in sorted(graph) if (found := visit(name))), [])


def room(name: str) -> str:
    """The folder that a module is in, or the module itself where it is in none."""
    return ".".join(name.split(".")[:2])


def folders() -> dict[str, set[str]]:
    """Which folders a folder imports from."""
    graph: dict[str, set[str]] = {}
    for name, found in imports().items():
        graph.setdefault(room(name), set()).update(room(other) for other in found)
    return {name: found - {name} for name, found in graph.items()}


def test_circles_are_found() -> None:
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"d", "b"}}) == ["b", "c", "b"]


def test_imports_of_files_form_a_dag() -> None:
    assert len(imports()) > 30
    assert circle(imports()) == []


def test_imports_of_folders_form_a_dag() -> None:
    graph = folders()
    assert {f"memfix.{name}" for name in ("cli", "flow", "config", "measures", "index", "inputs")} <= set(graph)
    assert circle(graph) == []


def test_the_command_line_starts_without_torch() -> None:
    subprocess.run([sys.executable, "-c", "import sys, memfix.cli; assert 'torch' not in sys.modules"], check=True)


@pytest.mark.parametrize(
    "words", ["--help", "detect --help", "unlearn --help-all", "list runs", "list presets", "list thresholds"]
)
def test_what_is_asked_first_is_answered_without_the_libraries_of_models(words: str) -> None:
    code = (
        f"import sys; sys.argv = ['memfix', *{words.split()}]\nfrom memfix.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "assert not {'torch', 'diffusers', 'transformers', 'numpy'} & {*sys.modules}, 'loaded'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_report_needs_no_torch() -> None:
    """Loading it takes longer than to report on a thousand pictures, and most of the memory."""
    code = "import sys; from memfix import flow; flow.report; assert not {'torch', 'diffusers'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_stages_have_the_names_of_their_modules_in_whatever_order_these_are_loaded() -> None:
    code = (
        "import memfix.flow.report; from memfix import flow; from memfix.flow.report import report; "
        "assert flow.report is report and callable(flow.detect) and callable(flow.detect)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_stages_do_not_import_each_other() -> None:
    for name, found in imports().items():
        stage = name.split(".")[1] if "." in name else ""
        if stage in STAGES:
            others = {f.split(".")[1] for f in found if "." in f} & (STAGES - {stage})
            assert not others, f"{name} imports {others}"


def levels(graph: dict[str, set[str]]) -> dict[str, int]:
    """Of each node of a graph without circles, the length of its longest way down."""
    found = dict[str, int]()

    def level(name: str) -> int:
        if name not in found:
            found[name] = max((level(other) + 1 for other in graph.get(name, ())), default=0)
        return found[name]

    for name in graph:
        level(name)
    return found


def reached(graph: dict[str, set[str]], start: str) -> set[str]:
    """All that a node leads to, in any number of steps."""
    found, todo = set[str](), [start]
    while todo:
        new = graph.get(todo.pop(), set()) - found
        found |= new
        todo += new
    return found


def names_in(text: str) -> list[str]:
    """Names in backticks."""
    return re.findall(r"`([^`]+)`", text)


def pure(words: str) -> set[str]:
    """Modules of the folders that the page names in the rule that begins with `words`, up to its verb."""
    (listed,) = re.findall(rf"^- {words}: (.*?) (?:also )?import nothing of", ARCHITECTURE.read_text(), re.M | re.S)
    rooms = tuple(f"memfix.{name.replace('/', '.')}" for name in names_in(listed))
    found = {name for name in imports() if name.startswith(tuple(f"{f}." for f in rooms)) or name in rooms}
    assert rooms and all(any(name.startswith(f) for name in found) for f in rooms), rooms
    return found


def test_levels_are_longest_ways() -> None:
    assert levels({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == {"a": 2, "b": 1, "c": 0}
    assert reached({"a": {"b"}, "b": {"c"}, "c": set(), "d": {"a"}}, "a") == {"b", "c"}


def test_the_page_has_the_levels_of_folders() -> None:
    """All but the package itself, which imports nothing, and `__main__`, which starts the command line."""
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", ARCHITECTURE.read_text(), re.M)
    told = {int(level): names_in(names) for level, names in rows}
    found: dict[int, list[str]] = {}
    for name, level in sorted(levels(folders()).items()):
        if name not in {"memfix", "memfix.__main__"}:
            found.setdefault(level, []).append(name.removeprefix("memfix."))
    assert told == found
    assert list(told) == sorted(told, reverse=True) and len(rows) == len(told)


def test_pure_parts_know_nothing_of_runs_and_command_line() -> None:
    graph = imports()
    parts = pure("Pure of runs")
    assert {room(name) for name in parts} >= {"memfix.measures", "memfix.variants", "memfix.unlearn", "memfix.world"}
    assert {name: known for name in parts if (known := {room(f) for f in reached(graph, name)} & RUNS)} == {}
    assert {room(f) for f in reached(graph, "memfix.report.build")} & RUNS  # the rule can fail


def test_pure_functions_tell_the_user_nothing() -> None:
    graph = imports()
    parts = pure("Pure functions and small objects")
    assert parts < pure("Pure of runs") and "memfix.unlearn.objective.methods" in parts
    assert [name for name in parts if "memfix.console" in reached(graph, name)] == []
    assert "memfix.console" in reached(graph, "memfix.unlearn.data.given")


# What a model is made of, by the names that diffusers and transformers give it.
CLASSES = re.compile(r"\w*(Pipeline|UNet2D|Autoencoder)\w*")
PARTS_OF_A_MODEL = re.compile(
    rf"\bsample_size\b|\btext_encoder\b|\btokenizer\b|\.unet\b|\.vae\b|\bpipe\b|{CLASSES.pattern}"
)
FLAGS = {PACKAGE / "config/checks.py"}  # a flag is called as diffusers calls the part that it names
OF_MODELS = (PACKAGE / "models", PACKAGE / "demo/model")  # the code, and a model as diffusers itself writes it


def texts() -> dict[Path, str]:
    """Every file of the package that is text and not Python: templates, settings, lists, notices."""
    found = dict[Path, str]()
    for path in PACKAGE.rglob("*"):
        if path.is_file() and path.suffix not in {".py", ".pyc"}:
            with contextlib.suppress(UnicodeDecodeError):  # a picture, or weights
                found[path] = path.read_bytes().decode()
    return found


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
            told = line.replace("text_encoder", "") if path in FLAGS else line
            assert not PARTS_OF_A_MODEL.search(told), f"{path}:{number}: {line.strip()}"
        read += 1
    assert read > 100
    assert PARTS_OF_A_MODEL.search("StableDiffusionPipeline") and PARTS_OF_A_MODEL.search("self.pipe.unet")


def test_no_template_or_other_text_names_a_class_of_diffusers() -> None:
    """What a model is loaded by, a run writes down when it loads one."""
    read = texts()
    assert {"card.md.j2", "settings.toml", "paper-sd.toml", "NOTICE", "metadata.jsonl"} <= {path.name for path in read}
    named = {path for path, text in read.items() if CLASSES.search(text)}
    assert PACKAGE / "demo/model/model_index.json" in named
    assert [path for path in named if not any(path.is_relative_to(folder) for folder in OF_MODELS)] == []


TESTS = PACKAGE.parent / "tests"
LONG = 100  # lines from which on a module needs a test of its own

# Long modules without a file test_<module>.py, the files that test them instead, and why.
TESTED_ELSEWHERE: dict[str, tuple[str, ...]] = {
    # what a command is, is what a user types: run as such, under a name that is not that of the work behind it
    "cli.index": ("index/test_index_command.py",),
    # settings and records without own logic: one test of what holds for all of their kind
    "config.checks": ("config/test_layers.py", "config/test_names.py"),
    "config.unlearn": ("config/test_budget.py", "config/test_names.py", "unlearn/test_options.py"),
    "records.check": ("records/test_records.py",),
    "records.unlearn": ("records/test_records.py", "unlearn/test_stopping.py"),
    "report.schema": ("records/test_every_field_is_told.py", "report/test_build.py"),
    "run.header": ("records/test_every_field_is_told.py", "run/test_run_folder.py"),
    # tested by what is built on them alone
    "detect.check": ("detect/test_first.py", "detect/test_medoids.py"),
    "flow.changes": ("flow/test_recheck.py", "flow/test_attacks_of_runs.py"),
    "flow.unlearn": ("flow/test_trainings.py", "flow/test_budget_of_runs.py"),
    "flow.watching": ("flow/test_trainings.py", "unlearn/test_steering.py"),
    "index.store": ("index/test_index_build.py", "index/test_search.py"),
    "findings": ("records/test_every_field_is_told.py", "run/test_run_folder.py"),
    "inputs.columns": ("inputs/test_tables.py",),
    "models.denoiser": ("models/test_model.py", "unlearn/test_frozen.py"),
    "recheck.attacks.base": ("recheck/test_attacks.py",),
    "recheck.attacks.runner": ("recheck/test_attacks.py",),
    "references.reference_set": ("references/test_in_memory.py", "references/test_indexed.py"),
    "screens.runner": ("screens/test_screens.py", "screens/test_folder.py"),
    "unlearn.objective.terms": ("unlearn/test_methods.py", "unlearn/test_expectation.py"),
    # one file for each of the two things that it makes
    # what a run leaves behind is looked at through the run: after real stages, and by edits of all of its files
    "run.outputs": ("flow/test_intact.py", "fuzz/test_fuzz_runs.py", "run/test_run_folder.py"),
    "report.html": ("report/test_headline.py", "report/test_page.py"),
}


def names_a_test(path: Path) -> str:
    """What the test file of a module is named after: the module, or the package of an `__init__`."""
    return path.parent.name if path.stem == "__init__" else path.stem


def test_every_long_module_has_a_test_of_its_own() -> None:
    """A file of its name anywhere under tests/, or a row above."""
    long = [path for path in PACKAGE.rglob("*.py") if len(path.read_text().splitlines()) > LONG]
    tests = {path.stem for path in TESTS.rglob("test_*.py")}
    assert len(long) > 40
    without = {module_name(p).removeprefix("memfix.") for p in long if f"test_{names_a_test(p)}" not in tests}
    assert without == TESTED_ELSEWHERE.keys()
    files = {file for listed in TESTED_ELSEWHERE.values() for file in listed}
    assert not [file for file in files if "def test_" not in (TESTS / file).read_text()]


# Public names that several modules define, each for one thing that all of them mean by it.
ONE_MEANING: dict[str, tuple[str, set[str]]] = {
    **{
        name: ("a command, and the work that it stands for", {f"cli.{name}", f"flow.{name}"})
        for name in ("detect", "unlearn", "recheck", "report", "run", "attack", "review", "export")
    },
    "fetch": ("a command, and the work that it stands for", {"cli.fetch", "download.fetch"}),
    "list_": ("the command `list`, at the top and under `prompts`", {"cli.listing", "cli.prompts"}),
    # `inside` picks the kind of container by the address, and the others know one kind each
    "container": ("the file that holds a picture", {"inputs.inside", "inputs.tars", "inputs.embedded"}),
    "read": ("the bytes of a picture", {"inputs.inside", "inputs.tars", "inputs.embedded"}),
    "build": ("make what the module is named after", {"report.build", "index.build", "index.approximate"}),
}
# The same of constants.
ONE_MEANING_OF_A_CONSTANT: dict[str, tuple[str, set[str]]] = {
    "ADDRESS": ("how a picture in a container is named", {"inputs.tars", "inputs.embedded"}),
    "ALONE": ("a process that shares its work with no other", {"world", "unlearn.train.trainer"}),
    "BATCH": (
        "how many things are handled at once, where more would take memory",
        {
            "measures.clip",
            "measures.clip_score",
            "measures.sscd",
            "recheck.attacks.relearning",
            "recheck.attacks.embedding",
            "models.latents",
            "models.text",
            "inputs.tables",
        },
    ),
    "CHUNK": (
        "how much of a file or list is read and held at once",
        {
            "files",
            "references.described",
            "references.in_memory",
            "references.numbered",
            "unlearn.data.given",
            "index.approximate",
            "download.pinned",
            "download.safe_http",
        },
    ),
    "FILE": ("name of the file that the module is about", {"references.kept", "models.lora", "run.references"}),
    "FIRST_NEIGHBOURS": ("how many neighbours are asked for at first", {"references.links", "references.numbered"}),
    "HINT": ("which columns a list must have", {"inputs.prompts", "inputs.links"}),
    "KEPT": ("how many of many are kept", {"references.described", "inputs.wrong_rows"}),
    "LIMIT": ("most bytes of a file that are read", {"inputs.tars", "download.pinned"}),
    "METADATA": ("names of the table of an imagefolder", {"inputs.tables", "download.coverage"}),
    "MODEL": ("the folder of a model", {"demo", "run.outputs"}),
    "MOST": ("how many things are taken at most", {"references.background", "detect.thumbnails"}),
    "NAME": ("name of the file that the module writes", {"report.build", "report.html", "download.journal"}),
    "POINTS": ("how many noisy points", {"unlearn.train.adversary", "unlearn.train.validation"}),
    "ROWS": (
        "how many rows of a table or matrix are held at once",
        {"references.in_memory", "references.near_copies", "inputs.embedded"},
    ),
    # one stage does not import from the other
    "SCALE": ("factor of a loss in half precision", {"recheck.attacks.embedding", "unlearn.train.adversary"}),
    "SETTINGS": ("the file of settings", {"demo", "screens.folder"}),
    "SHOWN": ("how many of many are shown", {"report.html", "recheck.attacks.runner", "cli.index", "cli.fetch"}),
    "STRENGTHS": (
        "shares of the noise from which a picture is drawn anew",
        {"recheck.attacks.deployment", "unlearn.data.surrogates"},
    ),
    "SUFFIXES": ("endings of the files that a reader reads", {"inputs.tables", "inputs.contents"}),
}


def public_names() -> dict[str, list[str]]:
    """Public classes and functions at the top of modules → the modules that define them."""
    found: dict[str, list[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and node.name[0] != "_":
                found.setdefault(node.name, []).append(module_name(path))
    return found


def constants_in(tree: ast.Module) -> list[str]:
    """Names of public constants at the top of a module, also several of one line; type variables are none."""
    found = list[str]()
    for node in tree.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        names = [name for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]
        found += [name.id for name in names if name.id.isupper() and name.id[0] != "_" and len(name.id) > 1]
    return found


def test_constants_are_found() -> None:
    assert constants_in(ast.parse("A, T = 1, 2\nAB, CD = 1, 2\nEF: int = 3\n_GH = 4\nij = AB\nKL = 5")) == [
        "AB", "CD", "EF", "KL"
    ]  # fmt: skip


def public_constants() -> dict[str, set[str]]:
    """Public constants → the modules that define them."""
    found: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        for name in constants_in(ast.parse(path.read_text())):
            found.setdefault(name, set()).add(module_name(path).removeprefix("memfix."))
    return found


def test_a_public_constant_is_defined_once() -> None:
    names = public_constants()
    assert len(names) > 200
    several = {name: modules for name, modules in names.items() if len(modules) > 1}
    told = {name: modules for name, (_, modules) in ONE_MEANING_OF_A_CONSTANT.items()}
    assert several == told


def test_a_public_name_is_defined_once() -> None:
    """Two things have two names; a name for one thing in several modules is listed above with what it means."""
    names = public_names()
    assert len(names) > 300
    several = {
        name: {m.removeprefix("memfix.") for m in modules} for name, modules in names.items() if len(modules) > 1
    }
    assert several == {name: modules for name, (_, modules) in ONE_MEANING.items()}
