"""Unlearning against an attack: what is unlearned under a prompt alone comes back under another text embedding.

For every target a text embedding is kept alive. Before each step the embeddings of the step's targets are moved a few
Adam steps towards drawing the image to forget, and the step is then taken under them instead of under the prompt. The
attack is that of Finding DoRI (arXiv 2507.16880), whose adversarial fine-tuning runs it to its end before every outer
step; here it goes on from step to step and begins anew now and then, as in free adversarial training
(arXiv 1904.12843).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch

from memfix.models.conditioning import Conditioning
from memfix.models.denoiser import BACKWARD, Network
from memfix.models.prediction import expand, target
from memfix.models.room import Room
from memfix.unlearn.data.bank import Bank, Batch
from memfix.unlearn.data.draws import Draw
from memfix.unlearn.train.probe import Probe
from memfix.unlearn.train.ranks import Ranks

MOVES, POINTS = 5, 1  # Adam steps before a training step, and noisy points that each is taken on
RATES = (0.05, 0.1, 0.2)  # of Adam, by lot
SHORTEST, LONGEST = 40, 80  # Adam steps after which an embedding begins anew
STARTS = {"prompt": 0.5, "other text": 0.25, "noise": 0.125, "empty": 0.125}
SHORT_RATE, SHORT_STEPS = 0.1, 50  # of an attack from the prompt, for validations
SCALE = 1024.0  # of the loss, so that half precision keeps its gradient; Adam does not care


class NoisyPoints(NamedTuple):
    """Noisy latents, their timesteps, and what the network should answer; n of each."""

    noisy: torch.Tensor
    times: torch.Tensor
    wanted: torch.Tensor


class Adversary:
    """The embeddings of all targets of a bank with prompts; `network` is the one that is trained. A move that memory
    does not hold is taken in parts, which changes nothing.

    An embedding is used as it began before it is moved for the first time, so that the prompt itself, the empty one and
    others have their turn too. Only what a text is told in tokens is attacked. Of several ranks each moves the
    embeddings of some targets, `together` noisy points at once, and all ranks know all embeddings after it.
    """

    def __init__(self, bank: Bank, network: Network, together: int = 16, ranks: Ranks | None = None) -> None:
        if bank.texts is None:
            raise ValueError("a network without prompts has no embedding that could be attacked")
        self._bank, self._texts, self._ranks, self._room = bank, bank.texts, ranks or Ranks(), Room()
        self._network, self._together = self._room.network(network), together
        self._others = sorted({text for text, _ in bank.prior if text})
        self._probes: dict[int, Probe] = {}

    def __call__(self, passes: Sequence[Batch], draw: Draw) -> list[Batch]:
        """This rank's passes of a step, with each item under the embedding of its target.

        Embeddings of targets that are to be forgotten, in any rank's passes, are moved before.
        """
        own = {(i, chosen) for b in passes for i, chosen in zip(b.targets, b.from_forget.tolist(), strict=True)}
        wanted = set[tuple[int, bool]]().union(*self._ranks.gathered(own))
        forgotten = sorted({i for i, chosen in wanted if chosen})
        self._move([i for i in forgotten if self._alive(i, draw)], draw)
        for i in {i for i, _ in wanted} - self._probes.keys():
            self._begin(i, draw)
        return [self._attacked(batch) for batch in passes]

    def attack(self, places: Sequence[int], draw: Draw, points: int) -> list[Conditioning]:
        """A row for the target in each of these places: where a short attack leads to from its prompt, on the CPU.

        Each of its steps is taken on so many noisy points. The embeddings that are kept alive have no part in it.
        """
        found, together = [], max(1, self._together // points)
        for first in range(0, len(places), together):
            due = places[first : first + together]
            probes = [Probe.begun(self._row(self._bank.targets[i].text), SHORT_RATE, SHORT_STEPS, False) for i in due]
            self._move_together(due, probes, draw, SHORT_STEPS, points)
            told = replace(self._told(due), tokens=torch.cat([probe.tokens.detach() for probe in probes])).to("cpu")
            one = torch.eye(len(due), dtype=torch.bool)
            found += [told.pick(one[i]) for i in range(len(due))]
        return found

    def evaluations(self, targets: int) -> int:
        """How often a step asks the network about an item to move the embeddings of so many targets."""
        return targets * MOVES * POINTS * (1 + BACKWARD)

    def state(self) -> dict[str, torch.Tensor]:
        """All embeddings with what Adam knows of each, to be written into a checkpoint."""
        return {f"{i}/{name}": tensor for i, probe in self._probes.items() for name, tensor in probe.state().items()}

    def take_up(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on from what `state` gave."""
        parts: dict[str, dict[str, torch.Tensor]] = {}
        for key, tensor in state.items():
            whose, name = key.split("/")
            parts.setdefault(whose, {})[name] = tensor
        self._probes = {int(i): self._probe(part) for i, part in parts.items()}

    def _attacked(self, batch: Batch) -> Batch:
        """A batch under the embeddings as they are.

        Keep images stay under their own text where they are borrowed from another prompt, and where the embedding is
        near a text that has nothing to do with them: it would learn to give them.
        """
        if batch.forget.conditioning is None or batch.keep.conditioning is None:
            raise ValueError("the batch has no texts")
        probes = [self._probes[i] for i in batch.targets]
        told = replace(batch.forget.conditioning, tokens=torch.cat([probe.tokens.detach() for probe in probes]))
        stay = ~batch.alike | torch.tensor([probe.near_another for probe in probes], device=batch.alike.device)
        return replace(
            batch,
            forget=replace(batch.forget, conditioning=told),
            keep=replace(batch.keep, conditioning=batch.keep.conditioning.where(stay, told)),
        )

    def _alive(self, i: int, draw: Draw) -> bool:
        """Whether a target's embedding is there and goes on; else it begins, and is used as it is."""
        if i in self._probes and self._probes[i].alive:
            return True
        self._begin(i, draw)
        return False

    def _begin(self, i: int, draw: Draw) -> None:
        stream = draw.stream(f"embedding of target {i}")
        start = list(STARTS)[int(torch.multinomial(torch.tensor(list(STARTS.values())), 1, generator=stream))]
        if start == "other text" and self._others:
            tokens = self._row(self._others[int(torch.randint(len(self._others), (), generator=stream))])
        elif start == "empty":
            tokens = self._row(None)
        else:
            tokens = self._row(self._bank.targets[i].text)
        if start == "noise":
            tokens = torch.randn(tokens.shape, generator=stream).to(tokens)
        rate = RATES[int(torch.randint(len(RATES), (), generator=stream))]
        life = int(torch.randint(SHORTEST, LONGEST + 1, (), generator=stream))
        self._probes[i] = Probe.begun(tokens, rate, life, start != "prompt")

    def _row(self, text: str | None) -> torch.Tensor:
        return self._texts.stack([text]).tokens

    def _probe(self, state: Mapping[str, torch.Tensor]) -> Probe:
        return Probe.of(state, self._row(None).device)

    def _move(self, due: Sequence[int], draw: Draw) -> None:
        """Take the attack's next steps for some targets, each in one of the ranks; then all ranks know of all."""
        own = list(self._ranks.world.shard(due))
        together = max(1, self._together // POINTS)
        for first in range(0, len(own), together):
            now = own[first : first + together]
            self._move_together(now, [self._probes[i] for i in now], draw, MOVES, POINTS)
        for states in self._ranks.gathered({i: self._probes[i].state() for i in own}):
            self._probes |= {i: self._probe(state) for i, state in states.items() if i not in own}

    def _move_together(
        self, due: Sequence[int], probes: Sequence[Probe], draw: Draw, moves: int, points: int
    ) -> None:  # fmt: skip
        streams, moved = [draw.stream(f"attack on target {i}") for i in due], [probe.tokens for probe in probes]
        told = self._told(due)
        for _ in range(moves):
            now = partial(self._gradients, self._points(due, streams, points), told, moved)
            for probe, gradient in zip(probes, self._room.fit(now, len(due) * points), strict=True):
                probe.move(gradient)

    def _told(self, due: Sequence[int]) -> Conditioning:
        return self._texts.stack([self._bank.targets[i].text for i in due])

    def _points(self, due: Sequence[int], streams: Sequence[torch.Generator], points: int) -> NoisyPoints:
        """So many noisy points of images of each target."""
        schedule, clean, t, noise = self._bank.schedule, list[torch.Tensor](), list[int](), list[torch.Tensor]()
        for i, stream in zip(due, streams, strict=True):
            for _ in range(points):
                own = self._bank.targets[i].forget
                clean.append(own[int(torch.randint(len(own), (), generator=stream))])
                t.append(int(torch.randint(len(schedule), (), generator=stream)))
                noise.append(torch.randn(clean[-1].shape, generator=stream))
        pictures, times, eps = torch.stack(clean), torch.tensor(t), torch.stack(noise)
        signal, scale = schedule.signal_scale[times], schedule.noise_scale[times]
        noisy = expand(signal.float(), pictures) * pictures + expand(scale.float(), pictures) * eps
        return NoisyPoints(noisy, times, target(noisy, pictures, signal, scale, schedule.prediction_type))

    def _gradients(
        self, drawn: NoisyPoints, told: Conditioning, moved: Sequence[torch.Tensor]
    ) -> tuple[torch.Tensor, ...]:  # fmt: skip
        """By the embeddings: of the scaled sum over points of the mean square of the error of the answers."""
        rows = replace(told, tokens=torch.cat(list(moved))).repeat_interleave(len(drawn.times) // len(moved))
        answer = self._network(drawn.noisy, drawn.times, rows)
        error = (answer.float() - drawn.wanted.to(answer.device)).square().flatten(1).mean(1).sum()
        return torch.autograd.grad(SCALE * error, list(moved))
