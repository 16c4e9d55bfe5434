"""Hours of fuzzing: python -m tests.fuzz --minutes 60 --seed 7. Failing cases are kept in a temporary folder."""

import argparse
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from random import Random

from tests.conftest import picture, tiny_pipeline
from tests.fuzz.mutations import mutated
from tests.fuzz.readers import READERS, read
from tests.fuzz.runs import chain, edit_and_look


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    deadline, number, failed = time.monotonic() + 60 * given.minutes, given.seed << 32, 0
    kept = Path(tempfile.gettempdir()) / "memfix-fuzz"
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for name in ("chain", "references", "read"):
            (work / name).mkdir()
        tiny_pipeline().save_pretrained(work / "model")
        for i in range(4):
            picture(i).save(work / f"references/{i}.png")
            (work / f"references/{i}.txt").write_text(f"disc {i}")
        run = chain(work / "chain", work / "model", work / "references")
        while time.monotonic() < deadline:
            number += 1
            random = Random(number)
            name = random.choice(list(READERS))
            case = mutated(name, READERS[name][0], random)
            try:
                read(name, case, work / "read")
                name = f"edit of {edit_and_look(run, number)}"
            except Exception:
                failed += 1
                kept.mkdir(exist_ok=True)
                (kept / f"{number}-{Path(name).name}").write_bytes(case)
                print(f"{name}, case {number}, in {kept}:\n{traceback.format_exc()}", flush=True)
    print(f"{number - (given.seed << 32):,} cases of readers and as many edits of a run; {failed} failed.")
    raise SystemExit(failed > 0)


main()
