"""Judge: two advocates argue for a response each, and a judge decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from prefdata.core.errors import BadValue, Unreadable
from prefdata.core.judging import ORDERS, Comparison, question, same_text, talk, together, words
from prefdata.core.method import method
from prefdata.core.protocols import Ask
from prefdata.core.rows import Abstained, Pair, Response, Verdict
from prefdata.core.templates import fence, load
from prefdata.core.verdicts import both

Rounds = list[tuple[str, str]]
"""What the advocates of a and of b said, round by round."""


@method(
    version=1,
    subject="pair",
    paper="debate, arXiv:2402.06782; as a judge in The Fellowship of the LLMs, arXiv:2408.08688",
    prompt_file=("prompts/debate_advocate.txt", "prompts/debate_judge.txt", "prompts/common.txt"),
    calls="2 * rounds + (2 if both_orders else 1)",
)
async def debate(
    pair: Pair,
    ask: Ask,
    advocate: Ask | None = None,
    *,
    rounds: int = 1,
    both_orders: bool = True,
    on_flip: Literal["tie", "abstain"] = "tie",
    ties: bool = True,
    levels: Literal[1, 2, 3] = 1,
    reasons: bool = True,
    structured: bool = False,
    advocate_template: Path | None = None,
    template: Path | None = None,
    temperature: float | None = 0.0,
    max_tokens: int = 1024,
) -> Verdict | Abstained:
    """Which of two responses is better, decided by a model after two advocates have argued over it.

    In every round both advocates speak at once, knowing what was said in the rounds before. They know their response as
    their own and not as A or B, so one debate serves both orders. Their speeches stand in scores.debate, round by round,
    as [for a, for b]. The recipe may hand in a model for the advocates: {ask: judge, advocate: other}; else the judge's is used.

    Args:
        rounds: how often each advocate speaks.
        both_orders: let the judge read twice, with either response first.
        on_flip: what a verdict becomes that changes side with the order: a tie, or an abstention.
        ties: whether the judge may call a tie.
        levels: degrees of better to tell apart: 1 asks for none, 2 (slightly, clearly) or 3 (and much) give a strength.
        reasons: let the judge reason first and keep that as the rationale.
        structured: hold the judge to a JSON schema, where its server can (OpenAI, vLLM, SGLang).
        advocate_template: a prompt file of your own for the advocates with the places {conversation}, {mine}, {other} and
            {debate}, and, if you want our words there, {material}.
        template: a prompt file of your own for the judge with the places {conversation}, {response_a}, {response_b} and
            {debate}, and, if you want our words there, {material} and {answer}.
        temperature: of the sampling; null where a model takes none.
        max_tokens: longest reply.
    """
    if rounds < 1:
        raise BadValue("debate: rounds", rounds, "a whole number from 1", "Without a debate, use pairwise.")
    if (same := same_text(pair)) is not None:
        return same
    sampling: dict[str, Any] = {"temperature": temperature, "max_tokens": max_tokens}
    common = load(__file__, "prompts/common.txt")
    speaker = load(__file__, "prompts/debate_advocate.txt", advocate_template)
    said = await _argue(pair, advocate or ask, rounds, speaker, words(common, "material"), sampling)
    form = Comparison(
        load(__file__, "prompts/debate_judge.txt", template),
        common,
        sampling,
        reasons=reasons,
        ties=ties,
        levels=levels,
        structured=structured,
    )
    heard = {"ab": said, "ba": [(for_b, for_a) for for_a, for_b in said]}
    sides = ("the advocate of response A", "the advocate of response B")
    orders = ORDERS if both_orders else ORDERS[:1]
    ab, *ba = await together([form.once(ask, pair, order, debate=_told(heard[order], sides)) for order in orders])
    given = both(ab, ba[0], on_flip) if ba else ab
    if isinstance(given, Abstained):
        return given
    return replace(given, scores={**given.scores, "debate": [list(speeches) for speeches in said]})


async def _argue(pair: Pair, ask: Ask, rounds: int, template: str, material: str, sampling: Mapping[str, Any]) -> Rounds:
    """The speeches of all rounds; in a round both advocates know what was said in the rounds before."""
    said: Rounds = []

    async def speech(mine: Response, other: Response, who: tuple[str, str]) -> str:
        messages = question(
            template,
            conversation=talk(pair.prompt),
            mine=fence(mine.text, "my_response"),
            other=fence(other.text, "other_response"),
            debate=_told(said, who) or "Nothing yet.",
            material=material,
        )
        reply = await ask(messages, **sampling)
        text = reply.text.rpartition("</think>")[2].strip()
        if not text:
            raise Unreadable("an advocate said nothing", reply.text)
        return text

    for _ in range(rounds):
        for_a, for_b = await together(
            [
                speech(pair.a, pair.b, ("you", "the other advocate")),
                speech(pair.b, pair.a, ("the other advocate", "you")),
            ]
        )
        said.append((for_a, for_b))
    return said


def _told(said: Sequence[tuple[str, str]], who: tuple[str, str]) -> str:
    """The debate as text; advocates quote what they judge, so their speeches are fenced, too."""
    return "\n\n".join(
        f"Round {number}, {name}:\n{fence(text, 'speech')}"
        for number, speeches in enumerate(said, 1)
        for name, text in zip(who, speeches, strict=True)
    )
