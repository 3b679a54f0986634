"""Acquire: the set of pairs that gains most from people, and from an AI, within a budget of minutes and dollars."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from prefdata.core import hybrid
from prefdata.core.method import method
from prefdata.core.routing import Column


@method(
    version=1,
    subject="pair",
    needs=("pair_id", "source", "prompt", "a_text", "b_text"),
    paper="Hybrid Preferences: Miranda et al. 2025 (2410.19133)",
)
def hybrid_route(
    rows: pl.DataFrame,
    seed: int,
    *,
    minutes: float = 60.0,
    usd: float = 0.0,
    seconds: float = 60.0,
    seconds_per_1000_chars: float = 0.0,
    usd_each: float = 0.0,
    ai: Sequence[str] = (),
    features: Sequence[Column] = (),
    human_accuracy: float = 1.0,
    least: int = 30,
    enough: int = 1,
) -> pl.DataFrame:
    """Who answers what: people where the AI's label is likely wrong, the AI where there is no label yet, within both budgets.

    From pairs with a label by people and one by the AI a logistic regression learns when the two differ: lengths, likeness of
    the responses, words of the prompt, what the machines said. Expected gain of a person's label is human_accuracy less the
    chance that the pair's label is right now (0 without one); of an AI's label, for pairs without one, the chance that it will
    be right. The set with the largest sum of gains within the budgets is chosen; priority is a pair's gain, in right labels.
    The paper learns from hundreds of reward models trained on random mixtures instead. Until `least` pairs have both labels,
    pairs are drawn by chance.

    Args:
        minutes: people's time.
        usd: dollars for AI labels.
        seconds: of a person's time that any pair takes.
        seconds_per_1000_chars: and that its texts take to read, prompt and both responses together.
        usd_each: what an AI label costs.
        ai: annotators or kinds whose plurality is the AI's label; none named: every machine.
        features: further numbers of a pair to learn from, such as signals, by name.
        human_accuracy: chance that a person's label is the right one; 1 takes people at their word.
        least: pairs with both labels to learn from, 10 or more.
        enough: pairs with at least so many votes by people are not sent to people again.
    """
    budget = hybrid.Budget(minutes, usd, seconds, seconds_per_1000_chars, usd_each)
    routed = hybrid.route(rows, seed, budget, ai=ai, features=features, human_accuracy=human_accuracy, least=least, enough=enough)
    return routed.queue
