"""Fetching from a server that misbehaves in every way: what is kept, refused, tried again, and found again."""

import hashlib
import json
import resource
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from memfix.config.tools import FetchSettings
from memfix.download.addresses import Gate, Resolver, resolve_host
from memfix.download.coverage import Coverage, settle
from memfix.download.fetch import fetch, plan_jobs
from memfix.download.fetched import Fetched, NotFetchedError, Status
from memfix.download.journal import NAME, Journal
from memfix.download.pictures import SUFFIX, check_picture
from memfix.download.safe_http import Client, Limits
from memfix.errors import MemfixError
from memfix.inputs.contents import SUFFIXES
from memfix.inputs.links import Link
from memfix.inputs.references import read_references
from tests.download.bad_server import BadServer, no_image, photo
from tests.inputs.test_contents import FORMATS, encoded

QUICK = FetchSettings(per_host=8, per_second=10000, retries=2, backoff=0.01)


@pytest.fixture
def server() -> Iterator[BadServer]:
    server = BadServer()
    yield server
    server.stop()


Fetch = Callable[..., tuple[dict[str, Fetched], Coverage]]


@pytest.fixture
def get(server: BadServer, tmp_path: Path) -> Fetch:
    """Fetch paths (or whole links) into tmp_path/refs; records by path, and the coverage."""

    def get(
        *paths: str | Link,
        settings: FetchSettings = QUICK,
        retry: bool = False,
        resolver: Resolver = resolve_host,
        **limits: float,
    ):
        links = [p if isinstance(p, Link) else Link(f"{server.base}/{p}", f"text of {p}") for p in paths]
        gate = Gate(lambda address, port: port == server.server_port, frozenset({server.server_port, 22}), resolver)
        client = Client(gate, Limits(**{"bytes": 1 << 20, **limits}))  # type: ignore[arg-type]
        with Journal.open(tmp_path / "refs") as journal:
            fresh = {r.url for r in fetch(plan_jobs(links, journal, retry), journal, settings, client)}
            coverage = settle(links, journal, fresh)
            return {u.removeprefix(f"{server.base}/"): r for u, r in journal.records.items()}, coverage

    return get


def files(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()} - {".lock", NAME, "metadata.jsonl"}


def test_a_picture_is_kept_by_its_content(get: Fetch, server: BadServer, tmp_path: Path) -> None:
    records, coverage = get("ok/../../etc/passwd3.png", "ok/4.png")
    name = f"{hashlib.sha256(photo(3)).hexdigest()}.png"
    record = records["ok/../../etc/passwd3.png"]
    assert (record.status, record.file_name, record.bytes, record.width, record.height) == (
        Status.FETCHED, name, len(photo(3)), 96, 96
    )  # fmt: skip
    assert (tmp_path / "refs" / name).read_bytes() == photo(3)
    assert files(tmp_path / "refs") == {name, f"{hashlib.sha256(photo(4)).hexdigest()}.png"}
    assert (coverage.urls, coverage.fetched, coverage.there, coverage.missing) == (2, 2, 0, {})


def test_the_folder_is_a_set_of_references(get: Fetch, server: BadServer, tmp_path: Path) -> None:
    url = f"{server.base}/ok/1.png"
    get(Link(url, "a disc"), Link(url, "a circle"), "404/2.png", "ok/3.png")
    rows = [json.loads(line) for line in (tmp_path / "refs/metadata.jsonl").read_text().splitlines()]
    one = f"{hashlib.sha256(photo(1)).hexdigest()}.png"
    assert rows[:2] == [{"file_name": one, "text": t, "url": url} for t in ("a disc", "a circle")]
    references = read_references(str(tmp_path / "refs"), [])
    assert {r.file_name: r.text for r in references} == {row["file_name"]: row["text"] for row in rows}
    assert server.asked["/ok/1.png"] == 1
    get("ok/4.png")  # another list into the same folder: the rows of the first one stay
    texts = [json.loads(line)["text"] for line in (tmp_path / "refs/metadata.jsonl").read_text().splitlines()]
    assert texts == ["text of ok/4.png", "a disc", "a circle", "text of ok/3.png"]


@pytest.mark.parametrize(
    ("path", "status", "reason", "asked"),
    [
        ("404/1.jpg", Status.DEAD, "404", 1),
        ("410/1.jpg", Status.DEAD, "410", 1),
        ("403/1.jpg", Status.FAILED, "answer 403", 1),
        ("500/1.jpg", Status.FAILED, "answer 500", 3),
        ("endless/1.jpg", Status.REFUSED, "too large", 1),
        ("promises/1.jpg", Status.FAILED, "broke off", 3),
        ("understates/1.jpg", Status.REFUSED, "broken picture", 1),
        ("drip/1.jpg", Status.FAILED, "timeout", 3),
        ("reset/1.jpg", Status.FAILED, "broke off", 3),
        ("reset-unsized/1.jpg", Status.FAILED, "broke off", 3),
        ("html/1.jpg", Status.REFUSED, "HTML", 1),
        ("svg/1.jpg", Status.REFUSED, "vector graphics", 1),
        ("empty/1.jpg", Status.REFUSED, "empty", 1),
        ("gif/1.jpg", Status.REFUSED, "tiny", 1),
        ("blank/1.jpg", Status.REFUSED, "blank", 1),
        ("bomb/1.jpg", Status.REFUSED, "too many pixels", 1),
        ("cut/1.jpg", Status.REFUSED, "broken picture", 1),
        ("loop/1", Status.FAILED, "too many redirects", 1),
        ("to/1.jpg?/", Status.REFUSED, "homepage", 1),
        ("to/1.jpg?/index.html", Status.REFUSED, "homepage", 1),
        ("to/1.jpg?/ok/site_logo.png", Status.REFUSED, "logo", 1),
        ("to/1.jpg?/ok/no-image-5.png", Status.REFUSED, "logo", 1),
        ("to/1.jpg?http://127.0.0.1:22/5.png", Status.REFUSED, "private address", 1),
        ("to/1.jpg?http://127.0.0.1:23/5.png", Status.REFUSED, "port", 1),
    ],
)
@pytest.mark.slow
def test_every_way_to_misbehave(
    get: Fetch, server: BadServer, tmp_path: Path, path: str, status: Status, reason: str, asked: int
) -> None:
    if "drip" in path:  # the good one has time
        records, coverage = get(path, total_seconds=0.3)
        get("ok/7.png")
    else:
        records, coverage = get(path, "ok/7.png")
    record = records[path]
    assert (record.status, record.reason, record.attempts) == (status, reason, asked)
    assert server.asked[f"/{path.partition('?')[0]}"] == asked
    assert coverage.missing == {(status, reason): 1}
    assert files(tmp_path / "refs") == {f"{hashlib.sha256(photo(7)).hexdigest()}.png"}  # the good one, and no remains


def test_redirects_to_the_picture_itself_are_followed(get: Fetch, server: BadServer) -> None:
    records, _ = get("to/5.png?/ok/new/5.png")
    assert records["to/5.png?/ok/new/5.png"].final_url == f"{server.base}/ok/new/5.png"
    assert records["to/5.png?/ok/new/5.png"].status is Status.FETCHED


def test_failures_that_pass(get: Fetch, server: BadServer) -> None:
    records, _ = get("once/500/1.png", "once/429/2.png?1", "once/503/3.png")
    assert {r.status for r in records.values()} == {Status.FETCHED}
    assert {r.attempts for r in records.values()} == {2}
    assert server.times[-1] - server.times[0] > 0.99  # Retry-After: 1, from one of the three, rests the host


def test_a_host_that_asks_for_too_long_a_rest_is_left_for_another_run(get: Fetch, server: BadServer) -> None:
    records, _ = get("slow-down/1.png?3600")
    record = records["slow-down/1.png?3600"]
    assert (record.reason, record.transient, record.attempts) == ("answer 429", True, 1)


def test_a_rerun_does_only_what_is_missing_or_failed_in_passing(get: Fetch, server: BadServer, tmp_path: Path) -> None:
    paths = ["ok/1.png", "ok/2.png", "404/3.png", "html/4.jpg", "once/500/5.png"]
    get(*paths, settings=FetchSettings(per_second=10000, retries=0))
    lines = (tmp_path / "refs" / NAME).read_text().splitlines()
    before = server.asked.copy()
    records, coverage = get(*paths, "ok/6.png")
    assert dict(server.asked - before) == {"/once/500/5.png": 1, "/ok/6.png": 1}
    assert (coverage.fetched, coverage.there) == (2, 2)
    after = (tmp_path / "refs" / NAME).read_text().splitlines()
    assert after[: len(lines)] == lines  # only appended
    assert len(after) == len(lines) + 2
    (tmp_path / "refs" / records["ok/1.png"].file_name).unlink()
    (tmp_path / "refs" / records["ok/2.png"].file_name).write_bytes(b"half")
    before = server.asked.copy()
    get(*paths)
    assert dict(server.asked - before) == {"/ok/1.png": 1, "/ok/2.png": 1}
    before = server.asked.copy()
    get(*paths, retry=True)
    assert dict(server.asked - before) == {"/404/3.png": 1, "/html/4.jpg": 1}


def test_names_that_nobody_knows_are_dead_until_the_network_is_back(get: Fetch, server: BadServer) -> None:
    def offline(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    link = Link(f"http://pictures.example:{server.server_port}/ok/1.png")
    records, coverage = get(link, resolver=offline)
    assert records[link.url].attempts == 1
    assert coverage.missing == {(Status.DEAD, "no such host"): 1}
    _, coverage = get(link, resolver=lambda host, port: ["127.0.0.1"])
    assert coverage.fetched == 1


def test_a_cut_last_line_is_tolerated_and_a_damaged_one_is_named(get: Fetch, tmp_path: Path) -> None:
    get("ok/1.png", "ok/2.png")
    journal = tmp_path / "refs" / NAME
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-9])
    (tmp_path / "refs/.part-3").write_bytes(b"half a picture")
    _, coverage = get("ok/1.png", "ok/2.png")
    assert (coverage.fetched, coverage.there) == (1, 1)
    assert sorted(journal.read_bytes().splitlines()) == sorted(whole.splitlines())
    assert len(files(tmp_path / "refs")) == 2
    journal.write_bytes(b'{"url": 3}\n' + whole)
    with pytest.raises(MemfixError, match=r"fetch\.jsonl:1 is damaged"):
        get("ok/1.png")


def test_hashes(get: Fetch, server: BadServer) -> None:
    content = photo(1)
    right = [hashlib.sha256(content).hexdigest(), hashlib.md5(content).hexdigest()]
    link = Link(f"{server.base}/ok/1.png", "", frozenset(right))
    assert get(link)[0]["ok/1.png"].verified
    records, coverage = get(Link(link.url, "", frozenset({"0" * 64})))  # the list was corrected since
    assert (records["ok/1.png"].reason, coverage.pictures) == ("hash", 0)
    records, _ = get(Link(f"{server.base}/ok/2.png", "", frozenset({right[0], "f" * 32})))
    assert records["ok/2.png"].reason == "hash"
    lost = hashlib.sha256(no_image()).hexdigest()
    paths = [f"lost/{i}.png" for i in range(4)]
    records, _ = get(*(Link(f"{server.base}/{p}", "", frozenset({lost})) for p in paths))
    assert {records[p].status for p in paths} == {Status.FETCHED}  # a picture that was asked for by its hash


def test_no_image_available_for_many_urls(get: Fetch, server: BadServer, tmp_path: Path) -> None:
    """Same bytes, and another size and format of the same graphic; one more URL in a later run joins them."""
    records, coverage = get("lost/1.png", "lost/2.png", "ok/3.png")
    assert coverage.missing == {}  # twice is not often
    records, coverage = get("lost/1.png", "lost/2.png", "lost-jpeg/9.jpg", "ok/3.png", "lost/1.png?size=2")
    assert coverage.missing == {(Status.REFUSED, "placeholder"): 4}
    assert files(tmp_path / "refs") == {records["ok/3.png"].file_name}
    assert len((tmp_path / "refs/metadata.jsonl").read_text().splitlines()) == 1
    before = server.asked.copy()
    _, coverage = get("lost/1.png", "lost/5.png", "ok/3.png")
    assert dict(server.asked - before) == {"/lost/5.png": 1}
    assert coverage.missing == {(Status.REFUSED, "placeholder"): 2}


def test_a_repeated_photograph_is_kept_and_pointed_out(get: Fetch, tmp_path: Path) -> None:
    """It may be the very picture that the model has seen too often."""
    records, coverage = get(*(f"same/{i}.png" for i in range(3)), "ok/3.png", "ok/3.png?w=1", "ok/3.png?w=2")
    assert coverage.missing == {}
    (suspects,) = coverage.suspects
    assert {r.file_name for r in suspects} == {records["same/0.png"].file_name}
    assert len(suspects) == 3


def at_hosts(server: BadServer, file: str, *captions: str) -> list[Link]:
    """The same file name on a host of its own for each caption."""
    return [Link(f"http://shop{i}.example:{server.server_port}/{file}", text) for i, text in enumerate(captions)]


def here(host: str, port: int) -> list[str]:
    return ["127.0.0.1"]


UNRELATED = ("Oak desk with two drawers", "Portrait of the young queen", "Recipe: lemon cheesecake")


def test_a_plain_graphic_of_several_hosts_under_unrelated_captions(get: Fetch, server: BadServer) -> None:
    links = at_hosts(server, "lost/1.png", *UNRELATED)
    _, coverage = get(*links[:2], resolver=here)
    assert coverage.missing == {}  # two are not many
    _, coverage = get(links[2], resolver=here)
    assert coverage.missing == {(Status.REFUSED, "placeholder"): 1}  # with those of the earlier list
    later = Link(f"http://other.example:{server.server_port}/lost/7.png", "anything")
    records, coverage = get(*links, later, resolver=here)
    assert coverage.missing == {(Status.REFUSED, "placeholder"): 4}  # known as such, one more needs no proof
    assert records[later.url].error == "4 URLs of 4 hosts show this plain graphic"


def test_a_surrogate_of_one_host_is_one_at_others(get: Fetch, server: BadServer) -> None:
    own = [f"lost/{i}.png" for i in range(3)]
    _, coverage = get(*own, *at_hosts(server, "lost/9.png", "a"), resolver=here)
    assert coverage.missing == {(Status.REFUSED, "placeholder"): 4}


@pytest.mark.parametrize(
    "captions",
    [
        ("Oak desk with two drawers", "Desk, oak, two drawers", "oak desk two drawers - shop", "Oak desk w/ drawers"),
        ("Oak desk with two drawers",) * 4,
        ("",) * 4,
    ],
)
def test_a_true_duplicate_of_several_hosts_is_kept(get: Fetch, server: BadServer, captions: tuple[str, ...]) -> None:
    """A graphic that many sites show under much the same caption is what a model memorizes."""
    _, coverage = get(*at_hosts(server, "lost/1.png", *captions), resolver=here)
    assert (coverage.pictures, coverage.missing, coverage.suspects) == (4, {}, [])


def test_a_photograph_under_unrelated_captions_is_kept_and_pointed_out(get: Fetch, server: BadServer) -> None:
    one_host = [f"same/{i}.png" for i in range(3)]
    _, coverage = get(*at_hosts(server, "same/1.png", *UNRELATED), *one_host, resolver=here)
    assert (coverage.pictures, coverage.missing) == (6, {})
    assert [len(group) for group in coverage.suspects] == [6]


def test_a_graphic_asked_for_by_its_hash_is_kept_over_hosts(get: Fetch, server: BadServer) -> None:
    lost = frozenset({hashlib.sha256(no_image()).hexdigest()})
    links = [link._replace(hashes=lost) for link in at_hosts(server, "lost/1.png", *UNRELATED)]
    assert get(*links, resolver=here)[1].pictures == 3


def test_several_urls_redirected_to_one_picture(get: Fetch, tmp_path: Path) -> None:
    sizes = ["to/9.png?/ok/9.png", "to/x/9.png?/ok/9.png"]
    _, coverage = get("to/1.png?/ok/77.png", "to/2.png?/ok/77.png", *sizes)
    assert coverage.missing == {(Status.REFUSED, "same target"): 2}
    assert coverage.fetched == 2  # the same name: the picture moved
    assert len(files(tmp_path / "refs")) == 1


def test_hosts_are_not_hurried(get: Fetch, server: BadServer) -> None:
    get(*(f"slow/{i}.png" for i in range(12)), settings=FetchSettings(per_host=3, per_second=10000))
    assert server.most == 3
    begun = time.monotonic()
    get(*(f"ok/{i}.png" for i in range(20, 25)), settings=FetchSettings(per_second=20))
    assert max(server.times) - begun > 0.2  # four intervals of 0.05 s


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "ICO"])
def test_formats(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(photo(1, kind=kind))
    if kind in SUFFIX:
        assert check_picture(path, 10**6, 64)[:3] == (SUFFIX[kind], 96, 96)
        with pytest.raises(NotFetchedError, match="96x96"):
            check_picture(path, 96 * 96 - 1, 64)
    else:
        with pytest.raises(NotFetchedError, match="not a picture"):
            check_picture(path, 10**6, 64)


def test_transparent_and_animated_pictures(tmp_path: Path) -> None:
    path = tmp_path / "file"
    Image.new("RGBA", (96, 96), (200, 0, 0, 0)).save(path, "PNG")
    with pytest.raises(NotFetchedError, match="transparent everywhere"):
        check_picture(path, 10**6, 64)
    frames = [Image.effect_mandelbrot((96, 96), (-2, -1, 1, 1), 40 + i) for i in range(3)]
    frames[0].save(path, "GIF", save_all=True, append_images=frames[1:])
    assert check_picture(path, 10**6, 64).width == 96


def test_sixteen_bits_are_not_taken_for_blank(tmp_path: Path) -> None:
    levels = np.random.default_rng(0).integers(1000, 65535, (96, 96)).astype(np.uint16)  # 8 bits would clip all of it
    Image.fromarray(levels).save(tmp_path / "file", "PNG")
    assert check_picture(tmp_path / "file", 10**6, 64).look == ""


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.png").write_bytes(b"")
    with pytest.raises(MemfixError, match="not empty"), Journal.open(tmp_path):
        pass
    with (
        Journal.open(tmp_path / "new"),
        pytest.raises(MemfixError, match="in use by another"),
        Journal.open(tmp_path / "new"),
    ):
        pass


def test_a_file_is_no_folder_of_downloads(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("my notes")
    with pytest.raises(MemfixError, match=r"notes\.txt is a file, not a folder"), Journal.open(tmp_path / "notes.txt"):
        pass


def test_a_full_disk_is_no_fault_of_the_server(get: Fetch) -> None:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limit[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            get("ok/1.png")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, old)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_picture_of_every_format_that_is_opened_is_kept(tmp_path: Path, kind: str) -> None:
    """Under a name that its content gives it, which references are found by."""
    (tmp_path / "x").write_bytes(encoded(kind))
    found = check_picture(tmp_path / "x", 1 << 20, 8)
    assert (found.width, found.height) == (64, 64) and found.suffix in SUFFIXES
