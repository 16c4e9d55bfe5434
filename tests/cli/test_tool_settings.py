"""`memfix index`, `fetch` and `screen` by flags, environment and settings file: which wins, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from memfix.cli import app
from memfix.config.tools import IndexSettings
from memfix.measures.weights import Wanted
from tests.conftest import picture


@pytest.fixture
def memfix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a command beside a settings file of this text; what it prints as JSON, or says when it ends with `code`."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, toml: str = "", code: int = 0, **env: str) -> Any:
        Path("memfix.toml").write_text(toml)
        words = [*arguments, *(["--config", "memfix.toml"] if toml else []), "--json"]
        done = CliRunner().invoke(app, words, env={"COLUMNS": "200", **env})
        assert done.exit_code == code, done.output
        return done.stderr if code else json.loads(done.stdout)

    return run


@pytest.fixture
def pictures(tmp_path: Path) -> str:
    (tmp_path / "pictures").mkdir()
    for i in range(6):
        picture(i % 3).save(tmp_path / f"pictures/{i}.png")
    return "pictures"


def test_index(memfix: Any, pictures: str) -> None:
    def plan(*flags: str, **more: str) -> tuple[Any, ...]:
        s = memfix("index", pictures, "--dry-run", *flags, **more)["settings"]["index"]
        return s["batch_size"], s["precision"], s["groups"], s["trust_weights"]

    table = '[index]\nbatch_size = 5\nprecision = "float32"\ngroups = 0.5\ntrust_weights = true\n'
    env = {"MEMFIX_BATCH_SIZE": "6", "MEMFIX_PRECISION": "float16", "MEMFIX_TRUST_WEIGHTS": "0"}
    assert plan() == (32, None, None, False)
    assert plan(toml=table) == (5, "float32", 0.5, True)
    assert plan(toml=table, **env) == (6, "float16", 0.5, False)
    assert plan("--batch-size", "7", "--trust-weights", toml=table, **env) == (7, "float16", 0.5, True)
    assert len(memfix("index", pictures, toml=table)["groups"]) == 3
    assert "holds float32, not float16" in memfix("index", pictures, toml=table, code=1, MEMFIX_PRECISION="float16")


def test_the_rank_of_an_adapter_is_none_of_an_index(memfix: Any, pictures: str) -> None:
    assert memfix("index", pictures, MEMFIX_RANK="4")["complete"]
    assert "RANK 4 of WORLD_SIZE 2 is not a valid rank" in memfix("index", pictures, code=2, RANK="4", WORLD_SIZE="2")


def test_fetch(memfix: Any) -> None:
    def plan(*flags: str, **more: str) -> tuple[Any, ...]:
        data = memfix("fetch", "list.csv", "--dry-run", *flags, **more)
        s = data["settings"]["fetch"]
        return data["urls"], s["per_second"], s["allow_port"], s["allow_private"]

    Path("list.csv").write_text("url\n" + "".join(f"https://example.org/{i}.png\n" for i in range(9)))
    table = "[fetch]\nlimit = 3\nper_second = 2\nallow_port = [81, 82]\nallow_private = true\n"
    env = {"MEMFIX_LIMIT": "4", "MEMFIX_ALLOW_PORT": "83, 84", "MEMFIX_ALLOW_PRIVATE": "false"}
    assert plan() == (9, 5, [], False)
    assert plan(toml=table) == (3, 2, [81, 82], True)
    assert plan(toml=table.replace("[81, 82]", "81")) == (3, 2, [81], True)
    assert plan(toml=table, **env) == (4, 2, [83, 84], False)
    flags = ("--limit", "5", "--allow-port", "85", "--allow-port", "86", "--allow-private")
    assert plan(*flags, toml=table, **env) == (5, 2, [85, 86], True)


def test_screen(memfix: Any, model_folder: Path) -> None:
    def plan(*flags: str, **more: str) -> tuple[Any, ...]:
        data = memfix("screen", "prompts.txt", "-m", str(model_folder), "--dry-run", *flags, **more)
        return data["screens"], data["seeds"], data["steps"], data["guidance_scale"]

    Path("prompts.txt").write_text("".join(f"thing {i}\n" for i in range(5)))
    table = "[screen]\nscreen = ['fine_detail', 'curvature']\nnum_seeds = 2\n[detect]\nseed = 7\nguidance_scale = 3\n"
    env = {"MEMFIX_SCREEN": "anisotropy,magnitude", "MEMFIX_NUM_SEEDS": "1", "MEMFIX_SEED": "8"}
    assert plan() == (["magnitude"], [0, 1, 2, 3], 1, 7.5)
    assert plan(toml=table) == (["fine_detail", "curvature"], [7, 8], 1, 3)
    assert plan(toml=table, **env) == (["anisotropy", "magnitude"], [8], 1, 3)
    flags = ("--screen", "curvature", "--num-seeds", "3", "--seed", "9", "--steps", "2")
    assert plan(*flags, toml=table, **env) == (["curvature"], [9, 10, 11], 2, 3)
    quick = (
        "[screen]\ntop = 2\nnum_seeds = 1\n[detect]\nnum_inference_steps = 2\nmixed_precision = 'no'\nscreen = 'none'\n"
    )
    shown = memfix("screen", "prompts.txt", "-m", str(model_folder), "-o", "out", toml=quick)
    assert (shown["prompts"], shown["ranked_by"], len(shown["highest"])) == (5, "magnitude", 2)


@pytest.mark.parametrize(
    ("table", "message", "hint"),
    [
        ("[index]\nbatchsize = 4\n", "Unknown setting 'batchsize'.", "Did you mean 'batch_size'?"),
        ("[index]\nrank = 1\n", "Unknown setting 'rank'.", "It is a setting of [unlearn]."),
        (
            "[index]\nbatch_size = 0\n",
            "Setting 'batch_size' is 0:",
            "--batch-size: Pictures that are described at once.",
        ),
        (
            "[index]\nprecision = 'int8'\n",
            "Setting 'precision' is 'int8':",
            "--precision: Precision of the stored vectors",
        ),
        ("[fetch]\nper_hosts = 4\n", "Unknown setting 'per_hosts'.", "Did you mean 'per_host'?"),
        (
            "[fetch]\nallow_port = ['www']\n",
            "Setting 'allow_port.0' is 'www':",
            "--allow-port: Allow this port besides",
        ),
        ("[screen]\nscreens = ['magnitude']\n", "Unknown setting 'screens'.", "Did you mean 'screen'?"),
        ("[screen]\nseed = 3\n", "Unknown setting 'seed'.", "It is a setting of [detect]."),
        ("[screen]\nscreen = []\n", "Setting 'screen' is []:", "--screen: Screen to score prompts with"),
        ("[detect]\nnum_seeds = 3\n", "Unknown setting 'num_seeds'.", "It is a setting of [screen]."),
    ],
)
def test_wrong_keys_and_values(memfix: Any, pictures: str, table: str, message: str, hint: str) -> None:
    name = table[1:].split("]")[0]
    command = "screen" if name == "detect" else name
    said = memfix(command, pictures, "--dry-run", toml=table, code=2)
    assert message in said and hint in said


def test_limits_of_flags(memfix: Any, pictures: str) -> None:
    assert "Setting 'recall' is 1.5" in memfix("index", pictures, "--recall", "1.5", code=2)
    assert "Setting 'threads' is 0" in memfix("fetch", "list.csv", "--threads", "0", code=2)
    assert "Setting 'top' is -1" in memfix("screen", "list.txt", "--top", "-1", code=2)


def test_commands_without_settings_take_a_file_and_refuse_a_wrong_one(memfix: Any) -> None:
    assert memfix("prompts", "list", toml="[fetch]\nthreads = 2\n")
    assert "the table [fetsh] is unknown" in memfix("prompts", "list", toml="[fetsh]\nthreads = 2\n", code=1)
    assert "no settings file" in memfix("prompts", "list", "--config", "none.toml", code=1)


def test_weights_of_an_index_are_those_of_measures() -> None:
    s = IndexSettings()
    assert Wanted(s.sscd_weights, s.clip_model, s.trust_weights) == Wanted()


def test_settings_are_shown_under_the_name_of_their_table(pictures: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["index", str(tmp_path / pictures), "--dry-run"], env={"COLUMNS": "200"})
    assert "[index]" in done.stdout and "batch_size" in done.stdout
