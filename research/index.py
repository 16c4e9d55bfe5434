"""Indexes at size: exact search against the plain matrix product, memory, approximate search, and what a billion takes.

    python research/index.py                    # 1,000,000 x 512, 12 GB of memory for the plain product, 2 GB of disk
    python research/index.py --vectors 100000   # a minute

Vectors are random unit vectors, of which every second one is a near-copy (cosine 0.75) of the one before: what
approximate search has to find. Times of one process are compared as ratios; memory is the peak of a fresh process
beyond what it held once everything was imported, mapped pages included. `right` is the share of first (exact search: of
all ten) neighbours that are those of the plain product; `reported` is what the index itself says of its recall.
"""

import argparse
import io
import json
import os
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from memfix.config.choices import Compression, Precision
from memfix.files import atomic_file
from memfix.index.approximate import Approximate
from memfix.index.approximate import build as build_approximate
from memfix.index.build import build
from memfix.index.plan import make_plan
from memfix.index.rows import Row, as_line, write_lines
from memfix.index.search import search
from memfix.index.store import SEGMENT_SIZE, Manifest, Segment, Store
from memfix.references.near_copies import groups_in
from memfix.run.environment import environment

COSINE = 0.75
NEIGHBOURS = 10
BILLION = 10**9
GROUPED = 20_000
HOUR, YEAR = 3600, 3600 * 24 * 365

Result = dict[str, Any]


def near_copies(vectors: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    noise = draw.standard_normal(vectors.shape, np.float32) / vectors.shape[1] ** 0.5
    return unit(COSINE * vectors + (1 - COSINE**2) ** 0.5 * noise)


def unit(x: np.ndarray) -> np.ndarray:
    return np.asarray(x / np.linalg.norm(x, axis=1, keepdims=True))


def write_store(path: Path, vectors: int, dimension: int) -> Store:
    """Random unit vectors and their near-copies, a segment at a time."""
    draw = np.random.default_rng(0)
    manifest = Manifest(
        descriptor="random", identity="random unit vectors", dimension=dimension, precision=Precision.FLOAT16,
        segment_size=SEGMENT_SIZE, folder=str(path),
    )  # fmt: skip
    store, segments = Store(path, manifest), []
    for number, first in enumerate(range(0, vectors, SEGMENT_SIZE)):
        n, name = min(SEGMENT_SIZE, vectors - first), f"{number:08d}"
        block = unit(draw.standard_normal((n, dimension), np.float32))
        block[1::2] = near_copies(block[: n - 1 : 2], draw)
        with atomic_file(store.file(name, ".npy")) as file:
            np.save(file, block.astype(np.float16))
        names = [f"{first + i:09d}.jpg" for i in range(n)]
        write_lines(store.file(name, ".jsonl"), (as_line(Row(name, name, 1, 1, "0" * 64)) for name in names))
        segments.append(Segment(name=name, rows=n, vectors=n, sha256=name))
    store.save(manifest.model_copy(update={"segments": tuple(segments)}))
    return Store.open(path)


def queries_of(store: Store, n: int) -> np.ndarray:
    """Near-copies of vectors from all over the store."""
    draw = np.random.default_rng(1)
    return near_copies(store.vectors(np.sort(draw.choice(len(store), n, replace=False))), draw)


def seconds(work: Callable[[], object], times: int = 1) -> float:
    """The shortest of some runs."""
    found = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return min(found)


def product(queries: np.ndarray, array: np.ndarray) -> np.ndarray:
    return np.asarray(queries @ array.T)


def plain(queries: np.ndarray, array: np.ndarray) -> np.ndarray:
    """The whole product at once, and the largest of each row."""
    return torch.from_numpy(product(queries, array)).topk(NEIGHBOURS).indices.numpy()


def exact_rows(store: Store, queries: np.ndarray, array: np.ndarray, repeats: int) -> Iterator[Result]:
    agree = float(np.mean(search(store, queries, NEIGHBOURS).ids == plain(queries, array)))
    alone, whole = (seconds(partial(work, queries, array), repeats) for work in (product, plain))
    ours = seconds(partial(search, store, queries, NEIGHBOURS), repeats)
    _, beyond = in_fresh_process("search", store.path, len(queries))
    size = 2 * store.manifest.dimension
    yield {"what": "plain product alone, float32 in memory", "seconds": alone, "ratio": alone / whole}
    yield {"what": "plain product and top-k, float32 in memory", "seconds": whole, "ratio": 1.0}
    yield {
        "what": "exact search, float16 on disk", "seconds": ours, "ratio": ours / whole, "right": agree,
        "bytes a vector": size, "MiB beyond": beyond, "billion": "exact search",
    }  # fmt: skip


def approximate_rows(store: Store, queries: np.ndarray, recall: float) -> Iterator[Result]:
    truth = search(store, queries, 1)
    for compression in Compression:
        took, beyond = in_fresh_process(f"build-{compression}", store.path, recall)
        opened = Approximate(store)
        yield {
            "what": f"approximate search, {compression}, {opened.report.probed} of {opened.report.lists} lists",
            "seconds": seconds(partial(opened.search, queries, NEIGHBOURS)),
            "right": float(np.mean(opened.search(queries, 1).ids == truth.ids)), "reported": opened.report.recall,
            "bytes a vector": opened.report.bytes_per_vector, "vectors a second": len(store) / took,
            "MiB beyond": beyond, "billion": f"approximate search, {compression}",
        }  # fmt: skip


class Cheap:
    """A descriptor that takes no time, so that what is measured is the index."""

    name, identity, dimension, weights = "cheap", "random projection of 8x8 pixels", 512, None

    def __init__(self) -> None:
        self._projection = torch.randn(192, self.dimension, generator=torch.Generator().manual_seed(0))

    def __call__(self, images: Sequence[Image.Image]) -> torch.Tensor:
        x = torch.stack([torch.from_numpy(np.asarray(image.resize((8, 8)), np.float32)).flatten() for image in images])
        return torch.nn.functional.normalize(x @ self._projection, dim=1)


def write_tars(folder: Path, pictures: int, each: int = 5000) -> None:
    """Webdataset tars of small noisy pictures."""
    draw = np.random.default_rng(2)
    for first in range(0, pictures, each):
        with tarfile.open(folder / f"{first // each:05d}.tar", "w") as archive:
            for i in range(first, min(first + each, pictures)):
                data = io.BytesIO()
                Image.fromarray(draw.integers(0, 256, (32, 32, 3), np.uint8)).save(data, "JPEG")
                info = tarfile.TarInfo(f"{i:09d}.jpg")
                info.size = data.tell()
                data.seek(0)
                archive.addfile(info, data)


def build_rows(folder: Path, vectors: int, pictures: int) -> Iterator[Result]:
    (source := folder / "pictures").mkdir()
    write_tars(source, pictures)
    for what, task_name, argument, n in (
        (f"build from {pictures:,} small pictures in tars", "build", source, pictures),
        (f"plan of {vectors:,} new files", "plan", vectors, vectors),
    ):
        took, beyond = in_fresh_process(task_name, folder / task_name, argument)
        rate = n / took
        yield {"what": what, "seconds": took, "vectors a second": rate, "MiB beyond": beyond, "billion": task_name}


def group_rows(folder: Path, dimension: int) -> Iterator[Result]:
    store = write_store(folder / "grouped", GROUPED, dimension)
    found: list[Any] = []
    took = seconds(lambda: found.extend(groups_in(store, COSINE - 0.15)))
    right = sum(len(g) == 2 for g in found) / (GROUPED // 2)
    yield {"what": f"groups of near-copies in {GROUPED:,}", "seconds": took, "right": right, "billion": "groups"}


def in_fresh_process(name: str, path: Path, argument: object) -> tuple[float, float]:
    """Seconds of a task, and MiB beyond what its process held before."""
    command = [sys.executable, __file__, "--task", name, "--path", str(path), "--argument", str(argument)]
    took, beyond = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return took, beyond


def the_task(name: str, path: Path, argument: str) -> Callable[[], object]:
    """The tasks of fresh processes; the descriptor and the queries are there before the counting begins."""
    match name:
        case "search":
            store = Store.open(path)
            return partial(search, store, queries_of(store, int(argument)), NEIGHBOURS)
        case "build":
            store = Store.create(path, Path(argument), Cheap(), Precision.FLOAT16)
            return partial(build, store, Path(argument), Cheap(), workers=os.cpu_count() or 1)
        case "plan":
            store = Store.create(path, path.parent, Cheap(), Precision.FLOAT16)
            names = (f"{i // 1000:06d}/{i:09d}.jpg" for i in range(int(argument)))
            return partial(make_plan, store, (Row(name, name, 1, 1) for name in names))
        case _:
            compression = Compression(name.removeprefix("build-"))
            return partial(build_approximate, Store.open(path), compression, float(argument))


def peak() -> float:
    """MiB. Linux hands getrusage's peak down from parent to child, so that of the process itself is read there."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(next(line for line in status.read_text().splitlines() if line.startswith("VmHWM")).split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << (20 if sys.platform == "darwin" else 10))


def a_billion(rows: list[Result], vectors: int) -> Iterator[Result]:
    """Times and sizes in proportion to what was measured here, on as many cores."""
    for row in rows:
        match row.get("billion"):
            case None:
                continue
            case "groups":
                yield {"what": "groups, exactly", "years": row["seconds"] * (BILLION / GROUPED) ** 2 / YEAR}
            case "build" | "plan" as what:
                yield {"what": what, "hours to build": BILLION / row["vectors a second"] / HOUR}
            case what:
                rate = row.get("vectors a second")
                yield {
                    "what": what, "GB": row["bytes a vector"] * BILLION / 1e9,
                    "hours for 1000 queries": row["seconds"] * BILLION / vectors / HOUR,
                    **({"hours to build": BILLION / rate / HOUR} if rate else {}),
                }  # fmt: skip


def as_text(cell: object) -> str:
    if isinstance(cell, float):
        return f"{cell:,.3g}" if cell < 1000 else f"{cell:,.0f}"
    return str(cell)


def show(title: str, rows: list[Result]) -> None:
    columns = [c for c in dict.fromkeys(key for row in rows for key in row) if c != "billion"]
    table = Table(*columns, title=title, title_justify="left", box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(as_text(row.get(column, "")) for column in columns))
    Console(width=180).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=int, default=1_000_000)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--pictures", type=int, default=50_000)
    parser.add_argument("--recall", type=float, default=0.95)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--only", default="exact,approximate,build,groups", help="comma-separated parts")
    parser.add_argument("--folder", type=Path, help="where to write; a temporary folder when not given")
    parser.add_argument("--json", action="store_true")
    for hidden in ("task", "path", "argument"):
        parser.add_argument(f"--{hidden}", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.task:
        import faiss  # noqa: F401  # its memory is not the task's

        work, before = the_task(arguments.task, Path(arguments.path), arguments.argument), peak()
        print(json.dumps([seconds(work), peak() - before]))
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        rows = list(measured(arguments, Path(name)))
    billion = list(a_billion(rows, arguments.vectors))
    if arguments.json:
        print(json.dumps({"rows": rows, "billion": billion, "environment": environment().model_dump()}))
        return
    size = f"{arguments.vectors:,} x {arguments.dimension}, {arguments.queries:,} queries"
    show(f"{size}, {torch.get_num_threads()} threads", rows)
    show("A billion, by proportion", billion)


def measured(arguments: argparse.Namespace, folder: Path) -> Iterator[Result]:
    parts = arguments.only.split(",")
    store = write_store(folder / "store", arguments.vectors, arguments.dimension)
    queries = queries_of(store, arguments.queries)
    if "exact" in parts:
        yield from exact_rows(store, queries, store.vectors(np.arange(len(store))), arguments.repeats)
    if "approximate" in parts:
        yield from approximate_rows(store, queries, arguments.recall)
    if "build" in parts:
        yield from build_rows(folder, arguments.vectors, arguments.pictures)
    if "groups" in parts:
        yield from group_rows(folder, arguments.dimension)


if __name__ == "__main__":
    main()
