"""What looks at a model during a training: prompts sampled again and again, and what they are compared with."""

from __future__ import annotations

from collections.abc import Sequence

from memfix.config.unlearn import UnlearnSettings
from memfix.flow.control_pictures import never_copied
from memfix.flow.detection import Detection
from memfix.inputs.opening import open_image
from memfix.recheck.attacks.compare import MOST_FORCED
from memfix.records import Label, Prompt, Role
from memfix.references.groups import representatives
from memfix.unlearn.data.bank import Bank
from memfix.unlearn.data.sampler import Sampler
from memfix.unlearn.train.attacked import ToBeNoised
from memfix.unlearn.train.validation import NOISED_TO, Monitor

CLEAN_PICTURES, CLEAN_SAMPLES = 8, 8  # that the model before training is asked to complete, and how often
CAPTION_SAMPLES = 4  # of the caption of each of twice as many, since one that is memorized is not clean


def new_monitor(
    detection: Detection, sample: Sampler, bank: Bank, ids: Sequence[str], settings: UnlearnSettings, precision: str
) -> Monitor:
    """A monitor of the bank's targets, whose `ids` are given, and of prompts that were clean: controls, if there are
    any, else other prompts of the list, else those whose pictures are held. Make it before the weights move."""
    prompts = {p.id: p for p in detection.prompts}
    clean = {v.prompt_id for v in detection.verdicts if v.verdict is Label.CLEAN and v.samples}
    unharmed = [p for p in detection.prompts if p.id in clean]
    held = dict.fromkeys(text for text, _ in bank.prior if text)
    controls = (
        [p for p in unharmed if p.role is Role.CONTROL]
        or unharmed
        or [Prompt(id=f"prior{n:04d}", text=text) for n, text in enumerate(held)]
    )
    if not controls:
        sample.talk.warn(
            "No control or other prompt is clean, so validation sees other pictures suffer only in samples of the "
            "empty prompt. Detect with --controls."
        )
        controls = [Prompt(id="empty", text="")]
    network = sample.model.denoiser.network(precision)
    before, detail = detection.scores, detection.stage.reference_detail
    return Monitor(sample, network, bank, [prompts[i] for i in ids], controls, before, settings, detail)


def to_be_noised(detection: Detection, monitor: Monitor, ids: Sequence[str], settings: UnlearnSettings) -> ToBeNoised:
    """The training image that most of a target's copies show, for looks at what the model makes of it with noise on it;
    the weights have not moved yet.

    As in the re-check, a target gives more than clean training images do where at most MOST_FORCED of them give as
    large a share of copies; an image whose caption gives copies is none of these, whatever the list asks for. There are
    no pictures where clean images always give copies, or where there are none.
    """
    listed = never_copied(detection, representatives(detection.references))[: 2 * CLEAN_PICTURES]
    images = {Prompt(id=f"clean{n:04d}", text=r.text): r.path for n, r in enumerate(listed)}
    steps = min(settings.validation_inference_steps, detection.settings.num_inference_steps)
    if not images or steps * NOISED_TO < 1:
        return ToBeNoised()
    asked = monitor.shares(list(images), CAPTION_SAMPLES)
    clean = [p for p in images if not asked[p.id]][:CLEAN_PICTURES]
    if not clean:
        return ToBeNoised()
    given = {p.id: open_image(images[p]) for p in clean}
    shares = sorted(monitor.shares(clean, CLEAN_SAMPLES, given).values(), reverse=True)
    forced = shares[int(MOST_FORCED * len(shares))]
    if forced == 1:
        return ToBeNoised()
    return ToBeNoised({i: open_image(detection.shown[i].path) for i in ids if i in detection.shown}, forced)
