"""`memfix index`: compute descriptors of a folder of images, so that any number of them can be searched."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from memfix.cli import show
from memfix.cli.options import Call, command
from memfix.config.choices import Compression
from memfix.config.tools import IndexSettings
from memfix.console import emit
from memfix.world import World

SHOWN = 10  # unreadable pictures and groups on the terminal; --json has all

Folder = Annotated[
    str,
    typer.Argument(
        metavar="DIR", help="Images, webdataset tars or parquet tables: a folder of them, or one file; or 'demo'."
    ),
]
OutFolder = Annotated[Path | None, typer.Option("-o", "--out", help="Folder of the index; by default DIR.index.")]
ProcessIndex = Annotated[
    int,
    typer.Option(
        envvar="RANK", help="Which of several processes this is, from 0; by default RANK, which accelerate sets."
    ),
]
NumProcesses = Annotated[
    int,
    typer.Option(
        envvar="WORLD_SIZE",
        min=1,
        help="How many processes share the work; by default WORLD_SIZE, which accelerate sets.",
    ),
]


@command("index")
def index(
    call: Call, folder: Folder, out: OutFolder = None, process_index: ProcessIndex = 0, num_processes: NumProcesses = 1
) -> None:
    """Compute descriptors of pictures. Run again, it only computes those of new or changed ones."""
    from memfix.index.build import build, preview
    from memfix.index.store import Store
    from memfix.inputs.tally import Tally
    from memfix.measures.descriptor import get_descriptor
    from memfix.measures.weights import Wanted

    settings, world = call.settings(IndexSettings), World.of(process_index, num_processes)
    source, where = _places(folder, out)
    wanted = Wanted(settings.sscd_weights, settings.clip_model, settings.trust_weights)
    describe = get_descriptor(settings.descriptor, wanted)
    if call.dry_run:
        is_there = (where / "manifest.json").exists()
        store = Store.open(where) if is_there else Store.empty(where, source, describe)
        store.require(describe)
        tally = Tally()
        found = {"index": str(where), **vars(preview(store, source, tally)), **_passed_over(tally)}
        show.settings(call, {"index": settings}, **(found if call.json else {}))
        _say_counts(call, found)
        return
    store = Store.create(where, source, describe, settings.precision)
    with call.talk.progress("Computing descriptors") as bar:

        def watch(done: int, total: int) -> None:
            bar.at(done, total=total)

        built = build(
            store, source, describe, world, batch_size=settings.batch_size,
            workers=settings.workers or os.cpu_count() or 1, watch=watch,
        )  # fmt: skip
    result = {"index": str(where), "descriptor": settings.descriptor, **vars(built.counts), "vectors": len(built.store)}
    result |= {**_passed_over(built.tally), "complete": built.complete, "unreadable": _unreadable(built.store)}
    if built.complete and settings.approximate is not None:
        result["approximate"] = _approximate(call, built.store, settings.approximate, settings.recall)
    if built.complete and settings.groups is not None:
        result["groups"] = _groups(built.store, settings.groups)
    if call.json:
        emit(result)
    else:
        _show(call, result)


def _places(folder: str, out: Path | None) -> tuple[Path, Path]:
    """The folder or file of pictures, and the folder of the index."""
    from memfix.demo import DEMO, REFERENCES
    from memfix.inputs.folders import required
    from memfix.inputs.paths import as_path

    if folder == DEMO and not Path(folder).exists():
        return REFERENCES, out or Path("demo.index")
    given = as_path(folder)
    source = given.resolve() if given.is_file() else required(given).resolve()
    return source, out or source.with_name(f"{source.name}.index")


def _unreadable(store: Any) -> list[dict[str, str]]:
    return [{"file_name": row.file_name, "reason": row.reason} for row in store.unreadable()]


def _approximate(call: Call, store: Any, compression: Compression, recall: float) -> dict[str, Any]:
    from memfix.index.approximate import build, fresh

    report = fresh(store, compression, recall)
    if report is None:
        call.talk.say(f"Writing an approximate index of {len(store):,} vectors.")
        report = build(store, compression, recall)
    return vars(report)


def _groups(store: Any, threshold: float) -> list[list[str]]:
    from memfix.references.near_copies import groups_in

    return [[store.row(int(i)).file_name for i in members] for members in groups_in(store, threshold)]


def _passed_over(tally: Any) -> dict[str, dict[str, int]]:
    return {"passed_over": {str(why): count for why, count in sorted(tally.passed_over.items())}}


def _say_counts(call: Call, result: dict[str, Any]) -> None:
    words = ", ".join(f"{result[word]:,} {word}" for word in ("new", "changed", "removed", "same"))
    call.talk.tell(f"{result['index']}: {words}")
    if result["passed_over"]:
        from memfix.inputs.tally import listed

        call.talk.tell(f"Passed over: {listed(result['passed_over'])}.")


def _show(call: Call, result: dict[str, Any]) -> None:
    talk = call.talk
    _say_counts(call, result)
    talk.tell(f"The index holds {result['vectors']:,} vectors of {result['descriptor']}.")
    if not result["complete"]:
        talk.say("This rank is done; the index is complete once the other ranks have finished their shards.", "hint")
    for row in result["unreadable"][:SHOWN]:
        talk.warn(f"{row['file_name']}: {row['reason']}")
    if (more := len(result["unreadable"]) - SHOWN) > 0:
        talk.warn(f"{more:,} more pictures cannot be read; --json lists them.")
    if report := result.get("approximate"):
        talk.say(
            f"Approximate search probes {report['probed']} of {report['lists']} lists: "
            f"recall@1 {report['recall']:.3f} at {report['bytes_per_vector']:.0f} bytes per vector."
        )
    if "groups" in result:
        rows = [[str(len(names)), names[0], names[1]] for names in result["groups"][:SHOWN]]
        talk.table(f"{len(result['groups'])} groups of near-copies", ["pictures", "first", "second"], rows, (1, 2))
