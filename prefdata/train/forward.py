"""One micro-batch through the model: a loss per row and the numbers worth watching."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from prefdata.core.errors import PrefdataError
from prefdata.models.packing import Batch, collate
from prefdata.models.packing_logps import Head, segment_sums
from prefdata.train.data import Row
from prefdata.train.inputs import LogProbs, Ranked, Rewards, Tokens, Unpaired
from prefdata.train.memory import Memory
from prefdata.train.model import Loaded
from prefdata.train.objective import Given, Objective
from prefdata.train.reference import LookUp

TIE = 1e-4
"""Differences below this are rounding: float32 sums over a response vary by about as much with the batching."""
_Bundle = Callable[[Sequence[Row], Tensor, Tensor, LookUp | None], tuple[Given, dict[str, Tensor]]]


@dataclass(frozen=True)
class PerRow:
    """What a pass gives for B rows: the losses, and by name whatever `metrics.py` makes figures of, (B,) each."""

    loss: Tensor
    tokens: int
    values: Mapping[str, Tensor]


@dataclass(frozen=True)
class Forward:
    """The model, its head and the objective, as one function of some rows."""

    loaded: Loaded
    head: Head | None
    objective: Objective
    shared: bool
    memory: Memory = field(default_factory=Memory)
    """What the objective carries from step to step."""

    def rows(self, rows: Sequence[Row], reference: LookUp | None, batch: Mapping[str, Tensor] | None = None) -> PerRow:
        """Losses of some rows, with gradients where they are on.

        Args:
            rows: to compute together.
            reference: look-up of reference log-probs, for a loss that compares with them.
            batch: what `beside_batch` gave for the whole batch that these rows are part of.
        """
        if self.objective.kind == "reward":
            return self._rewards(rows)
        told = "rationale" in self.objective.handed
        further = [Row(row.id, row.beside[0], row.beside[1:]) for row in rows if row.beside] if told else []
        tensors = collate([*rows, *further], self.shared).to(self.loaded.device)
        values = self.response_logps(tensors)
        counts = [len(row.responses) for row in rows]
        sums = segment_sums(values, tensors.lengths)
        main = sum(counts)
        beside: dict[str, Any] = dict(batch or {})
        if told:
            beside["rationale"] = sums[main:]
        bundle: dict[str, _Bundle] = {"unpaired": self._unpaired, "ranked": self._ranked, "pairs": self._pairs}
        given, watched = bundle[self.objective.shape](rows, sums[:main], tensors.lengths[:main], reference)
        if "tokens" in self.objective.handed:
            beside["tokens"] = self._tokens(rows, torch.split(values, tensors.lengths.tolist())[:main], reference)
        return PerRow(self.objective.losses(given, beside).loss, tensors.tokens, watched)

    @torch.no_grad()
    def beside_batch(self, rows: Sequence[Row], reference: LookUp | None, size: int) -> dict[str, Tensor]:
        """What a loss takes that belongs to a whole batch, so that splitting the batch up changes nothing.

        Args:
            rows: all of the batch.
            reference: look-up of reference log-probs.
            size: rows computed at once.
        """
        handed = self.objective.handed
        found = {"shift": self._column(self.memory.shift)} if "shift" in handed else {}
        if "kl" in handed and reference is not None:
            drift = 0.0
            for start in range(0, len(rows), size):
                part = rows[start : start + size]
                batch = collate([Row(r.id, r.beside[0], r.beside[1:]) for r in part if r.beside], self.shared).to(self.loaded.device)
                sums = segment_sums(self.response_logps(batch), batch.lengths)
                drift += float((sums - self._column([reference(row)[-1] for row in part])).double().sum())
            found["kl"] = self._column(drift / len(rows))
        return found

    def remember(self, columns: Mapping[str, Sequence[Tensor]]) -> None:
        """Take what a finished step showed."""
        if "shift" in self.objective.handed:
            logp, ref, good = (torch.cat(list(columns[name])) for name in ("logp", "ref", "good"))
            self.memory.saw(self.objective.beta * (logp - ref), good)

    @torch.no_grad()
    def begin_epoch(self, rows: Sequence[Row]) -> None:
        """Find out anew who is of which type, where the objective asks it; at random before the first step."""
        if self.memory.membership is None or not self.memory.began:
            self.memory.began = True
            return
        self.loaded.model.eval()

        def gaps(part: Sequence[Row]) -> Tensor:
            found, _ = self.outputs(part)
            return found[0::2] - found[1::2]

        self.memory.expect(rows, gaps)

    def response_logps(self, batch: Batch[Row]) -> Tensor:
        """Log-probability of every response token of the batch, (T,), response after response."""
        if self.head is None:
            raise PrefdataError("a reward model has no token probabilities; dpo and its kin need a causal language model.")
        with self.loaded.precision():
            hidden = self.loaded.hidden(batch.input_ids, batch.position_ids, batch.mask)
            return self.head.logps(hidden[batch.predict], batch.targets)

    def outputs(self, rows: Sequence[Row]) -> tuple[Tensor, int]:
        """A reward model's numbers for every response of the rows, (S, D), and how many tokens that took."""
        if self.loaded.features is not None:
            found = self.loaded.features(rows)
            return self.loaded.model(found).float(), sum(row.length for row in rows)
        batch = collate(rows, self.shared).to(self.loaded.device)
        with self.loaded.precision():
            hidden = self.loaded.hidden(batch.input_ids, batch.position_ids, batch.mask)
            return self.loaded.core.score(hidden[batch.last]).float(), batch.tokens

    def _pairs(self, rows: Sequence[Row], sums: Tensor, lengths: Tensor, reference: LookUp | None) -> tuple[LogProbs, dict[str, Tensor]]:
        both, counts = sums.view(-1, 2), lengths.view(-1, 2)
        ref = None if reference is None else self._column([reference(row)[:2] for row in rows])
        lp = LogProbs(
            chosen=both[:, 0],
            rejected=both[:, 1],
            n_chosen=counts[:, 0],
            n_rejected=counts[:, 1],
            ref_chosen=None if ref is None else ref[:, 0],
            ref_rejected=None if ref is None else ref[:, 1],
            **self._labels(rows, "margin", "weight", "p", "tie"),
        )
        names = ("chosen", "rejected", "n_chosen", "n_rejected", "ref_chosen", "ref_rejected", "tie")
        return lp, {n: v for n in names if (v := getattr(lp, n)) is not None}

    def _unpaired(self, rows: Sequence[Row], sums: Tensor, lengths: Tensor, reference: LookUp | None) -> tuple[Unpaired, dict[str, Tensor]]:
        ref = None if reference is None else self._column([reference(row)[0] for row in rows])
        given = Unpaired(sums, lengths, self._column([float(row.good or 0) for row in rows]), ref, **self._labels(rows, "weight"))
        watched = {"logp": sums, "good": given.good, **({} if ref is None else {"ref": ref})}
        return given, watched

    def _ranked(self, rows: Sequence[Row], sums: Tensor, lengths: Tensor, reference: LookUp | None) -> tuple[Ranked, dict[str, Tensor]]:
        """Lists side by side, and for the figures the best response against the worst."""
        sizes = [len(row.responses) for row in rows]

        def padded(flat: Tensor) -> Tensor:
            return pad_sequence(list(torch.split(flat, sizes)), batch_first=True)

        number = self._column(sizes)[:, None]
        there = torch.arange(max(sizes), device=sums.device)[None] < number
        ref = None if reference is None else padded(self._column([x for row in rows for x in reference(row)[: len(row.responses)]]))
        scores = padded(self._column([score for row in rows for score in row.scores or ()]))
        given = Ranked(padded(sums), padded(lengths), scores, there, ref, **self._labels(rows, "weight"))
        last = number.long() - 1
        watched = _ordered(given, self.objective.per_token)
        for name, value in (("", given.logps), ("n_", given.n), ("ref_", given.ref)):
            if value is not None:
                watched |= {f"{name}chosen": value[:, 0], f"{name}rejected": value.gather(1, last)[:, 0]}
        return given, watched

    def _tokens(self, rows: Sequence[Row], parts: Sequence[Tensor], reference: LookUp | None) -> Tokens:
        """Log-probs token by token, both sides padded to one width."""

        def sides(flat: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
            whole = pad_sequence(list(flat), batch_first=True)
            return whole[0::2], whole[1::2]

        chosen, rejected = sides(parts)
        ref: tuple[Tensor | None, Tensor | None] = (None, None)
        weights: tuple[Tensor | None, Tensor | None] = (None, None)
        if reference is not None:
            ref = sides([self._column(x) for row in rows for x in reference.tokens(row)])
        if rows[0].token_weights is not None:
            weights = sides([self._column(x) for row in rows for x in row.token_weights or ()])
        return Tokens(chosen, rejected, *ref, *weights)

    def _rewards(self, rows: Sequence[Row]) -> PerRow:
        found, tokens = self.outputs(rows)
        size, many = len(rows[0].responses), self.objective.many
        sides = [found[i::size] if many else found[i::size, 0] for i in range(size)]
        labels = self._labels(rows, "margin", "weight", "p", "tie")
        given = Rewards(sides[0], sides[1] if size == 2 else None, **labels)
        scored = self.objective.losses(given, self.memory.beside(self.objective, rows, found))
        names = ("margin", "chosen", "rejected")
        watched = {name: value for name in names if (value := getattr(scored, name)) is not None}
        return PerRow(scored.loss, tokens, {**watched, **({"tie": labels["tie"]} if "tie" in labels else {})})

    def _labels(self, rows: Sequence[Row], *names: str) -> dict[str, Tensor]:
        """Columns of the rows; all rows have one or none."""
        return {name: self._column([getattr(row, name) for row in rows]) for name in names if getattr(rows[0], name) is not None}

    def _column(self, values: Any) -> Tensor:
        return torch.as_tensor(values, dtype=torch.float32, device=self.loaded.device)


def _ordered(given: Ranked, per_token: bool) -> dict[str, Tensor]:
    """How many of each list's comparisons the policy decides, and how many of them as the ranking does, (B,) each."""
    value = given.logps if given.ref is None else given.ratios
    value = value / given.n.clamp(min=1) if per_token else value
    gap = (value[:, :, None] - value[:, None, :]).masked_fill(~given.better, 0.0)
    return {"right": (gap > TIE).sum((1, 2)), "decided": (gap.abs() > TIE).sum((1, 2))}
