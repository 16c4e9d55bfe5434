"""Validations of a model during its training: samples of targets and controls, and losses on fixed noisy points."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from PIL import Image

from memfix.config.unlearn import UnlearnSettings
from memfix.measures.pixels import rms_difference
from memfix.models.conditioning import Conditioning
from memfix.models.denoiser import Network
from memfix.models.replicas import drawn_batches
from memfix.models.sampling import batches, plan_samples
from memfix.quality import broken_share, detail_range
from memfix.records import SAME, Prompt, Score, Validation
from memfix.unlearn.data.bank import Bank, Items
from memfix.unlearn.data.draws import Draw
from memfix.unlearn.data.sampler import Sampler
from memfix.unlearn.objective.terms import View, errors

FIRST_SEED = 10_000_000  # neither checks nor attacks go so far
ROOM = 64  # seeds of a target in a validation, of which it uses a few
MOST_CONTROLS = 8  # more say little more of a mean drift
POINTS = 64  # noisy points of each side
NOISED_TO = 0.75  # of the timesteps, for samples that begin at a picture: what little is given of it then
SKEW_FLOOR = 1e-3  # in the skew, from MUCS (arXiv 2605.17938)


class Monitor:
    """Validates after any step. Make it before the weights move: it remembers what they gave then.

    Every validation draws its targets from noise of its own, and its controls always from the same, so that they differ
    only by what training did. A validation depends on the weights and on its number alone.
    """

    def __init__(
        self, sample: Sampler, network: Network, bank: Bank, targets: Sequence[Prompt], controls: Sequence[Prompt],
        before: Sequence[Score], settings: UnlearnSettings, reference_detail: tuple[float, float] | None = None,
    ) -> None:  # fmt: skip
        self._sample, self._network, self._bank = sample, network, bank
        self._targets, self._settings = targets, settings
        self._controls = spread(controls, MOST_CONTROLS)
        self._steps = min(settings.validation_inference_steps, sample.settings.num_inference_steps)
        self._before, scores = self._draw(self._controls, 1, 0)
        self._diversity = self._two_seeds()
        self._range = detail_range([*before, *scores], reference_detail)
        self._loss_forget, self._loss_keep = self._losses()

    def __call__(
        self, step: int, looked: Sequence[str] | None = None, each: int | None = None, before: int = 0
    ) -> Validation:
        """What can be seen after a step, with `each` samples of the targets with these ids; of all, by default.

        `before` is how many other targets were looked at after the same step.
        A disputed sample counts as a copy, since nothing may be called forgotten that a witness still sees.
        """
        started, each = time.monotonic(), each or self._settings.num_validation_images
        looked = [p.id for p in self._targets] if looked is None else looked
        copies, scores = self.sampled(step, looked, each, before=before)
        now, control_scores = self._draw(self._controls, 1, 0)
        drifts = [rms_difference(a, b) for a, b in zip(self._before, now, strict=True)]
        forget, keep = self._losses()
        return Validation(
            step=step, copies=copies, samples=each, drift=sum(drifts) / len(drifts) if drifts else None,
            diversity=self._diversity, broken=broken_share(control_scores, self._range) if now else None,
            broken_targets=broken_share(scores, self._range) if scores else 0.0, shapeless=self._shapeless(scores),
            loss_keep=_mean(keep), loss_forget=_mean(forget),
            skew_keep=_mean(skew(self._loss_keep, keep)), skew_forget=_mean(skew(self._loss_forget, forget)),
            seconds=round(time.monotonic() - started, 3),
        )  # fmt: skip

    def sampled(
        self, number: int, looked: Sequence[str], each: int, instead: Mapping[str, Conditioning] | None = None,
        given: Mapping[str, Image.Image] | None = None, before: int = 0,
    ) -> tuple[dict[str, int], list[Score]]:  # fmt: skip
        """Copies of each target with these ids, disputed ones too, and the scores of its samples, whose noise no other
        `number` has, nor those of as many targets as came `before` these under this one.

        `instead` holds what takes the place of what is told of a target's text, and `given` pictures that its samples
        begin at, noised.
        """
        targets = [p for p in self._targets if p.id in looked]
        skipped = number * ROOM * len(self._targets) + before * each
        _, scores = self._draw(targets, each, skipped, instead, given)
        return _copies(targets, scores), scores

    def shares(
        self, prompts: Sequence[Prompt], each: int, given: Mapping[str, Image.Image] | None = None
    ) -> dict[str, float]:
        """Of each prompt, by its id, the share of copies among `each` samples, which may begin at pictures, noised."""
        _, scores = self._draw(prompts, each, 0, given=given)
        return {i: n / each for i, n in _copies(prompts, scores).items()}

    def _shapeless(self, scores: Sequence[Score]) -> dict[str, int]:
        """How many samples of a target are no pictures, for those that have such samples."""
        return dict(Counter(s.prompt_id for s in scores if broken_share([s], self._range)))

    def evaluations(self, targets: int, each: int) -> int:
        """How often a validation asks the network for an answer to one item, for so many targets."""
        guided = 2 if self._sample.settings.guidance_scale > 1 else 1
        return (targets * each + len(self._controls)) * self._steps * guided

    def _two_seeds(self) -> float | None:
        """By how much two samples of a control differ, as root mean square; None without controls."""
        others, _ = self._draw(self._controls, 1, len(self._controls))
        differences = [rms_difference(a, b) for a, b in zip(self._before, others, strict=True)]
        return sum(differences) / len(differences) if differences else None

    def _draw(
        self, prompts: Sequence[Prompt], each: int, skipped: int, instead: Mapping[str, Conditioning] | None = None,
        given: Mapping[str, Image.Image] | None = None,
    ) -> tuple[list[Image.Image], list[Score]]:  # fmt: skip
        """`each` samples of every prompt, no two of any from the same noise: some noise gives copies of all of them."""
        detected, first = self._sample.settings, FIRST_SEED + skipped
        plan = [
            sample
            for i, p in enumerate(prompts)
            for sample in plan_samples(
                [p],
                range(first + i * each, first + (i + 1) * each),
                steps=self._steps,
                guidance=detected.guidance_scale,
            )
        ]
        told = {(i, SAME): conditioning for i, conditioning in (instead or {}).items()}
        pictures: list[Image.Image] = []
        scores: list[Score] = []
        plans, precision, model = batches(plan, detected.batch_size), detected.mixed_precision, self._sample.model
        rounded = "no" if self._settings.use_dora else precision  # DoRA reads frozen weights in full
        with model.together(), model.denoiser.in_halves(rounded):
            drawn = (
                drawn_batches(model, plans, precision, told) if given is None
                else ((b, model.sample_from([given[s.prompt_id] for s in b], b, NOISED_TO, precision)) for b in plans)
            )  # fmt: skip
            for batch, images in drawn:
                pictures += images
                scores += self._sample.judge.score(batch, images)
        return pictures, scores

    @torch.no_grad()
    def _losses(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Errors per dimension of forget and of keep items, always at the same points; [n] each."""
        prior = POINTS if self._bank.prior else 0
        batch = self._bank.draw(Draw(purpose="validations"), POINTS, prior, 1.0, (0, len(self._bank.schedule)))
        keep = batch.keep.join(batch.prior) if prior else batch.keep
        return self._errors(batch.forget), self._errors(keep) if self._bank.has_keep else torch.zeros(0)

    def _errors(self, items: Items) -> torch.Tensor:
        view, size = View(self._bank.schedule.prediction_type), self._settings.train_batch_size
        found = []
        for i in range(0, len(items), size):
            chosen = torch.zeros(len(items), dtype=torch.bool)
            chosen[i : i + size] = True
            found.append(errors(items.pick(chosen), self._network, view).cpu())
        return torch.cat(found) / items.clean[0].numel()


def skew(before: torch.Tensor, now: torch.Tensor) -> torch.Tensor:
    """(now - before) / (now + before + 0.001) of losses at the same noisy points, [n]; from MUCS (arXiv 2605.17938)."""
    return (now - before) / (now + before + SKEW_FLOOR)


def spread(prompts: Sequence[Prompt], most: int) -> list[Prompt]:
    """At most so many of them, from all over the list."""
    return [prompts[int(i)] for i in np.linspace(0, len(prompts) - 1, min(most, len(prompts)))]


def _copies(prompts: Sequence[Prompt], scores: Sequence[Score]) -> dict[str, int]:
    """Copies among the samples of each prompt, disputed ones too."""
    copies = dict.fromkeys((p.id for p in prompts), 0)
    for score in scores:
        copies[score.prompt_id] += score.copy_ or bool(score.accused)
    return copies


def _mean(values: torch.Tensor) -> float | None:
    return float(values.mean()) if len(values) and values.isfinite().all() else None
