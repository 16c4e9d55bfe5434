"""All that is to be known of memfix on a GPU, in one script for a quarter of an hour on a bare machine.

    python research/gpu.py                          # as many pieces as there is time for, the most important first
    python research/gpu.py --device cpu --tiny      # everything as small as it goes, to see that it runs
    python research/gpu.py --list                   # the pieces, and what there is of each
    python research/gpu.py --readme                 # results of a GPU into README
    python research/gpu.py --expect                 # verdicts of the bundled model on a CPU, for comparison

Each piece runs in a process of its own and adds a line to `gpu.jsonl` when it ends; call the script again to go on.
See research/gpu.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from fnmatch import fnmatchcase
from io import TextIOWrapper
from pathlib import Path

from filelock import FileLock, Timeout
from rich.console import Console

from gpu_pieces import lines, tables
from gpu_pieces.piece import Here, Machine, Piece, WrongResultError
from gpu_pieces.processes import FAILED, OK, SKIPPED, Processes, Result

HERE = Path(__file__).parent
MACHINE = "machine"  # a piece before all others: what there is, and whether it can be used
START = 120  # seconds for it
SLOWER = 4  # times as long as a GPU a CPU may take, at tiny sizes


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="everything as small as it goes")
    parser.add_argument("--minutes", type=positive, default=12, help="after which nothing is running any more")
    parser.add_argument("--out", type=Path, default=lines.RESULTS, help="folder of gpu.jsonl")
    parser.add_argument("--work", type=Path, help="where the folder of runs and logs is; the temporary folder")
    parser.add_argument("--only", default="*", help="pieces by name, with wildcards")
    parser.add_argument("--commit", help="of a copy without a repository, for the record")
    parser.add_argument("--list", action="store_true", help="name the pieces, and stop")
    parser.add_argument("--readme", action="store_true", help="write the table of README, and stop")
    parser.add_argument("--expect", action="store_true", help="write results/demo_verdicts.json on the CPU, and stop")
    return parser.parse_args()


def prepare(device: str) -> None:
    """Paths, also of processes to come, and settings that libraries read when they are imported."""
    own = [str(HERE.parent), str(HERE)]
    sys.path[:0] = own
    os.environ["PYTHONPATH"] = os.pathsep.join([*own, *filter(None, [os.environ.get("PYTHONPATH")])])
    os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = (
        "1"  # else imports touch the GPU, which no forked process can use then
    )
    os.environ.setdefault("OMP_NUM_THREADS", "4" if device == "cuda" else "1")  # pieces run beside each other
    if device == "cpu":
        os.environ |= {"ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""}


def all_pieces() -> list[Piece]:
    """In the order of importance. What imports torch is imported here.

    diffusers imports bitsandbytes where it finds it, which touches the GPU, and no forked process could use that then.
    """
    sys.modules["bitsandbytes"] = None  # type: ignore[assignment]  # which means: not to be found
    import memfix.flow  # which commands import when they run; here, so that it is imported once for all pieces
    from gpu_pieces.table_of_pieces import PIECES

    assert memfix.flow
    del sys.modules["bitsandbytes"]
    return PIECES


def facts(here: Here) -> None:
    """What the machine is. Raises if the device cannot be used, or is not the one that memfix would use."""
    import torch

    from gpu_pieces.internals import device

    if device().type != here.device:
        raise RuntimeError(f"memfix would run on {device()}, not on {here.device}; is there a GPU?")
    if here.device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        here.note(device_name=properties.name, memory_gib=round(properties.total_memory / 2**30, 1))
        here.note(sum=float(torch.ones(8, device="cuda").sum()))
        return
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    here.note(device_name=f"{os.cpu_count()} CPU cores", memory_gib=round(memory / 2**30, 1))


def start(device: str, tiny: bool, work: Path, deadline: float) -> tuple[Processes, Machine]:
    """Processes of the quicker kind that can use the device, and what it is. Exits if there is none, or no time."""
    for method in ("fork", "spawn"):
        unknown = Machine(device, tiny, "", 0.0)
        limit = min(START, deadline - time.monotonic())
        found = next(Processes(method, unknown, work).run([Piece(MACHINE, limit, facts)], deadline), None)
        if found is None or time.monotonic() > deadline:
            sys.exit("There was no time left to find out what the machine is. Give more --minutes.")
        if found.status == OK:
            machine = Machine(device, tiny, str(found.values["device_name"]), float(found.values["memory_gib"]))
            print(f"{machine.name}, {machine.memory_gib} GiB; processes by {method}", flush=True)
            return Processes(method, machine, work), machine
        print(f"by {method}: {found.reason}\n{found.log}", file=sys.stderr, flush=True)
    sys.exit(f"Device {device} cannot be used.")


def check_out(folder: Path) -> None:
    """Exit where results could not be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / lines.NAME).open("a").close()
    except OSError as error:
        sys.exit(f"Results cannot be written to {folder}: {error.strerror}.")


def alone(work: Path) -> FileLock:
    """A lock on a work folder. Exits where another script has it: its values would be taken for those of this one."""
    lock = FileLock(work / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        sys.exit(f"Another script like this one runs in {work}. Wait for its end, or give another --work.")
    return lock


def check_verdicts() -> None:
    """Exit where verdicts could not be compared with a CPU's; warn of old ones."""
    from gpu_pieces.works import expected_verdicts, stale

    try:
        if reason := stale(expected_verdicts()):
            print(f"WARNING: {reason}. They are compared, and results say so; --expect renews them.", file=sys.stderr)
    except WrongResultError as error:
        sys.exit(f"No piece was begun, since {error}.")


def positive(text: str) -> float:
    """A number of minutes. Raises what argparse shows as a message."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"'{text}' is no number of minutes above 0")
    return value


def record(result: Result, machine: Machine, about: lines.Line, out: Path) -> None:
    """A line in the file and one on the terminal; what a failed piece printed goes into a log beside the file."""
    line = lines.line_of(result, machine, about)
    print(f"{result.piece}: {result.status} in {result.seconds} s  {result.reason}", flush=True)
    try:
        lines.append(out / lines.NAME, line)
        if result.status not in (OK, SKIPPED):
            with (out / "gpu.log").open("a", encoding="utf-8", errors="backslashreplace") as log:
                log.write(f"== {result.piece}: {result.reason}\n{result.log[-20000:]}\n")
    except OSError as error:  # a full disk; what was found is not lost, and the other pieces are not given up
        print(f"Not written to {out} ({error.strerror}): {json.dumps(line)}", flush=True)


def work_folder(given: argparse.Namespace, code: str) -> Path:
    """Of this code at this place alone: what others left is not to be gone on with, and runs name their files."""
    place = hashlib.sha256(str(lines.ROOT.resolve()).encode()).hexdigest()[:8]
    name = ["memfix-gpu", code, place, given.device, *(["tiny"] if given.tiny else [])]
    return Path(given.work or tempfile.gettempdir()) / "-".join(name)


def run(chosen: Sequence[Piece], given: argparse.Namespace, deadline: float) -> int:
    """All pieces that are not done; the exit code."""
    code = lines.code()
    work = work_folder(given, code)
    work.mkdir(parents=True, exist_ok=True)
    lock = alone(work)
    if not given.tiny:
        check_verdicts()
    made_of = lines.commit(given.commit)
    if made_of["commit"] is None:
        print("WARNING: this copy cannot tell its commit, and results will not name it; see --commit.", file=sys.stderr)
    processes, machine = start(given.device, given.tiny, work, deadline)
    about = {"code": code, **made_of, "versions": lines.versions(), "argv": sys.argv[1:]}

    def known() -> list[lines.Line]:
        files = {f.resolve() for f in (given.out / lines.NAME, lines.RESULTS / lines.NAME)}
        return [line for line in lines.read(*sorted(files)) if lines.same(line, machine, code)]

    ended = dict[str, str]()
    with closing(processes.run(lines.left(chosen, known(), machine), deadline)) as results:
        for result in results:
            record(result, machine, about, given.out)
            ended[result.piece] = result.status
    tables.show(known(), Console(width=160))
    undone = [p.name for p in lines.left(chosen, known(), machine)]
    lock.release()
    if undone:
        print(f"Not done yet: {', '.join(undone)}. The same command goes on with them.")
    return int(bool(undone) or any(status == FAILED for status in ended.values()))


def end_well() -> None:
    """End what is running too when this script is ended, and print whatever there is to print."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup has it
            signal.signal(number, lambda received, _: sys.exit(128 + received))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def main() -> None:
    given = options()
    end_well()
    deadline = time.monotonic() + 60 * given.minutes
    if given.readme:
        if not (given.out / lines.NAME).exists():
            sys.exit(f"There is no {lines.NAME} in {given.out}, so README stays as it is.")
        tables.write_readme(HERE.parent / "README.md", lines.read(given.out / lines.NAME))
        return
    prepare("cpu" if given.expect else given.device)
    if given.expect:
        from gpu_pieces.works import expect

        work = given.work or Path(tempfile.mkdtemp(prefix="memfix-expect-"))
        expect(work)
        return
    if not given.list:
        check_out(given.out)
    patience = SLOWER if given.device == "cpu" else 1
    chosen = [replace(p, limit=patience * p.limit) for p in all_pieces() if fnmatchcase(p.name, given.only)]
    if given.list:
        for piece in chosen:
            print(f"{piece.name}: at most {piece.limit:.0f} s{', beside others' if piece.beside else ''}")
        return
    if not chosen:
        sys.exit(f"No piece is named {given.only}; see --list.")
    sys.exit(run(chosen, given, deadline))


if __name__ == "__main__":
    main()
