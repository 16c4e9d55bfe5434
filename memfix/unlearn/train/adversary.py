"""Unlearning against an attack: what is unlearned under a prompt alone comes back under another text embedding.

For every target a text embedding is kept alive. Before each step the embeddings of the step's targets are moved a few
Adam steps towards drawing the image to forget, and the step is then taken under them instead of under the prompt. The
attack is that of Finding DoRI (arXiv 2507.16880), whose adversarial fine-tuning runs it to its end before every outer
step; here it goes on from step to step and begins anew now and then, as in free adversarial training
(arXiv 1904.12843).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from memfix.models.conditioning import Conditioning
from memfix.models.denoiser import Network
from memfix.models.prediction import expand, target
from memfix.unlearn.data.bank import Bank, Batch
from memfix.unlearn.data.draws import Draw

MOVES, POINTS = 5, 1  # Adam steps before a training step, and noisy points that each is taken on
RATES = (0.05, 0.1, 0.2)  # of Adam, by lot
SHORTEST, LONGEST = 40, 80  # Adam steps after which an embedding begins anew
STARTS = {"prompt": 0.5, "other text": 0.25, "noise": 0.125, "empty": 0.125}
NEAR = 20  # Adam steps that lead away from a text which is not the target's own
SCALE = 1024.0  # of the loss, so that half precision keeps its gradient; Adam does not care
MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass
class Probe:
    """An embedding that is optimized for one target's image: where it stands, and for how long it goes on.

    `foreign`: it began elsewhere than at the target's own prompt.
    """

    tokens: torch.Tensor
    optimizer: torch.optim.Adam
    life: int
    foreign: bool
    age: int = 0

    @property
    def near_another(self) -> bool:
        """Whether it still is next to a text that means something else."""
        return self.foreign and self.age < NEAR


class Adversary:
    """The embeddings of all targets of a bank with prompts; `network` is the one that is trained.

    An embedding is used as it began before it is moved for the first time, so that the prompt itself, the empty one and
    others have their turn too. Only what a text is told in tokens is attacked.
    """

    def __init__(self, bank: Bank, network: Network) -> None:
        if bank.texts is None:
            raise ValueError("a network without prompts has no embedding that could be attacked")
        self._bank, self._network, self._texts = bank, network, bank.texts
        self._others = sorted({text for text, _ in bank.prior if text})
        self._probes: dict[int, Probe] = {}

    def __call__(self, batch: Batch) -> Batch:
        """The batch with each item under the embedding of its target, moved before if the item is to be forgotten.

        Keep images stay under their own text where they are borrowed from another prompt, and where the embedding is
        near a text that has nothing to do with them: it would learn to give them.
        """
        if batch.forget.conditioning is None or batch.keep.conditioning is None:
            raise ValueError("the batch has no texts")
        attacked = sorted({i for i, chosen in zip(batch.targets, batch.from_forget.tolist(), strict=True) if chosen})
        due = [i for i in attacked if self._alive(i, batch.draw)]
        if due:
            self._move(due, batch.draw)
        for i in set(batch.targets) - self._probes.keys():
            self._begin(i, batch.draw)
        probes = [self._probes[i] for i in batch.targets]
        told = replace(batch.forget.conditioning, tokens=torch.cat([probe.tokens.detach() for probe in probes]))
        stay = ~batch.alike | torch.tensor([probe.near_another for probe in probes], device=batch.alike.device)
        return replace(
            batch,
            forget=replace(batch.forget, conditioning=told),
            keep=replace(batch.keep, conditioning=batch.keep.conditioning.where(stay, told)),
        )

    def state(self) -> dict[str, torch.Tensor]:
        """All embeddings with what Adam knows of each, to be written into a checkpoint."""
        found: dict[str, torch.Tensor] = {}
        for i, probe in self._probes.items():
            rate = probe.optimizer.param_groups[0]["lr"]
            numbers = [rate, probe.life, probe.foreign, probe.age]
            found[f"{i}/numbers"] = torch.tensor(numbers, dtype=torch.float64)
            found[f"{i}/tokens"] = probe.tokens.detach()
            moments = probe.optimizer.state.get(probe.tokens, {})
            found |= {f"{i}/{name}": moments[name] for name in MOMENTS if name in moments}
        return found

    def take_up(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on from what `state` gave."""
        self._probes = {}
        for i in sorted({int(key.split("/")[0]) for key in state}):
            rate, life, foreign, age = state[f"{i}/numbers"].tolist()
            probe = _probe(state[f"{i}/tokens"].to(self._row("").device), rate, int(life), bool(foreign))
            probe.age = int(age)
            if probe.age:
                moments = {name: state[f"{i}/{name}"] for name in MOMENTS} | {"step": torch.tensor(float(age))}
                groups = probe.optimizer.state_dict()["param_groups"]
                probe.optimizer.load_state_dict({"state": {0: moments}, "param_groups": groups})
            self._probes[i] = probe

    def _alive(self, i: int, draw: Draw) -> bool:
        """Whether a target's embedding is there and goes on; else it begins, and is used as it is."""
        probe = self._probes.get(i)
        if probe is not None and probe.age < probe.life:
            return True
        self._begin(i, draw)
        return False

    def _begin(self, i: int, draw: Draw) -> None:
        stream = draw.stream(f"embedding of target {i}")
        start = list(STARTS)[int(torch.multinomial(torch.tensor(list(STARTS.values())), 1, generator=stream))]
        if start == "other text" and self._others:
            tokens = self._row(self._others[int(torch.randint(len(self._others), (), generator=stream))])
        elif start == "empty":
            tokens = self._row("")
        else:
            tokens = self._row(self._bank.targets[i].text)
        if start == "noise":
            tokens = torch.randn(tokens.shape, generator=stream).to(tokens)
        rate = RATES[int(torch.randint(len(RATES), (), generator=stream))]
        life = int(torch.randint(SHORTEST, LONGEST + 1, (), generator=stream))
        self._probes[i] = _probe(tokens, rate, life, start != "prompt")

    def _row(self, text: str) -> torch.Tensor:
        return self._texts.stack([text]).tokens

    def _move(self, due: list[int], draw: Draw) -> None:
        """Take the attack's next steps for some targets at once."""
        probes, schedule = [self._probes[i] for i in due], self._bank.schedule
        stream, moved = draw.stream("attack"), [probe.tokens for probe in probes]
        told = self._texts.stack([self._bank.targets[i].text for i in due])
        for _ in range(MOVES):
            pictures = [self._bank.targets[i].forget for i in due for _ in range(POINTS)]
            chosen = [own[int(torch.randint(len(own), (), generator=stream))] for own in pictures]
            clean, t = torch.stack(chosen), torch.randint(len(schedule), (len(chosen),), generator=stream)
            noise = torch.randn(clean.shape, generator=stream)
            signal, scale = schedule.signal_scale[t], schedule.noise_scale[t]
            noisy = expand(signal.float(), clean) * clean + expand(scale.float(), clean) * noise
            wanted = target(noisy, clean, signal, scale, schedule.prediction_type)
            answer = self._network(noisy, t, self._under(told, moved))
            loss = SCALE * (answer - wanted.to(answer)).square().flatten(1).mean(1).sum()
            for probe, gradient in zip(probes, torch.autograd.grad(loss, moved), strict=True):
                probe.tokens.grad = gradient
                probe.optimizer.step()
                probe.tokens.grad, probe.age = None, probe.age + 1

    @staticmethod
    def _under(told: Conditioning, moved: list[torch.Tensor]) -> Conditioning:
        """Each row as often as it has points, with the tokens that are moved."""
        return replace(told, tokens=torch.cat(moved)).repeat_interleave(POINTS)


def _probe(tokens: torch.Tensor, rate: float, life: int, foreign: bool) -> Probe:
    moved = tokens.detach().clone().float().requires_grad_()
    return Probe(moved, torch.optim.Adam([moved], lr=rate), life, foreign)
