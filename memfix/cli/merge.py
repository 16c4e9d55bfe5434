"""`memfix merge`: make one adapter of several."""

from pathlib import Path
from typing import Annotated

import typer

from memfix.cli.options import Call, command
from memfix.config.checks import DetectSettings
from memfix.console import emit
from memfix.errors import MemfixError

Adapters = Annotated[list[Path], typer.Argument(metavar="LORA…", help="Adapters of the same model: folders or files.")]
Model = Annotated[
    str,
    typer.Option("-m", "--model", "--pretrained-model-name-or-path", help="The model that the adapters were made for."),
]
Folder = Annotated[Path, typer.Option("-o", "--out", help="Folder for the merged adapter.")]


@command()
def merge(
    call: Call, adapters: Adapters, out: Folder, model: Model = str(DetectSettings.model_fields["model"].default)
) -> None:
    """Write one adapter that does exactly what the given ones do together. Its rank is the sum of their ranks."""
    from memfix.files import atomic_folder, require_no_file

    require_no_file(out)
    if out.exists() and any(out.iterdir()):
        raise MemfixError(f"{out} is not empty.", "Give a new folder to --out.")
    if call.dry_run:
        call.talk.tell(f"{', '.join(map(str, adapters))} → {out}")
        return
    from memfix.models import loading

    loaded = loading.load(loading.locate(model))
    with atomic_folder(out) as folder:
        loaded.adapters.save_sum(folder, adapters)
    if call.json:
        emit({"model": model, "merged": [str(path) for path in adapters], "out": str(out)})
    call.talk.tell(f"{len(adapters)} adapters were merged into {out}")
    call.talk.say(f"Next: memfix recheck RUN --lora {out}", "hint")
