"""Judge: one model ranks all responses of a prompt at once."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from prefdata.core.errors import BadValue, Unreadable
from prefdata.core.judging import fields_in, question, rationale, read, schema, talk, together, words
from prefdata.core.method import method
from prefdata.core.protocols import Ask
from prefdata.core.rows import Abstained, Choice, Group, Judged, Score, Verdict
from prefdata.core.templates import fence, load


@dataclass(frozen=True)
class _Ranked:
    """One ranking: the place of each response in what was shown (0 first), and its share of the others beaten."""

    places: Sequence[int]
    shares: Sequence[float]
    ranks: Sequence[int]
    said: str | None
    raw: str


@method(
    version=1,
    subject="prompt",
    paper="list-wise ranking; RankGPT, arXiv:2304.09542",
    prompt_file=("prompts/listwise.txt", "prompts/ranking.txt", "prompts/common.txt"),
    calls="shuffles",
)
async def listwise(
    group: Group,
    ask: Ask,
    seed: int,
    *,
    gives: Literal["scores", "pairs"] = "scores",
    shuffles: int = 1,
    most: int = 16,
    reasons: bool = True,
    structured: bool = False,
    template: Path | None = None,
    temperature: float | None = 0.0,
    max_tokens: int = 2048,
) -> list[Judged] | Abstained:
    """All responses of a prompt ranked in one call, as a score for each or a verdict on every pair.

    The score is the share of the other responses that a response beats, half for those it equals: 1 for the best, 0 for the
    worst. The order shown is drawn from the seed and the prompt; positions and ranks stand in scores, one for each shuffle.
    A verdict's strength is the difference of the two scores. Abstains on more than `most` responses.

    Args:
        gives: a score for each response, or a verdict on each pair of them.
        shuffles: rankings to ask for; every second one shows the responses in reverse of the one before, and scores are means
            over all.
        most: longest list that a model is trusted with; sort_pairs takes longer ones.
        reasons: let the model reason first and keep that as the rationale.
        structured: hold the model to a JSON schema, where its server can (OpenAI, vLLM, SGLang).
        template: a prompt file of your own with the places {conversation} and {responses}, and, if you want our words there,
            {count}, {material} and {answer}.
        temperature: of the sampling; null where a model takes none.
        max_tokens: longest reply.
    """
    if shuffles < 1:
        raise BadValue("listwise: shuffles", shuffles, "a whole number from 1")
    count = len(group.responses)
    if count > most:
        return Abstained(f"the prompt has {count} responses, more than the {most} that are ranked at once")
    common, parts = load(__file__, "prompts/common.txt"), load(__file__, "prompts/ranking.txt")

    async def rank(shuffle: int) -> _Ranked:
        order = random.Random(f"{seed}:{group.id}:{shuffle // 2}").sample(range(count), count)
        order = order[::-1] if shuffle % 2 else order
        tail = "_json" if structured else ""
        wanted = ["reasons" + tail] if reasons else [] if structured else ["no_reasons"]
        messages = question(
            load(__file__, "prompts/listwise.txt", template),
            conversation=talk(group.prompt),
            count=str(count),
            responses="\n\n".join(fence(group.responses[at].text, f"response_{n}") for n, at in enumerate(order, 1)),
            material=words(common, "material"),
            answer=words(parts, *wanted, "ranking" + tail),
        )
        extra: dict[str, Any] = {"response_format": _schema(reasons)} if structured else {}
        reply = await ask(messages, temperature=temperature, max_tokens=max_tokens, **extra)
        groups = read(reply, lambda text: _ranking(text, count))
        places = [order.index(at) for at in range(count)]
        better = [sum(len(ahead) for ahead in groups[: _group_of(groups, place + 1)]) for place in places]
        equal = [len(groups[_group_of(groups, place + 1)]) - 1 for place in places]
        shares = [(count - 1 - ahead - same / 2) / (count - 1) for ahead, same in zip(better, equal, strict=True)]
        return _Ranked(places, shares, [ahead + 1 for ahead in better], rationale(reply.text) if reasons else None, reply.text)

    ranked = await together([rank(shuffle) for shuffle in range(shuffles)])
    raw = ranked[0].raw if shuffles == 1 else json.dumps([one.raw for one in ranked], ensure_ascii=False)
    if gives == "scores":
        return [Judged(response, _score(ranked, at, count, raw)) for at, response in enumerate(group.responses)]
    by_id = sorted(range(count), key=lambda at: group.responses[at].id)  # as the store orders the two of a pair
    return [Judged((group.responses[i], group.responses[j]), _verdict(ranked, i, j, raw)) for i, j in combinations(by_id, 2)]


def _score(ranked: Sequence[_Ranked], at: int, count: int, raw: str) -> Score:
    said = [f"(shown as response {one.places[at] + 1}) {one.said}" for one in ranked if one.said]
    scores = {"ranks": [one.ranks[at] for one in ranked], "shown": [one.places[at] + 1 for one in ranked], "of": count}
    return Score(sum(one.shares[at] for one in ranked) / len(ranked), scores, "\n\n".join(said) or None, raw)


def _verdict(ranked: Sequence[_Ranked], i: int, j: int, raw: str) -> Verdict:
    """What the rankings say about two responses; a is i, b is j."""
    by_order: dict[str, list[float]] = {"ab": [], "ba": []}
    for one in ranked:
        by_order["ab" if one.places[i] < one.places[j] else "ba"].append(one.shares[i] - one.shares[j])
    gap = sum(map(sum, by_order.values())) / len(ranked)
    orders = {order: _choice(sum(gaps)) for order, gaps in by_order.items() if gaps}
    said = [f"(a was response {one.places[i] + 1}, b response {one.places[j] + 1}) {one.said}" for one in ranked if one.said]
    scores: dict[str, Any] = {
        "ranks_a": [one.ranks[i] for one in ranked],
        "ranks_b": [one.ranks[j] for one in ranked],
        "shown_a": [one.places[i] + 1 for one in ranked],
        "shown_b": [one.places[j] + 1 for one in ranked],
        "orders": orders,
        "flipped": set(orders.values()) == {"a", "b"},
    }
    shown = "both" if len(orders) == 2 else next(iter(orders))
    return Verdict(_choice(gap), gap, scores, "\n\n".join(said) or None, shown, raw)


def _choice(gap: float) -> Choice:
    return "a" if gap > 1e-9 else "b" if gap < -1e-9 else "tie"


def _group_of(groups: Sequence[Sequence[int]], number: int) -> int:
    return next(at for at, members in enumerate(groups) if number in members)


def _ranking(text: str, count: int) -> list[list[int]]:
    """Groups of numbers from best to worst; every response has to be in exactly one."""
    held = fields_in(text).get("ranking")
    if isinstance(held, str):  # 2 > 1 = 3
        held = [re.split("[=,]", part) for part in held.split(">")]
    if not isinstance(held, list):
        raise Unreadable("the reply's JSON has no ranking", text)
    groups = []
    for members in held:
        found = [re.fullmatch(r"\D*(\d+)\D*", str(one)) for one in (members if isinstance(members, list) else [members])]
        groups.append([int(number[1]) if number else 0 for number in found])
    if sorted(number for members in groups for number in members) != list(range(1, count + 1)):
        raise Unreadable(f"the reply does not rank each of {count} responses once", text)
    return [members for members in groups if members]


def _schema(reasons: bool) -> dict[str, Any]:
    ranking = {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}}
    return schema("ranking", {**({"reasons": {"type": "string"}} if reasons else {}), "ranking": ranking})
