"""A run with a finished detection on the tiny pipeline, for tests of what comes after it."""

from pathlib import Path

from memfix import flow
from memfix.config.checks import DetectSettings
from memfix.console import Talk
from memfix.inputs.prompts import id_of
from memfix.records import Score
from memfix.run.folder import Run

FEW = {"train_batch_size": 4, "prior_batch_size": 2, "keep_margin": 0.0, "max_train_steps": 2, "keep_variants": 1}


def detected_run(
    folder: Path, model: Path, references: Path, controls: bool = True, prompts: str = "disc\ncat\n", **values
) -> Path:
    """Some samples of its first prompt count as copies and others do not; the other prompt is memorized too."""
    (folder / "prompts.txt").write_text(prompts)
    (folder / "controls.txt").write_text("sky\nsea\n")
    settings = DetectSettings(
        model=str(model), references=str(references), controls=str(folder / "controls.txt") if controls else None,
        num_samples=4, num_inference_steps=2, mixed_precision="no", measure="tiled_l2", **values,
    )  # fmt: skip

    def detect(name: str, chosen: DetectSettings) -> Run:
        return flow.detect(str(folder / "prompts.txt"), chosen, folder / name, folder, [], Talk(quiet=True))

    scores = detect("probe", settings).read("before/scores.jsonl", Score)
    threshold = (
        sorted(s.measures["tiled_l2"] for s in scores if s.prompt_id == id_of(prompts.splitlines()[0]))[1] + 1e-6
    )
    return detect("run", settings.model_copy(update={"threshold": threshold})).path


def as_if_killed(run: Run, stage: str) -> None:
    """Let a stage that ended look killed before it could say so, with the digests of what it wrote."""
    with run.lock():
        run.unfinish(stage)
