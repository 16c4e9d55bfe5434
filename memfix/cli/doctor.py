"""`memfix doctor`: whether everything that a run needs is there."""

import os
import shutil
from pathlib import Path

import typer

from memfix.cli.options import Call, command, runs_root
from memfix.console import emit
from memfix.errors import ExitCode
from memfix.offline import is_offline


@command()
def doctor(call: Call) -> None:
    """Show versions, device, precision, caches and disk. The exit code is 1 if something that is needed is missing."""
    import torch

    from memfix.demo import MODEL, REFERENCES
    from memfix.models.device import autocast_dtype, device
    from memfix.run.environment import environment

    found = environment()
    here = device()
    name = torch.cuda.get_device_name() if here.type == "cuda" else f"{os.cpu_count()} cores"
    cache = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    root = runs_root().resolve()
    existing = next(p for p in [root, *root.parents] if p.exists())
    rows = [
        ("memfix", found.memfix, True),
        ("python", found.python, True),
        *((package, version, version != "missing") for package, version in found.packages.items()),
        ("device", f"{here} ({name})", True),
        ("precision (auto)", str(autocast_dtype("auto") or "fp32").removeprefix("torch."), True),
        ("hub cache", f"{cache}{'' if cache.exists() else ' (not there yet)'}", True),
        ("offline", "yes" if is_offline() else "no", True),
        ("runs", f"{root}, {shutil.disk_usage(existing).free / 1e9:.0f} GB free", os.access(existing, os.W_OK)),
        ("bundled model", str(MODEL), (MODEL / "model_index.json").is_file() and REFERENCES.is_dir()),
    ]
    if call.json:
        emit({key: {"value": value, "ok": ok} for key, value, ok in rows})
    else:
        call.talk.table(
            "memfix doctor", ["what", "found", ""], [[k, v, "ok" if ok else "missing"] for k, v, ok in rows]
        )
    if not all(ok for _, _, ok in rows):
        raise typer.Exit(int(ExitCode.ERROR))
