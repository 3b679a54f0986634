"""Judge: one model compares two responses several times, and the share of its votes is the strength."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from prefdata.core.errors import BadValue, Unreadable
from prefdata.core.judging import Comparison, Order, same_text, together
from prefdata.core.method import method
from prefdata.core.protocols import Ask
from prefdata.core.rows import Choice, Pair, Verdict
from prefdata.core.templates import load


@method(
    version=1,
    subject="pair",
    paper="self-consistency, arXiv:2203.11171, over verdicts",
    prompt_file=("prompts/pairwise.txt", "prompts/common.txt"),
    calls="n",
)
async def self_consistency(
    pair: Pair,
    ask: Ask,
    *,
    n: int = 6,
    both_orders: bool = True,
    unreadable: Literal["fail", "leave_out"] = "fail",
    ties: bool = True,
    reasons: bool = True,
    structured: bool = False,
    template: Path | None = None,
    temperature: float = 0.7,
    top_p: float = 1.0,
    max_tokens: int = 1024,
) -> Verdict:
    """What one model says most often about two responses; strength is (votes for a - votes for b) / votes.

    The choice with most votes wins, and two with equally many are a tie. The votes stand in scores.votes, and what was said
    most in each order in scores.orders. Raising n buys the new draws only.

    Args:
        n: draws per pair.
        both_orders: show the responses in either order in turn; an even n gives both orders the same weight.
        unreadable: a draw that cannot be read makes the pair fail, or is left out and counted in scores.unread; where none can
            be read, the pair fails.
        ties: whether the model may call a tie.
        reasons: let the model reason before it decides; the rationale is that of the first draw that says what won.
        structured: hold the model to a JSON schema, where its server can (OpenAI, vLLM, SGLang).
        template: a prompt file of your own with the places {conversation}, {response_a}, {response_b}, and, if you want our
            words there, {material} and {answer}.
        temperature: of the sampling; at 0 all draws of one order are the same.
        top_p: nucleus of the sampling, 0 to 1.
        max_tokens: longest reply.
    """
    if n < 1:
        raise BadValue("self_consistency: n", n, "a whole number from 1")
    if (same := same_text(pair)) is not None:
        return same
    form = Comparison(
        load(__file__, "prompts/pairwise.txt", template),
        load(__file__, "prompts/common.txt"),
        {"temperature": temperature, "top_p": top_p, "max_tokens": max_tokens},
        reasons=reasons,
        ties=ties,
        structured=structured,
    )
    unread: list[Unreadable] = []

    async def draw(number: int) -> Verdict | None:
        order: Order = "ba" if both_orders and number % 2 else "ab"
        try:
            return await form.once(ask, pair, order, sample=number)
        except Unreadable as error:
            unread.append(error)
            return None

    drawn = [verdict for verdict in await together([draw(number) for number in range(n)]) if verdict is not None]
    if unread and (unreadable == "fail" or not drawn):
        raise unread[0]
    return _counted(drawn, len(unread))


def _counted(drawn: Sequence[Verdict], unread: int) -> Verdict:
    votes = Counter(verdict.choice for verdict in drawn)
    won = _most(drawn)
    orders = {order: _most(among) for order in ("ab", "ba") if (among := [verdict for verdict in drawn if verdict.shown == order])}
    return Verdict(
        won,
        (votes["a"] - votes["b"]) / len(drawn),
        {
            "votes": {choice: votes[choice] for choice in ("a", "b", "tie")},
            "share": votes[won] / len(drawn),
            "orders": orders,
            "flipped": set(orders.values()) == {"a", "b"},
            **({"unread": unread} if unread else {}),
        },
        next((verdict.rationale for verdict in drawn if verdict.choice == won), None),
        "both" if len(orders) == 2 else next(iter(orders)),
        json.dumps([verdict.raw for verdict in drawn], ensure_ascii=False),
    )


def _most(drawn: Sequence[Verdict]) -> Choice:
    """The choice with most votes; a tie where two share the lead."""
    votes = Counter(verdict.choice for verdict in drawn).most_common(2)
    return votes[0][0] if len(votes) == 1 or votes[0][1] > votes[1][1] else "tie"
