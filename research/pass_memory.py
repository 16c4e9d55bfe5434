"""Hold what is counted of a pass against what a process takes for it: SD 1 at true size, on a CPU, a few minutes.

    MALLOC_MMAP_THRESHOLD_=65536 MALLOC_TRIM_THRESHOLD_=65536 python research/pass_memory.py

Both variables let glibc give memory back at once; without them gaps of its heap are measured as well.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent.parent), str(Path(__file__).parent)]
from gpu_pieces.models import FULL, build  # noqa: E402
from memfix.models import lora  # noqa: E402
from memfix.models.activations import Way, passed, training_pass  # noqa: E402

PAGE_SIZE, EVERY = 4096, 0.01  # bytes; seconds


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_SIZE


def most_resident(done: threading.Event, seen: list[int]) -> None:
    """The most bytes until something is done, as the last of what is seen."""
    while not done.is_set():
        seen[-1] = max(seen[-1], resident())
        time.sleep(EVERY)


def main() -> None:
    for checkpointing in (False, True):
        way = Way("lora", None, checkpointing)
        unet = build(FULL["sd1"], "cpu").unet
        counted = training_pass(unet, way, 1).peak
        lora.add(unet, way.rank)
        unet.train()
        if checkpointing:
            unet.enable_gradient_checkpointing()
        before = resident()
        done, seen = threading.Event(), [before]
        watcher = threading.Thread(target=most_resident, args=(done, seen))
        watcher.start()
        passed(unet, way, 1)
        done.set()
        watcher.join()
        print(f"{way}: counted {counted / 1e9:.2f} GB, measured {(seen[-1] - before) / 1e9:.2f} GB", flush=True)


if __name__ == "__main__":
    main()
