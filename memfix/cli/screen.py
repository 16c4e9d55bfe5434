"""`memfix screen`: rank a prompt list of any size by how memorized each prompt looks, without decoding an image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memfix.cli.detect import PromptList
from memfix.cli.options import Call, command, runs_root
from memfix.config.checks import DetectSettings
from memfix.config.tools import ScreenSettings
from memfix.console import count_of, emit
from memfix.errors import ExitCode, MemfixError
from memfix.world import World

if TYPE_CHECKING:
    from memfix.detect.screening import Screening


DETECTION = {
    "model": "", "revision": "", "variant": "", "seed": "First seed of each prompt; the others follow it.",
    "num_inference_steps": "", "guidance_scale": "", "batch_size": "Prompts times seeds per pass of the UNet.",
    "limit": "", "skip_invalid": "Leave out invalid rows of the list and say which ones.", "mixed_precision": "",
}  # fmt: skip


@command("screen", detect=DETECTION)
def screen(
    call: Call,
    prompts: PromptList,
    merge: Annotated[
        bool, typer.Option("--merge", help="Do not score anything, only merge what several ranks have written.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="Folder for screens.jsonl; by default one under runs/."),
    ] = None,
) -> None:
    """Score every prompt of a list and show the highest scores. Run it again to resume.

    Several processes can share the work; accelerate sets RANK and WORLD_SIZE for them.
    """
    from memfix.detect.screening import Screening
    from memfix.inputs.wrong_rows import WrongRows
    from memfix.models.device import memory_for
    from memfix.screens import get_screen
    from memfix.screens.folder import merge_ranks as merged
    from memfix.screens.folder import open_folder, read_settings
    from memfix.screens.sampling import Sampling

    own, settings, world = call.settings(ScreenSettings), call.settings(DetectSettings), World.from_environment()
    chosen = tuple(get_screen(name) for name in dict.fromkeys(own.screen))
    call.tell_model(settings)
    seeds = tuple(range(settings.seed, settings.seed + own.num_seeds))
    sampling = Sampling(seeds, own.steps, settings.num_inference_steps, settings.guidance_scale)
    work = Screening(prompts, settings, chosen, sampling, WrongRows(settings.skip_invalid))
    folder = out or runs_root() / work.folder_name
    if call.dry_run:
        _plan(call, work, folder)
        return
    if not merge:
        call.talk.say(f"Model {settings.model}, {work.runner.evaluations} UNet evaluations per prompt → {folder}")
        memory = memory_for("while screening", f"Lower --batch-size ({settings.batch_size}).")
        opened = open_folder(folder, world, work.identity(world.world_size))
        with opened, call.talk.progress("Screening") as bar, memory:
            for done in work.run(folder, world):
                bar.at(done)
        for line in work.wrong.told():
            call.talk.warn(line)
    scored = read_settings(folder)["screens"]
    if chosen[0].name not in scored:
        raise MemfixError(
            f"{folder} holds no scores of {chosen[0].name}.", f"Give --screen {scored[0]}.", ExitCode.USAGE
        )
    if merged(folder):
        _show(call, folder, chosen[0].name, own.top)
    elif merge:
        raise MemfixError(
            f"Not all of the list is scored in {folder}.",
            "Wait for the processes that are still running, or start those that have ended again, without --merge.",
        )
    else:
        call.talk.say(f"Rank {world.rank} of {world.world_size} is done; the rank that finishes last shows the result.")


def _plan(call: Call, work: Screening, folder: Path) -> None:
    prompts = sum(1 for _ in work.prompts())
    plan = {
        **work.identity(1), "folder": str(folder), "rows": prompts, "wrong_rows": work.wrong.count,
        "unet_evaluations": prompts * work.runner.evaluations,
    }  # fmt: skip
    if call.json:
        emit(plan)
    else:
        call.talk.table("screen", ["setting", "value"], [[k, str(v)] for k, v in plan.items()], (0, 1))


def _show(call: Call, folder: Path, ranked_by: str, top: int) -> None:
    from memfix.screens.folder import RESULT, highest
    from memfix.screens.runner import count_lines

    file = folder / RESULT
    prompts, lines = count_lines(file), highest(file, ranked_by, top)
    if call.json:
        shown: list[dict[str, Any]] = [line.model_dump() for line in lines]
        emit({"folder": str(folder), "prompts": prompts, "ranked_by": ranked_by, "highest": shown})
        return
    names = list(lines[0].scores) if lines else []
    rows = [[line.text, *(f"{line.scores[name]:.4g}" for name in names), line.source] for line in lines]
    title = f"{count_of(len(lines), prompts, 'prompt')}, highest {ranked_by} first"
    call.talk.table(title, ["prompt", *names, "source"], rows, text=(0, len(names) + 1), cut=True)
    call.talk.say(f"All scores are in {file}. A score is no verdict: check the highest with 'memfix detect'.", "hint")
