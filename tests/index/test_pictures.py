"""Reading ahead: order, bounds on what is in memory, pictures that cannot be decoded."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from memfix.files import sha256
from memfix.index.pictures import Looked, ahead, decoded, examine, picture_batches
from tests.conftest import picture


def test_ahead_keeps_the_order_and_the_bound() -> None:
    started, lock = [0], threading.Lock()

    def work(n: int) -> int:
        with lock:
            started[0] += 1
        time.sleep(0.002 * (n % 3))
        return n * n

    with ThreadPoolExecutor(4) as pool:
        for taken, (item, result) in enumerate(ahead(pool, work, range(50), depth=5)):
            assert (item, result) == (taken, taken * taken)
            assert started[0] <= taken + 6


def test_batches_are_bounded_by_number_and_by_pixels() -> None:
    sizes = [10, 10, 10, 90, 10, 500, 10, 10]
    cut = list(picture_batches(((n, Looked("", n, "")) for n in sizes), size=3, pixels=100))
    assert [[n for n, _ in batch] for batch in cut] == [[10, 10, 10], [90, 10], [500], [10, 10]]


def test_decoding_says_why_not(tmp_path: Path) -> None:
    picture(0, 16).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"BM" + b"\0" * 9)
    paths = [str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    looks = [examine(p) for p in paths]
    assert looks[0] == Looked(sha256([tmp_path / "a.png"]), 256, "") and looks[1].pixels == 0
    assert examine(str(tmp_path / "none.png")).reason == "No such file or directory"
    with ThreadPoolExecutor(2) as pool:
        (((first, image), (second, why)),) = decoded(pool, [list(zip(paths, looks, strict=True))], str)
    assert (first, second) == tuple(paths) and image.tobytes() == picture(0, 16).tobytes()
    assert isinstance(why, str) and why.startswith("cannot be read")
