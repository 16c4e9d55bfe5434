"""The ways to detect, on the bundled model: without references, with early looks, behind a screen, by an index."""

import json
import shutil
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from memfix.demo import REFERENCES, list_path
from memfix.errors import MemfixError
from memfix.flow.detection import Detection
from memfix.inputs.prompts import id_of
from memfix.run.folder import Run
from tests.processes import memfix as run

pytestmark = pytest.mark.slow  # detections with the bundled model

LIST = "turtle poster by Odel Varn\nbell poster by Amos Pryde\na panda on red\n"


@pytest.fixture
def memfix(tmp_path: Path):
    (tmp_path / "prompts.txt").write_text(LIST)

    def call(*arguments: str, said: list[str] | None = None) -> list[dict]:
        done = run(*arguments, cwd=tmp_path)
        if said is not None:
            said.append(done.stdout + done.stderr)
        return rows(tmp_path / "run/before/verdicts.jsonl") if "run" in arguments else []

    return call


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def panda_sample(detection: Detection) -> str:
    return next(s.file_name for s in detection.samples if s.text == "a panda on red")


def test_without_references(memfix, tmp_path: Path) -> None:
    turtle, _, panda = memfix("detect", "prompts.txt", "-m", "demo", "--num-samples", "6", "-o", "run")
    assert (turtle["verdict"], turtle["kind"], turtle["copies"]) == ("memorized", "verbatim", 6)
    assert turtle["reason"] == "6 of 6 samples reproduce another sample"
    assert (panda["copies"], panda["kind"]) == (0, None)
    listed = {r["file_name"] for r in rows(tmp_path / "run/references.jsonl")}
    assert turtle["reference"] in listed and panda["reference"] not in listed
    memfix("report", "run")
    page = (tmp_path / "run/report.html").read_text()
    assert "No training image was given" in page

    (tmp_path / "run").rename(tmp_path / "moved")  # a medoid is a sample, and goes with its run
    memfix("report", "moved")
    assert (tmp_path / "moved/report.html").read_text().count("data:image") == page.count("data:image") > 0
    moved = Detection.of(Run.open(tmp_path / "moved"))
    moved.require_unchanged()
    assert len(moved.judge().references) == len(listed)

    shutil.copy(tmp_path / "moved/before" / panda_sample(moved), tmp_path / "moved/before" / turtle["reference"])
    with pytest.raises(MemfixError, match="changed since the detect"):  # nothing would be a copy of another picture
        Detection.of(Run.open(tmp_path / "moved")).require_unchanged()


def test_references_of_every_kind_are_compared(memfix, tmp_path: Path) -> None:
    """One as a JPEG that is called .jfif, one in a tar under a name with dots, beside a side file of macOS."""
    refs = tmp_path / "refs"
    (refs / "data").mkdir(parents=True)
    kept = {row["text"]: REFERENCES / row["file_name"] for row in rows(REFERENCES / "metadata.jsonl")}
    turtle, bell = (kept[text] for text in LIST.splitlines()[:2])
    with Image.open(turtle) as poster:
        poster.convert("RGB").save(refs / "a.jfif", "JPEG", quality=95)
    with tarfile.open(refs / "data/x.tar", "w") as tar:
        tar.add(bell, "poster v1.0.png")
    (refs / "._a.png").write_bytes(b"\0\5\x16\7")
    found = memfix(
        "detect", "prompts.txt", "-m", "demo", "--references", "refs", "--limit", "2", "--num-samples", "3", "-o", "run"
    )
    assert [v["verdict"] for v in found] == ["memorized"] * 2
    assert [v["reference"] for v in found] == ["a.jfif", "data/x.tar/poster v1.0.png"]


def test_early_looks_and_kinds(memfix) -> None:
    turtle, bell, panda = memfix(
        "detect", "prompts.txt", "-m", "demo", "--references", "demo", "--num-samples", "16", "--first-look", "4",
        "-o", "run",
    )  # fmt: skip
    assert (turtle["samples"], turtle["kind"]) == (4, "verbatim")
    assert (bell["verdict"], bell["kind"]) == ("memorized", "template")
    assert (panda["samples"], panda["verdict"]) == (16, "clean")


def test_a_screen_leaves_out_what_is_clean(memfix, tmp_path: Path) -> None:
    lines = [json.loads(line)["text"] for line in (REFERENCES / "metadata.jsonl").read_text().splitlines()]
    ordinary = list(dict.fromkeys(text for text in lines if " by " not in text))[:30]
    (tmp_path / "prompts.txt").write_text(LIST + "\n".join(ordinary) + "\n")
    assert len(list_path("controls").read_text().splitlines()) >= 20
    said: list[str] = []
    found = memfix(
        "detect", "prompts.txt", "-m", "demo", "--references", "demo", "--controls", "controls", "--num-samples", "1",
        "--screen", "fine_detail", "--miss-rate", "0.2", "--audit", "1", "-o", "run", said=said,
    )  # fmt: skip
    assert found[0]["verdict"] == "memorized"
    left_out = [v for v in found if not v["samples"]]
    assert len(left_out) >= 10
    assert all(v["verdict"] == "clean" and v["reason"].startswith("not sampled: screen fine_detail") for v in left_out)
    memfix("report", "run")
    summary = json.loads((tmp_path / "run/report.json").read_text())["summary"]
    assert summary["not_sampled"] == len(left_out)
    assert summary["clean_sampled"] + len(left_out) == summary["clean_before"]
    assert f"{len(left_out)} not sampled (clean by estimate of a screen)" in said[0]
    assert "Controls: 0 memorized, 0 clean, 22 undecided of 22" in said[0]
    page = (tmp_path / "run/report.html").read_text().replace("\N{NO-BREAK SPACE}", " ")
    header = json.loads((tmp_path / "run/run.json").read_text())
    screening = header["stages"]["detect"]["screening"]
    assert f"{len(left_out)} that scored as the clean controls do" in page
    assert (screening["skipped"], screening["audited"]) == (len(left_out) + 1, 1)
    assert screening["share_bound"] == pytest.approx(0.95)  # one picture without a find says next to nothing
    assert "1 of these was drawn at random and sampled all the same: none is memorized" in page
    assert "at most 95 % of those left out are" in page
    assert page.count("clean by estimate</span>") == 2 * len(left_out)  # in the table and on the card
    assert page.count("nothing is known of its share of copies") == len(left_out)


def test_neighbours_of_memorized_prompts_are_found_behind_a_screen(memfix, tmp_path: Path) -> None:
    lines = [json.loads(line)["text"] for line in (REFERENCES / "metadata.jsonl").read_text().splitlines()]
    ordinary = list(dict.fromkeys(t for t in lines if " by " not in t and "umbrella" not in t))[:30]
    rare = ["umbrella poster by Tom Hale", "umbrella poster by Rosa Lind"]  # one copy each, from seed 7
    (tmp_path / "prompts.txt").write_text("\n".join(["umbrella poster by Cosmo Adeyar", *rare, *ordinary]) + "\n")
    found = memfix(
        "detect", "prompts.txt", "-m", "demo", "--references", "demo", "--controls", "controls", "--num-samples", "8",
        "--screen", "fine_detail", "--miss-rate", "0.2", "--audit", "2", "--similar-prompts", "4", "-o", "run",
    )  # fmt: skip
    kept = rows(tmp_path / "run/before/skipping.jsonl")[0]
    trials = rows(tmp_path / "run/before/similar.jsonl")
    own = {v["prompt_id"]: v for v in found}
    first, *neighbours = map(id_of, ["umbrella poster by Cosmo Adeyar", *rare])
    assert {*neighbours} < {*kept["skipped"]}
    assert [own[i]["copies"] for i in neighbours] == [1, 1]
    assert {own[i]["samples"] for i in (first, *neighbours)} == {8}
    assert {t["prompt_id"] for t in trials if t["copy"]} == {*neighbours}
    assert len({t["prompt_id"] for t in trials}) == 8 and len(trials) == 16
    known = {*neighbours, *kept["audited"]}
    others = [own[t["prompt_id"]] for t in trials if t["prompt_id"] not in known]
    assert others and all(v["samples"] == 0 and "the likeliest to give umbrella-poster" in v["reason"] for v in others)
    scored = {row["file_name"] for row in rows(tmp_path / "run/before/scores.jsonl")}
    assert len(scored) == sum(v["samples"] for v in found)  # what was tried and gave nothing is no sample of a verdict
    memfix("report", "run")
    page = (tmp_path / "run/report.html").read_text()
    assert "8 prompts worded like memorized ones were tried" in page and "2 of them gave a copy" in page


def test_an_index_gives_the_same_copies(memfix, tmp_path: Path) -> None:
    memfix("index", str(REFERENCES), "--out", "index")
    common = ("detect", "prompts.txt", "-m", "demo", "--num-samples", "3")
    indexed = memfix(*common, "--references", "index", "-o", "run")
    (tmp_path / "run").rename(tmp_path / "first")
    entry = json.loads((tmp_path / "first/run.json").read_text())["stages"]["detect"]
    assert (entry["design"]["looks"], entry["design"]["memorized_from"], entry["design"]["clean_from"]) == (
        [3],
        [1],
        None,
    )
    held = memfix(*common, "--references", "demo", "-o", "run")
    assert [(v["verdict"], v["copies"]) for v in indexed] == [(v["verdict"], v["copies"]) for v in held]
    assert indexed[0]["reference"] == held[0]["reference"]


def test_near_copies_in_an_index_are_one_finding(memfix, tmp_path: Path) -> None:
    """As in a folder: whichever copy came up, the finding has all members, and the background holds none of them."""
    folder = tmp_path / "pictures"
    shutil.copytree(REFERENCES, folder)
    with Image.open(folder / "turtle-poster-by-odel-varn.png") as poster:
        for i in range(12):
            poster.convert("RGB").resize((48 + 8 * (i % 4),) * 2).save(folder / f"again {i}.jpg", quality=75 + 2 * i)
    memfix("index", str(folder), "--out", "index")
    found = []
    for references in ("index", "pictures"):
        memfix("detect", "prompts.txt", "-m", "demo", "--num-samples", "3", "--references", references, "-o", "run")
        memfix("report", "run")
        report = json.loads((tmp_path / "run/report.json").read_text())
        background = report["run"]["stages"]["detect"]["background"]
        found.append([report["prompts"][0]["references"][0]["members"], background["duplicates"]])
        told = "12 more were left out because they are re-encoded or resized copies of these"
        assert told in (tmp_path / "run/report.html").read_text()
        (tmp_path / "run").rename(tmp_path / references.upper())
    assert found == [[13, 12], [13, 12]]
