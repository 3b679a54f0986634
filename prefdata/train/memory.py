"""What an objective carries from step to step beside the weights: a running mean, and who the annotators are.

`state` goes into every checkpoint, so that a run which goes on takes the same path.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prefdata.train.data import Row
from prefdata.train.objective import Objective

TASTE_RATE = 0.01
"""Learning rate of the annotators' weights, whatever the model's is (LoRe's)."""


@dataclass
class Memory:
    """The state of one run's objective."""

    seed: int = 0
    people: dict[str, int] = field(default_factory=dict)
    """Annotator -> row of the tables below."""
    taste: nn.Parameter | None = None
    """(people, D) logits of everybody's weights, learnt (lore)."""
    membership: Tensor | None = None
    """(people, D) probabilities of each type (mixture)."""
    began: bool = False
    """Whether an epoch has begun."""
    rewards: Tensor = field(default_factory=lambda: torch.zeros(2, 2, dtype=torch.float64))
    """Sum and number of the implicit rewards so far, of bad and of good responses (bco)."""

    @classmethod
    def of(cls, objective: Objective, rows: Sequence[Row], seed: int, device: torch.device) -> Memory:
        """The memory at the start of a run over these rows."""
        memory = cls(seed)
        memory.people = {name: i for i, name in enumerate(sorted({row.annotator for row in rows if row.annotator is not None}))}
        if "taste" in objective.handed:
            memory.taste = nn.Parameter(torch.zeros(len(memory.people), objective.outputs, device=device))
        if "membership" in objective.handed:
            draws = [_random(seed, name).dirichlet(np.ones(objective.outputs)) for name in memory.people]
            memory.membership = torch.tensor(np.array(draws), dtype=torch.float32, device=device)
        return memory

    @property
    def state(self) -> dict[str, Tensor]:
        """What a checkpoint keeps; the taste is among the trained weights."""
        own = {"rewards": self.rewards, "began": torch.tensor(self.began)}
        return own if self.membership is None else {**own, "membership": self.membership}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Put a checkpoint's state back."""
        self.rewards, self.began = state["rewards"], bool(state["began"])
        if self.membership is not None:
            self.membership = state["membership"].to(self.membership.device)

    # The running mean of the implicit reward

    @property
    def shift(self) -> float:
        """Mean of the mean rewards of good and of bad responses so far; 0 before there are any."""
        means = [float(total / number) for total, number in self.rewards if number]
        return sum(means) / len(means) if means else 0.0

    def saw(self, rewards: Tensor, good: Tensor) -> None:
        """Take the implicit rewards of a finished step."""
        for side in (0, 1):
            part = rewards[good == side].double()
            self.rewards[side] += torch.tensor([float(part.sum()), float(len(part))], dtype=torch.float64)

    # Annotators

    def beside(self, objective: Objective, rows: Sequence[Row], like: Tensor) -> dict[str, Any]:
        """What heads are handed about the rows, (B, D) each, on the device of `like`."""
        found: dict[str, Any] = {}
        for name in objective.handed:
            if name == "draws":
                found[name] = self._draws(rows, objective.outputs).to(like)
            elif name == "wanted":
                sides = zip(*(row.wanted or () for row in rows), strict=True)
                found[name] = tuple(torch.tensor(side, dtype=like.dtype, device=like.device) for side in sides)
            elif name in ("taste", "membership"):
                table = self.shares
                everybody = table.mean(0, keepdim=True)
                index = [self.people.get(row.annotator or "", len(self.people)) for row in rows]
                found[name] = torch.cat([table, everybody])[torch.tensor(index, device=table.device)]
        return found

    @property
    def shares(self) -> Tensor:
        """Everybody's weights over the outputs, (people, D); each row sums to 1."""
        if self.taste is not None:
            return F.softmax(self.taste, dim=-1)
        return self.membership if self.membership is not None else torch.zeros(0, 1)

    def _draws(self, rows: Sequence[Row], members: int) -> Tensor:
        """How often each member's bootstrap sample holds the row; 1 where nothing is learnt."""
        if not torch.is_grad_enabled():
            return torch.ones(len(rows), members)
        return torch.tensor(np.array([_random(self.seed, row.id).poisson(1.0, members) for row in rows]), dtype=torch.float32)

    def expect(self, rows: Sequence[Row], gaps: Callable[[Sequence[Row]], Tensor]) -> None:
        """The E-step: everybody's membership from how well each type's reward explains all of their pairs.

        Args:
            rows: all training rows.
            gaps: (B, D) reward gaps of some rows, without gradient.
        """
        if self.membership is None or not len(self.membership):
            return
        fit = torch.zeros_like(self.membership, dtype=torch.float64)
        number = torch.zeros(len(fit), dtype=torch.float64, device=fit.device)
        for start in range(0, len(rows), 256):
            part = [row for row in rows[start : start + 256] if row.annotator in self.people]
            index = torch.tensor([self.people[row.annotator or ""] for row in part], device=fit.device)
            fit.index_add_(0, index, F.logsigmoid(gaps(part)).double())
            number.index_add_(0, index, torch.ones(len(part), dtype=torch.float64, device=fit.device))
        prior = self.membership.double().mean(0).clamp(min=1e-6).log()
        found = F.softmax(prior + fit, dim=-1)
        worst = (fit.amax(-1) / number.clamp(min=1)).argsort()
        for reseeded, empty in enumerate(int(k) for k in (found.sum(0) < 0.5).nonzero()[:, 0]):
            if reseeded < len(worst):
                found[worst[reseeded]] = F.one_hot(torch.tensor(empty), found.shape[1]).to(found)
        self.membership = found.float()


def fit_taste(gaps: Tensor, steps: int = 1000) -> Tensor:
    """A new annotator's weights over shared rewards from a few of their pairs, (D,), the rewards held (LoRe, few-shot).

    Args:
        gaps: (N, D) outputs of the response they preferred minus those of the other one.
        steps: of Adam, at LoRe's rate.
    """
    logits = torch.zeros(gaps.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=TASTE_RATE)
    for _ in range(steps):
        loss = -F.logsigmoid(gaps.double() @ F.softmax(logits, dim=-1)).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return F.softmax(logits.detach(), dim=-1).float()


def _random(seed: int, name: str) -> np.random.Generator:
    """Random numbers of a name's own, the same in every run with the seed."""
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return np.random.default_rng([seed, int.from_bytes(digest, "little")])
