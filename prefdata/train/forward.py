"""One micro-batch through the model: losses per pair and the numbers worth watching."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from prefdata.core.errors import PrefdataError
from prefdata.train.batch import Batch, collate
from prefdata.train.data import Row
from prefdata.train.inputs import LogProbs, Rewards
from prefdata.train.logps import Head, segment_sums
from prefdata.train.model import Loaded
from prefdata.train.objective import Objective


@dataclass(frozen=True)
class PerPair:
    """(B,) each. Policies: log-probs (summed, nats). Reward models: rewards, and no reference."""

    loss: Tensor
    chosen: Tensor
    rejected: Tensor
    ref_chosen: Tensor | None
    ref_rejected: Tensor | None
    n_chosen: Tensor
    n_rejected: Tensor
    tokens: int


@dataclass(frozen=True)
class Forward:
    """The model, its head and the objective, as one function of some pairs."""

    loaded: Loaded
    head: Head | None
    objective: Objective
    shared: bool

    def pairs(self, rows: Sequence[Row], reference: Callable[[Row], tuple[float, float]] | None) -> PerPair:
        """Losses of some pairs, with gradients where they are on."""
        batch = collate(rows, self.shared).to(self.loaded.device)
        ref = None if reference is None else self._column([reference(row) for row in rows])
        if self.objective.kind == "reward":
            return self._rewards(batch)
        values, counts = self.response_logps(batch), batch.lengths.view(-1, 2)
        sums = segment_sums(values, batch.lengths).view(-1, 2)
        lp = LogProbs(
            chosen=sums[:, 0],
            rejected=sums[:, 1],
            n_chosen=counts[:, 0],
            n_rejected=counts[:, 1],
            ref_chosen=None if ref is None else ref[:, 0],
            ref_rejected=None if ref is None else ref[:, 1],
            margin=self._label(rows, "margin"),
            weight=self._label(rows, "weight"),
            p=self._label(rows, "p"),
        )
        return PerPair(
            self.objective.losses(lp), lp.chosen, lp.rejected, lp.ref_chosen, lp.ref_rejected, lp.n_chosen, lp.n_rejected, batch.tokens
        )

    def response_logps(self, batch: Batch) -> Tensor:
        """Log-probability of every response token of the batch, (T,), response after response."""
        if self.head is None:
            raise PrefdataError("a reward model has no token probabilities; dpo and its kin need a causal language model.")
        with self.loaded.precision():
            hidden = self.loaded.hidden(batch.input_ids, batch.position_ids, batch.mask)
            return self.head.logps(hidden[batch.predict], batch.targets)

    def _rewards(self, batch: Batch) -> PerPair:
        with self.loaded.precision():
            hidden = self.loaded.hidden(batch.input_ids, batch.position_ids, batch.mask)
            rewards = self.loaded.core.score(hidden[batch.last]).float().view(-1, 2)
        given = Rewards(
            chosen=rewards[:, 0],
            rejected=rewards[:, 1],
            margin=self._label(batch.rows, "margin"),
            weight=self._label(batch.rows, "weight"),
            p=self._label(batch.rows, "p"),
        )
        counts = batch.lengths.view(-1, 2)
        losses = self.objective.losses(given)
        return PerPair(losses, given.chosen, given.rejected, None, None, counts[:, 0], counts[:, 1], batch.tokens)

    def _label(self, rows: Sequence[Row], name: str) -> Tensor | None:
        """A per-pair column; all rows have it or none."""
        values = [getattr(row, name) for row in rows]
        return None if values[0] is None else self._column(values)

    def _column(self, values: Sequence[object]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=self.loaded.device)
