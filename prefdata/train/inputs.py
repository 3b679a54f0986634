"""What losses and heads are handed, and the checks they share.

A method's first argument is one of the bundles below, by name: `lp` (LogProbs: pairs), `unpaired` (Unpaired: single
responses, good or bad), `ranked` (Ranked: lists, best first), `rewards` (Rewards: a reward model's outputs). What stands
between it and the `*` is handed in by name, too:

    tokens      Tokens: log-probs token by token, and the tokens' weights
    rationale   (B,) summed log-prob of the pair's rationale behind its question
    kl          scalar: how far the policy is from the reference on mismatched responses (KTO)
    shift       scalar: running mean of the implicit reward (BCO)
    wanted      pair of (B, D): the attributes' scores of both responses, NaN where unknown
    draws       (B, D): how often each ensemble member drew the row
    membership  (B, D): probability that the row's annotator is of each type, from the last pass over the data
    taste       (B, D): the annotator's weights over the outputs, learnt with the model

Log-probs are natural, SUMMED over the response's tokens (its end-of-turn token included).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from prefdata.core.errors import BadValue, PrefdataError


@dataclass(frozen=True)
class LogProbs:
    """Log-probabilities of the chosen and the rejected response under the policy and the reference, (B,) each."""

    chosen: Tensor
    rejected: Tensor
    n_chosen: Tensor
    n_rejected: Tensor
    ref_chosen: Tensor | None = None
    ref_rejected: Tensor | None = None
    margin: Tensor | None = None
    """How much better the chosen one was judged, in the labels' own scale."""
    weight: Tensor | None = None
    """Multiplied onto the loss by the loop; a loss does not read it."""
    p: Tensor | None = None
    """Probability that the chosen one is better, in [0, 1]."""
    tie: Tensor | None = None
    """1 where the two are equally good (which of them is called chosen then means nothing), else 0."""

    @property
    def a(self) -> Tensor:
        """Log-ratio of the chosen response, policy over reference (nats, summed)."""
        return self.chosen - _reference(self.ref_chosen)

    @property
    def b(self) -> Tensor:
        """Log-ratio of the rejected response."""
        return self.rejected - _reference(self.ref_rejected)

    @property
    def m(self) -> Tensor:
        """Margin of the log-ratios, a - b."""
        return self.a - self.b


@dataclass(frozen=True)
class Tokens:
    """Log-probs token by token, (B, T) each, 0 behind a response's end."""

    chosen: Tensor
    rejected: Tensor
    ref_chosen: Tensor | None = None
    ref_rejected: Tensor | None = None
    weight_chosen: Tensor | None = None
    """Weight of each token, NaN outside the marked spans."""
    weight_rejected: Tensor | None = None

    @property
    def a(self) -> Tensor:
        """Log-ratios of the chosen response's tokens (B, T)."""
        return self.chosen - _reference(self.ref_chosen)

    @property
    def b(self) -> Tensor:
        """Log-ratios of the rejected response's tokens (B, T)."""
        return self.rejected - _reference(self.ref_rejected)


@dataclass(frozen=True)
class Unpaired:
    """Single responses, each good or bad, (B,) each."""

    logp: Tensor
    n: Tensor
    good: Tensor
    """1 or 0."""
    ref: Tensor | None = None
    weight: Tensor | None = None

    @property
    def ratio(self) -> Tensor:
        """Log-ratio, policy over reference (nats, summed)."""
        return self.logp - _reference(self.ref)


@dataclass(frozen=True)
class Ranked:
    """Up to K responses to one prompt, the best first, (B, K) each; what is beyond a row's own number is masked."""

    logps: Tensor
    n: Tensor
    scores: Tensor
    """Higher is better; equal scores are a tie, and tied responses are not compared."""
    there: Tensor
    """True where the row has such a response."""
    ref: Tensor | None = None
    weight: Tensor | None = None

    @property
    def ratios(self) -> Tensor:
        """Log-ratios, policy over reference (nats, summed)."""
        return self.logps - _reference(self.ref)

    @property
    def better(self) -> Tensor:
        """(B, K, K): True at [k, j] where response k is better than j."""
        both = self.there[:, :, None] & self.there[:, None, :]
        return both & (self.scores[:, :, None] > self.scores[:, None, :])


@dataclass(frozen=True)
class Rewards:
    """A reward model's outputs for the chosen and the rejected response: (B,) where it has one, else (B, D).

    Rows that hold one response (scored ones, for a regression) have no rejected side.
    """

    chosen: Tensor
    rejected: Tensor | None
    margin: Tensor | None = None
    weight: Tensor | None = None
    p: Tensor | None = None
    tie: Tensor | None = None

    @property
    def both(self) -> tuple[Tensor, Tensor]:
        """Chosen and rejected, for a head that compares them."""
        if self.rejected is None:
            raise PrefdataError("this head compares two responses and the rows hold one; export pairs.")
        return self.chosen, self.rejected


@dataclass(frozen=True)
class Scored:
    """What a head gives, (B,) each: the loss, and the rewards it stands for.

    A head that compares responses without giving either a reward has no `chosen` and `rejected`; rows of one response
    have no `margin`.
    """

    loss: Tensor
    margin: Tensor | None
    """By how much the chosen one is preferred, as log-odds."""
    chosen: Tensor | None = None
    rejected: Tensor | None = None


def _reference(value: Tensor | None) -> Tensor:
    if value is None:
        raise PrefdataError("this loss compares with a reference and got no reference log-probs; its header must name them in `needs`.")
    return value


def column(value: Tensor | None, loss: str, name: str, what: str, instead: str) -> Tensor:
    """A label column that the loss cannot do without."""
    if value is None:
        raise PrefdataError(f"{loss} reads the column {name} ({what}) and the export has none; export it, or train {instead}.")
    return value


def above_zero(name: str, value: float) -> float:
    """A strength such as beta: at 0 the loss has no gradient."""
    if not value > 0:
        raise BadValue(name, value, "a number above 0")
    return value


def at_least_zero(name: str, value: float) -> float:
    if not value >= 0:
        raise BadValue(name, value, "a number of at least 0")
    return value


def flip_rate(name: str, value: float) -> float:
    """A share of wrong labels; at 0.5 labels say nothing, above it they say the opposite."""
    if not 0 <= value < 0.5:
        raise BadValue(name, value, "a share from 0 to below 0.5")
    return value


def share(name: str, value: float) -> float:
    """A part of a whole."""
    if not 0 <= value <= 1:
        raise BadValue(name, value, "a share from 0 to 1")
    return value


def soft_labels(lp: LogProbs | Rewards) -> Tensor:
    """`p`, or 1 for every pair where the export has no such column."""
    return torch.ones_like(lp.chosen) if lp.p is None else lp.p
