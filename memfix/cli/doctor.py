"""`memfix doctor`: whether everything that a run needs is there."""

import os
import shutil
from pathlib import Path
from typing import Annotated

import typer

from memfix.cli.options import Call, command, runs_root
from memfix.cli.unlearn import open_run
from memfix.console import emit
from memfix.errors import ExitCode
from memfix.offline import is_offline

Run = Annotated[Path | None, typer.Argument(metavar="[RUN]", help="Run folder to look at, instead of this machine.")]


@command()
def doctor(call: Call, run: Run = None) -> None:
    """Show versions, device, precision, caches and disk; of a run, whether every file is as it was when its stage
    ended. The exit code is 1 if something that is needed is missing, or if a file changed."""
    rows = _of_machine() if run is None else _of_run(run)
    if call.json:
        emit({key: {"value": value, "ok": ok} for key, value, ok in rows})
    else:
        bad = "missing" if run is None else "changed"
        call.talk.table(
            "memfix doctor", ["what", "found", ""], [[k, v, _word(v, ok, bad)] for k, v, ok in rows], text=(0, 1)
        )
    if not all(ok for _, _, ok in rows):
        raise typer.Exit(int(ExitCode.ERROR))


def _word(found: str, ok: bool, bad: str) -> str:
    """How it stands with what was found. What does not fit is no fault of this machine, and no reason to be content."""
    from memfix.models.cards import NO_FIT

    return bad if not ok else "warning" if found.startswith(NO_FIT) else "ok"


def _of_run(run: Path) -> list[tuple[str, str, bool]]:
    from memfix.flow.doctor import health

    return [(found.stage, found.sentence, not found.changed) for found in health(open_run(run))]


def _of_machine() -> list[tuple[str, str, bool]]:
    import torch

    from memfix.demo import MODEL, REFERENCES
    from memfix.models.device import autocast_dtype, device, gpu_memory, precision_advice
    from memfix.run.environment import environment

    found = environment()
    here = device()
    name = torch.cuda.get_device_name() if here.type == "cuda" else f"{os.cpu_count()} cores"
    precision = str(autocast_dtype("auto") or "fp32").removeprefix("torch.")
    cache = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    root = runs_root().resolve()
    existing = next(p for p in [root, *root.parents] if p.exists())
    return [
        ("memfix", found.memfix, True),
        ("python", found.python, True),
        *((package, version, version != "missing") for package, version in found.packages.items()),
        ("device", f"{here} ({name})", True),
        ("precision (auto)", " ".join(filter(None, [precision, precision_advice("auto")])), True),
        *((work, fits, True) for work, fits in _fitting(gpu_memory())),
        ("hub cache", f"{cache}{'' if cache.exists() else ' (not there yet)'}", True),
        ("offline", "yes" if is_offline() else "no", True),
        ("runs", f"{root}, {shutil.disk_usage(existing).free / 1e9:.0f} GB free", os.access(existing, os.W_OK)),
        ("bundled model", str(MODEL), (MODEL / "model_index.json").is_file() and REFERENCES.is_dir()),
    ]


def _fitting(card: int | None) -> list[tuple[str, str]]:
    """What passes through models of known families at once on a GPU of so many bytes, counted; nothing without one."""
    from memfix.models.cards import counted_families, fit_in_words

    if card is None:
        return []
    return [
        (f"{row.family}: {row.work}", f"{fit_in_words(row.on(card), row.plain.items)} (of {row.plain.items} at once)")
        for row in counted_families()
    ]
