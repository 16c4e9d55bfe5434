"""The unlearning loop: yields a record a step, and never learns the name of the method.

The caller owns logging, progress, saving and stopping.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import nn

from memfix.config.unlearn import STAYS, UnlearnSettings
from memfix.errors import MemfixError
from memfix.models.denoiser import BACKWARD, Network
from memfix.models.device import autocast_dtype, memory_for, tf32
from memfix.models.room import Room
from memfix.records import Step
from memfix.unlearn.data.bank import Bank, Batch
from memfix.unlearn.data.draws import Draw
from memfix.unlearn.objective.combine import Combined
from memfix.unlearn.objective.importance import forget_sensitivity, keep_fisher
from memfix.unlearn.objective.methods import Method, check_data, window
from memfix.unlearn.objective.modifiers import Mask, ParameterPrior, parameter_group, salient, with_first_factors
from memfix.unlearn.objective.terms import View
from memfix.unlearn.train.adversary import Adversary
from memfix.unlearn.train.averages import Averages
from memfix.unlearn.train.gradients import Gradients
from memfix.unlearn.train.ranks import Ranks

ALONE = Ranks()
LOSS_SCALE, LEAST_SCALE = 2.0**16, 2.0**-16  # of losses in fp16; powers of two leave all digits alone


class Trainer:
    """Takes optimizer steps on a network's weights, which are given by name; iterate over it for a record of each.

    Each step's draws come from a generator of their own, so a step does not depend on how the run got there. The
    forget gradient is combined with the keep gradient once both are complete, over the accumulated passes of all
    `ranks`: n ranks of m passes take the step of one rank of n m passes. Their weights are whole, or sharded by torch's
    `fully_shard`.
    `checkpoints`, two or more state dicts of the model, say how far each weight may move where a prior on the weights
    is in use; without them the keep images do. With `original`, prior items are held to its answers instead of to
    their pictures. With an `adversary` mixture items are under its embeddings instead of under their prompts. `room` is
    what memory holds at once, for a network that heeds it; a pass that does not fit is taken again in parts.

    In fp16 losses are scaled while gradients are made, and a step whose gradients overflow is taken again, scaled half
    as much. Trained weights stay fp32 in every precision.

    `rate` is a factor of the learning rate. Images of the targets in the places `active` are forgotten, of all if it is
    None; where it is empty a step only keeps. `cooling`, if it is set, is from which step to which the rate falls to 0.
    In an open loop training ends there, and also once the forget term is where the method wants it, `reached`; in a
    closed one the caller ends it.

    Raises MemfixError, before anything is trained, if the bank lacks what the method needs.
    """

    cooling: tuple[int, int] | None = None
    rate = 1.0
    active: tuple[int, ...] | None = None
    reached = False

    def __init__(
        self, network: Network, weights: Mapping[str, nn.Parameter], bank: Bank, method: Method,
        settings: UnlearnSettings, mixed_precision: str, checkpoints: Sequence[Mapping[str, torch.Tensor]] = (),
        original: Network | None = None, ranks: Ranks = ALONE, adversary: Adversary | None = None,
        room: Room | None = None,
    ) -> None:  # fmt: skip
        if not settings.max_train_steps:
            raise ValueError("the number of steps is not settled: give max_train_steps, or UnlearnSettings.settled()")
        composition = method.compose(settings)
        self._strength = composition.parameter_prior if settings.parameter_prior is None else settings.parameter_prior
        check_data(method, bank, bool(checkpoints), self._strength > 0)
        self._window = window(settings, len(bank.schedule))
        self.step, self.settings, self.original, self._ranks, self.adversary = 0, settings, original, ranks, adversary
        self.loss_scale = LOSS_SCALE if autocast_dtype(mixed_precision) is torch.float16 else 1.0
        self.weights = parameter_group(weights, settings.parameter_group)
        self.parameters = list(self.weights.values())
        self._bank, self._composition, self._network = method.prepare(bank, settings), composition, network
        self._view = View(
            bank.schedule.prediction_type,
            settings.forget_low_pass,
            settings.snr_gamma,
            settings.resolved_prior_weight(),
            original,
        )
        self.room = room or Room()
        self._mask = self._find_mask()
        self._prior = self._find_prior(checkpoints) if self._strength else None
        decay = 0.0 if self._mask else settings.adam_weight_decay
        self._gradients = Gradients(composition, self.parameters, network, self._view, ranks, self.room)
        self.optimizer = adam(self.parameters, settings.resolved_learning_rate(), decay, settings.use_8bit_adam)
        self.averages = Averages(self.parameters) if settings.use_ema else None

    def __iter__(self) -> Iterator[Step]:
        while self.step < self.last:
            self._ranks.shared((self.step, self.cooling, self.rate, self.active))
            yield self._advance()

    def follow(self) -> None:
        """Take the steps that the first rank takes, until it shares None."""
        while order := self._ranks.shared(None):
            self.step, self.cooling, self.rate, self.active = order
            self._advance()

    @property
    def last(self) -> int:
        """The step at which training ends, as far as is known now."""
        if self.settings.closed:
            return self.settings.max_train_steps
        if self.reached:
            return self.step
        return self.cooling[1] if self.cooling else self.settings.max_train_steps

    def evaluations(self, targets: int) -> int:
        """About how often this rank asks a network about an item in a step in which the images of so many targets are
        forgotten; a pass backward counts as two forward."""
        s, mixture = self.settings, self._composition.mixture(self.settings.mixture)
        prior = 0 if mixture == 1 else s.prior_batch_size
        held = prior + round((1 - mixture) * self._bank.reworded * s.train_batch_size) if self.original else 0
        against = self.adversary.evaluations(min(round(mixture * s.train_batch_size), targets)) if self.adversary else 0
        return s.gradient_accumulation_steps * ((1 + BACKWARD) * (s.train_batch_size + prior) + held) + against

    def finish(self) -> None:
        """Turn the weights into what is to be saved: their moving averages, if these are kept."""
        if self.averages:
            self.averages.copy_to(self.parameters)

    @contextmanager
    def finished(self) -> Iterator[None]:
        """The weights as `finish` would leave them, for a while."""
        if self.averages:
            self.averages.store(self.parameters)
        self.finish()
        try:
            yield
        finally:
            if self.averages:
                self.averages.restore(self.parameters)

    def _advance(self) -> Step:
        """Take a step. Raises MemfixError if the GPU has too little memory for it."""
        with memory_for("in a training step", less_memory(self.settings, self._ranks.sharded)), tf32():
            return self._take_step()

    def _take_step(self) -> Step:
        started, settings = time.monotonic(), self.settings
        now = self.rate * settings.resolved_learning_rate() * lr_factor(self.step, settings)
        if self.cooling:
            start, end = self.cooling
            now *= (end - self.step) / (end - start)
        for group in self.optimizer.param_groups:
            group["lr"] = now

        batches = self._draw()
        loss_keep, loss_forget, norms = self._scaled_gradients(batches)
        self.reached = self._enough(batches, loss_forget)
        if self._prior:
            self._prior.pull(self.parameters, self._strength)
        if self._mask:
            self._mask.apply(self.parameters)
            self._mask.decay(self.parameters, now * settings.adam_weight_decay)
        nn.utils.clip_grad_norm_(self.parameters, settings.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.averages:
            self.averages.step(self.parameters)
        self.step += 1
        return Step(
            step=self.step, loss_keep=loss_keep, loss_forget=loss_forget, norm_keep=norms.norm_keep,
            norm_forget=norms.norm_forget, scale=norms.scale, learning_rate=now, seconds=time.monotonic() - started,
        )  # fmt: skip

    @property
    def _only_keeps(self) -> bool:
        return self.active == ()

    def _scaled_gradients(self, batches: Sequence[Batch]) -> tuple[float, float, Combined]:
        """The step's gradients, at the highest scale of the losses so far that lets them be finite."""
        scaled = self.loss_scale != 1
        while True:
            self.optimizer.zero_grad(set_to_none=True)
            loss_keep, loss_forget, norms = self._gradients(batches, self.loss_scale, not self._only_keeps)
            finite = math.isfinite(norms.norm_keep + norms.norm_forget)
            if finite or not scaled or not math.isfinite(loss_keep + loss_forget) or self.loss_scale <= LEAST_SCALE:
                return loss_keep, loss_forget, norms
            self.loss_scale /= 2

    def _draw(self) -> list[Batch]:
        """This rank's batches of a step. Prior items serve the keep side; without such a side none are drawn."""
        s, ranks = self.settings, self._ranks
        n, mixture = s.gradient_accumulation_steps * ranks.world.world_size, self._composition.mixture(s.mixture)
        mixture = 0 if self._only_keeps else mixture
        prior = 0 if mixture == 1 else s.prior_batch_size
        draws = [Draw(s.train_seed, self.step * n + i) for i in ranks.world.shard(range(n))]
        sizes = (s.train_batch_size, prior, mixture, self._window, self.active)
        batches = [self._bank.draw(draw, *sizes) for draw in draws]
        if self.adversary:
            batches = self.adversary(batches, Draw(s.train_seed, self.step, "adversary"))
        return [replace(b, prior=self._view.held(b.prior)) if len(b.prior) and self.original else b for b in batches]

    def _enough(self, passes: Sequence[Batch], loss_forget: float) -> bool:
        """Whether the forget term is where the method wants it, in a step of all ranks; never if it does not say.

        Against an adversary it never is: what is forgotten under these embeddings is not under the next ones.
        """
        enough = self._composition.enough
        if enough is None or self.adversary or self._only_keeps:
            return False
        return loss_forget >= self._ranks.mean(sum(float(enough(b, self._view)) for b in passes) / len(passes))

    def _find_mask(self) -> Mask | None:
        if self.settings.saliency is None:
            return None
        about = self._bank, self.parameters, self._network, self._view.whole, self._window, self.settings.train_seed
        sensitivity = self.room.fit(lambda: forget_sensitivity(*about), 1)
        self._ranks.average(sensitivity)  # or rounding may give each a mask of its own, and weights of its own
        return Mask(salient(list(self.weights), sensitivity, self.settings.saliency))

    def _find_prior(self, checkpoints: Sequence[Mapping[str, torch.Tensor]]) -> ParameterPrior:
        if checkpoints:
            return ParameterPrior.from_checkpoints(self.weights, checkpoints)
        about = self._bank, self.parameters, self._network, self._view.whole, self.settings.train_seed
        fisher = self.room.fit(lambda: keep_fisher(*about), 1)
        self._ranks.average(fisher)
        return ParameterPrior.from_fisher(self.parameters, with_first_factors(list(self.weights), fisher))


def adam(parameters: list[nn.Parameter], rate: float, decay: float, eight_bit: bool) -> torch.optim.Optimizer:
    """AdamW. Raises MemfixError when its state is to have 8 bits and bitsandbytes is missing."""
    if not eight_bit:
        return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay, fused=True)
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError:
        raise MemfixError(
            "--use-8bit-adam needs bitsandbytes, which is not installed.", "Install it: pip install 'memfix[8bit]'."
        ) from None
    optimizer: torch.optim.Optimizer = AdamW8bit(parameters, lr=rate, weight_decay=decay)
    return optimizer


def less_memory(settings: UnlearnSettings, sharded: bool = False) -> str:
    """What to change about settings where not even a single item fits; only what is not in use yet.

    Gradient checkpointing is tried by itself, but for weights that are sharded.
    """
    ways = []
    if sharded and not settings.gradient_checkpointing:
        ways.append("Give --gradient-checkpointing.")
    if settings.weights == "full":
        if settings.prior_batch_size and settings.prior_target == "model":
            ways.append("Give --prior-target picture.")
        ways.append("Train a LoRA (--lora)." if settings.use_8bit_adam else "Give --use-8bit-adam, or train a LoRA.")
    return " ".join(ways) or "Close other programs that use the GPU, or take a larger one."


def lr_factor(step: int, settings: UnlearnSettings) -> float:
    """The learning rate at a step, as a share of its full value."""
    rise = min(1.0, (step + 1) / (settings.lr_warmup_steps + 1))
    done = step / max(1, settings.max_train_steps)
    if settings.closed or settings.lr_scheduler in STAYS:
        return rise
    return rise * (1 - done if settings.lr_scheduler == "linear" else 0.5 * (1 + math.cos(math.pi * done)))
