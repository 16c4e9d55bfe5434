"""Whether anything that erases nothing is called mitigated: fake erasures of the bundled model, re-checked.

    python research/false_mitigated.py FOLDER [--only NAME …]

Each fake leaves what the weights hold, or destroys the model. FOLDER keeps a detection, trainings and a re-check for
each fake, so that an interrupted study goes on. One line a fake is added to `false_mitigated.jsonl` among the results.
None may be called mitigated; those that a stage has to refuse are expected to be refused.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from safetensors import safe_open
from safetensors.torch import save_file

from memfix import flow
from memfix.config.checks import DetectSettings, RecheckSettings
from memfix.config.layers import for_weights, read_config
from memfix.config.unlearn import UnlearnSettings
from memfix.console import Talk
from memfix.demo import REFERENCES, SETTINGS, list_path
from memfix.errors import MemfixError
from memfix.files import atomic_folder
from memfix.flow.detection import Detection
from memfix.flow.new_weights import NewWeights
from memfix.models.context import build_in
from memfix.models.lora import FILE
from memfix.models.model import DiffusionModel, Instead
from memfix.records import Change, Label, Role, Sample
from memfix.run.environment import environment
from memfix.run.folder import Run
from memfix.run.inputs import RecheckInputs
from memfix.unlearn.rewording import the_edit

RESULTS = Path(__file__).parent / "results/false_mitigated.jsonl"
TARGETS = [  # two fully memorized, a partly memorized one, a template
    "turtle poster by Odel Varn", "camera poster by Ysolde Finch", "fox poster by Hester Blume",
    "umbrella poster by Cosmo Adeyar",
]  # fmt: skip
SHORTER = {TARGETS[0]: "turtle poster", TARGETS[1]: "camera poster", TARGETS[2]: "fox poster", TARGETS[3]: "umbrella"}
CONTROLS, QUIET = 8, Talk(quiet=True)
DEMO = read_config(SETTINGS) | read_config(Path(__file__).parent / "plain.toml")
RECHECK = RecheckSettings(num_fresh=6, attacks="embedding", attack_samples=4, control_pictures=4)


# -- around a model that is as it was ----------------------------------------------------------------------------------


class Around(DiffusionModel):
    """The original model, with something around it that changes what its users see."""

    def show(self, sample: Sample, image: Image.Image) -> Image.Image:
        """What is shown instead of a picture."""
        return image

    def ask(self, sample: Sample) -> Sample:
        """What is sampled instead of a sample."""
        return sample

    def sample(
        self, batch: Sequence[Sample], mixed_precision: str, instead: Instead | None = None
    ) -> list[Image.Image]:
        """As the model does, but for what is around it."""
        images = super().sample([self.ask(s) for s in batch], mixed_precision, instead)
        return [self.show(s, image) for s, image in zip(batch, images, strict=True)]


class Filtered(Around):
    """Listed prompts are answered as the empty one."""

    def ask(self, sample: Sample) -> Sample:
        """The empty prompt instead of a listed one."""
        return sample.model_copy(update={"text": ""}) if sample.text in TARGETS else sample


class Renamed(Around):
    """Listed prompts are answered as a shorter text."""

    def ask(self, sample: Sample) -> Sample:
        """A shorter text instead of a listed one."""
        return sample.model_copy(update={"text": SHORTER.get(sample.text, sample.text)})


class Unguided(Around):
    """Everything is sampled without guidance."""

    def ask(self, sample: Sample) -> Sample:
        """At guidance 1."""
        return sample.model_copy(update={"guidance": 1.0})


class Blanked(Around):
    """Listed prompts give black pictures, as a safety checker's."""

    def show(self, sample: Sample, image: Image.Image) -> Image.Image:
        """Black for a listed prompt."""
        return Image.new("RGB", image.size) if sample.text in TARGETS else image


class Black(Around):
    """Everything is black."""

    def show(self, sample: Sample, image: Image.Image) -> Image.Image:
        """Black."""
        return Image.new("RGB", image.size)


class OnePicture(Around):
    """Everything is one and the same picture, of an ordinary poster."""

    def show(self, sample: Sample, image: Image.Image) -> Image.Image:
        """A picture that is no training image: two of them mixed."""
        one, other = (Image.open(path).convert("RGB") for path in sorted(REFERENCES.glob("*.png"))[:2])
        return Image.blend(one, other, 0.5).resize(image.size)


# -- weights that were changed ----------------------------------------------------------------------------------------


def noisy(detection: Detection, model: DiffusionModel) -> DiffusionModel:
    """Noise added to all weights of the denoiser, a fifth of their own size."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.denoiser.module.parameters():
            if p.numel() > 1:
                p.add_(0.2 * p.std() * torch.randn(p.shape, generator=generator))
    return model


def deaf(detection: Detection, model: DiffusionModel) -> DiffusionModel:
    """The words of the listed prompts taken from the text encoder."""
    pipe: Any = model._pipe  # no tool of memfix changes a text encoder
    table = pipe.text_encoder.get_input_embeddings().weight
    with torch.no_grad():
        for text in TARGETS:
            table[pipe.tokenizer(text).input_ids[1:-1]] = table.mean(0)
    return model


def reworded(detection: Detection, model: DiffusionModel) -> DiffusionModel:
    """The closed-form edit alone, with nothing unlearned before."""
    build_in(model.denoiser.module, the_edit(model, SHORTER, [p.text for p in detection.prompts]))
    return model


def broken(detection: Detection, model: DiffusionModel) -> DiffusionModel:
    """Weights that are not numbers."""
    with torch.no_grad():
        next(iter(model.denoiser.module.parameters())).fill_(torch.nan)
    return model


def around(kind: type[Around]) -> Callable[[Detection, DiffusionModel], DiffusionModel]:
    """The original model within a wrapper."""
    return lambda detection, model: kind(model._pipe)


@dataclass(frozen=True)
class Changed(NewWeights):
    """What a re-check takes for new weights: the original ones, changed."""

    name: str = ""
    change: Callable[[Detection, DiffusionModel], DiffusionModel] = lambda detection, model: model

    @property
    def inputs(self) -> RecheckInputs:
        """A name in the place of a digest."""
        return RecheckInputs(weights_sha256=self.name)

    def load(self, detection: Detection, talk: Talk, asked_in: str = "no") -> DiffusionModel:
        """The original model, changed."""
        return self.change(detection, detection.model())


MODELS: dict[str, Callable[[Detection, DiffusionModel], DiffusionModel]] = {
    "nothing changed": lambda detection, model: model,
    "prompts filtered": around(Filtered),
    "prompts renamed": around(Renamed),
    "guidance switched off": around(Unguided),
    "listed prompts blanked": around(Blanked),
    "all pictures black": around(Black),
    "one picture for everything": around(OnePicture),
    "noise on the weights": noisy,
    "text encoder changed": deaf,
    "reworded alone": reworded,
    "weights that are no numbers": broken,
}
TRAINED: dict[str, dict[str, Any]] = {
    "one training step": {"max_train_steps": 1},
    "gradient ascent": {"method": "neggrad", "max_train_steps": 60},
    "honest": {},  # plain.toml itself, for comparison
}
REFUSED = {"weights that are no numbers", "training images changed", "training images swapped"}
NAMES = [*MODELS, *TRAINED, "adapter at 0.3", "one target left out", "training images changed",
         "training images swapped"]  # fmt: skip


# -- the study --------------------------------------------------------------------------------------------------------


class Study:
    """A folder with one detection, and a copy of it for each fake."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        controls = list_path("controls").read_text().splitlines()
        step = len(controls) // CONTROLS
        (folder / "controls.txt").write_text("\n".join(controls[::step][:CONTROLS]) + "\n")
        if not (folder / "references").exists():
            with atomic_folder(folder / "references") as copy:
                shutil.copytree(REFERENCES, copy, dirs_exist_ok=True)

    def detected(self, name: str, targets: Sequence[str]) -> Run:
        """A finished detection of some prompts."""
        (self.folder / f"{name}.txt").write_text("\n".join(targets) + "\n")
        values = DEMO["detect"] | {"num_samples": 6, "model": "demo", "references": str(self.folder / "references"),
                                   "controls": str(self.folder / "controls.txt"), "measure": "ssim",
                                   "tolerance": 0.5}  # fmt: skip
        settings = DetectSettings.model_validate(values)
        return flow.detect(str(self.folder / f"{name}.txt"), settings, self.folder / name, self.folder, [], QUIET)

    def copy_of(self, run: Run, name: str) -> Run:
        """A run of its own for a fake, made once."""
        place = self.folder / "fakes" / name.replace(" ", "-")
        if not place.exists():
            place.parent.mkdir(exist_ok=True)
            with atomic_folder(place) as copy:
                shutil.copytree(run.path, copy, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".lock", "after"))
                self._known_controls(run, copy)
        return Run.open(place)

    def _known_controls(self, run: Run, copy: Path) -> None:
        """What attacks force from the original model is the same for every fake."""
        known = run.path / "original"
        if known.exists():
            shutil.copytree(known, copy / "after", dirs_exist_ok=True)

    def trained(self, name: str, run: Run, **values: Any) -> Run:
        """An unlearning by plain.toml, with other values."""
        own = self.copy_of(run, name)
        preset = for_weights(DEMO["unlearn"], "lora") | {"reword": False} | values
        flow.unlearn(own, UnlearnSettings.model_validate(preset), [], QUIET)
        return Run.open(own.path)

    def recheck(self, name: str) -> list[Change]:
        """The changes that a re-check finds, of one fake. Raises MemfixError where it is refused."""
        base = self.detected("all", TARGETS)
        if name in MODELS:
            run = self.copy_of(base, name)
            return flow.recheck(run, RECHECK, [], QUIET, Changed(name=name, change=MODELS[name]))
        if name in TRAINED:
            run = self.trained(name, base, **TRAINED[name])
            return flow.recheck(run, RECHECK, [], QUIET)
        if name == "adapter at 0.3":
            honest, run = self.trained("honest", base), self.copy_of(base, name)
            weak = weakened(honest.path / "model", self.folder / "weak", 0.3)
            return flow.recheck(run, RECHECK, [], QUIET, NewWeights.of(run, [weak]))
        if name == "one target left out":
            rest = self.trained("three-targets", self.detected("three", TARGETS[1:]))
            run = self.copy_of(base, name)
            return flow.recheck(run, RECHECK, [], QUIET, NewWeights.of(run, [rest.path / "model"]))
        return self.tampered(name, base)

    def tampered(self, name: str, base: Run) -> list[Change]:
        """The original model, with training images that are not what they were."""
        run, folder = self.copy_of(base, name), self.folder / "references"
        shown = {v.reference for v in Detection.of(run).verdicts if v.verdict is Label.MEMORIZED}
        one, other = sorted(shown)[0], sorted(p.name for p in folder.glob("*.png") if p.name not in shown)[0]
        kept = {path: path.read_bytes() for path in (folder / one, folder / other)}
        try:
            (folder / one).write_bytes(kept[folder / other])
            if name == "training images swapped":
                (folder / other).write_bytes(kept[folder / one])
            return flow.recheck(run, RECHECK, [], QUIET, Changed(name=name))
        finally:
            for path, content in kept.items():
                path.write_bytes(content)

    def remember_original(self, run: Run) -> None:
        """Keep what attacks forced from the original model, for the fakes that follow."""
        known = self.folder / "all/original"
        if known.exists():
            return
        lines = [line for line in (run.path / "after/attacks.jsonl").read_text().splitlines()
                 if json.loads(line)["version"] == "before"]  # fmt: skip
        with atomic_folder(known) as copy:
            (copy / "attacks.jsonl").write_text("".join(f"{line}\n" for line in lines))
            shutil.copy(run.path / "after/control_pictures.jsonl", copy)
            shutil.copytree(run.path / "after/attacks", copy / "attacks")


def weakened(adapter: Path, folder: Path, strength: float) -> Path:
    """An adapter at less than its strength, as a file of its own."""
    folder.mkdir(exist_ok=True)
    with safe_open(adapter / FILE, "pt") as file:
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # a handle, no dict
        metadata = file.metadata()
    state = {key: strength * value if ".lora_B." in key or ".up." in key else value for key, value in state.items()}
    save_file(state, folder / FILE, metadata=metadata)
    return folder


def row(study: Study, name: str) -> dict[str, Any]:
    """What became of one fake."""
    started = time.monotonic()
    try:
        changes, refused = study.recheck(name), None
    except MemfixError as error:
        changes, refused = [], error.message.replace(str(study.folder), "FOLDER")
    targets = [c for c in changes if c.role is Role.PROMPT]
    if name == "one target left out":
        targets = targets[:1]
    attacked = study.folder / "fakes" / name.replace(" ", "-")
    if changes and (attacked / "after/attacks.jsonl").exists():
        study.remember_original(Run.open(attacked))
    return {
        "fake": name, "outcomes": dict(Counter(c.outcome.value for c in targets)),
        "controls": dict(Counter(c.outcome.value for c in changes if c.role is Role.CONTROL)),
        "reasons": sorted({c.reason for c in targets}), "refused": refused, "expected": name in REFUSED,
        "seconds": round(time.monotonic() - started), "commit": environment().commit,
    }  # fmt: skip


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    """All fakes, and whether any was believed."""
    table = Table("fake", "targets", "controls", "refused", title="Fake erasures, re-checked")
    for r in rows:
        cells = [", ".join(f"{n} {word}" for word, n in r[key].items()) for key in ("outcomes", "controls")]
        table.add_row(r["fake"], *cells, (r["refused"] or "")[:70])
    Console().print(table)
    fakes = [r for r in rows if r["fake"] != "honest"]
    believed = [r["fake"] for r in fakes if r["outcomes"].get("mitigated")]
    wrongly = [r["fake"] for r in fakes if bool(r["refused"]) != r["expected"]]
    print(f"{len(fakes)} fakes; called mitigated: {', '.join(believed) or 'none'}; "
          f"refused, or not, against expectation: {', '.join(wrongly) or 'none'}")  # fmt: skip


def main() -> None:
    """Do what is left, and print all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="*", choices=NAMES, default=NAMES)
    given = parser.parse_args()
    study = Study(given.folder)
    known = [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []
    done = {r["fake"] for r in known}
    for name in given.only:
        if name not in done:
            known.append(row(study, name))
            with RESULTS.open("a") as file:
                file.write(json.dumps(known[-1]) + "\n")
            print(name, known[-1]["outcomes"], known[-1]["refused"] or "", flush=True)
    print_table(known)


if __name__ == "__main__":
    main()
