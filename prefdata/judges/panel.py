"""Judge: several models compare two responses, and each keeps its own vote."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from prefdata.core.errors import Unreadable
from prefdata.core.judging import Comparison, together
from prefdata.core.method import method
from prefdata.core.protocols import Ask
from prefdata.core.rows import Pair, Verdict
from prefdata.core.templates import load


@method(
    version=1,
    subject="pair",
    paper="jury of several models; PoLL, arXiv:2404.18796; The Fellowship of the LLMs, arXiv:2408.08688",
    prompt_file=("prompts/pairwise.txt", "prompts/common.txt"),
    calls="len(asks) * (2 if both_orders else 1)",
)
async def panel(
    pair: Pair,
    asks: Mapping[str, Ask],
    *,
    both_orders: bool = True,
    on_flip: Literal["tie", "abstain"] = "tie",
    unreadable: Literal["fail", "leave_out"] = "fail",
    ties: bool = True,
    levels: Literal[1, 2, 3] = 1,
    reasons: bool = True,
    structured: bool = False,
    template: Path | None = None,
    temperature: float | None = 0.0,
    max_tokens: int = 1024,
) -> list[Verdict]:
    """A jury: every model's verdict on two responses as the vote of an annotator of its own; an aggregate step counts them.

    The recipe lists the jurors: {asks: [small, large, other]}. Models of different makers make a better jury than several
    of one. A juror whose verdict follows the position ties, or abstains.

    Args:
        both_orders: ask every juror twice, with either response first.
        on_flip: what a juror's verdict becomes that changes side with the order: a tie, or an abstention.
        unreadable: a juror whose reply cannot be read makes the pair fail, or is left out of this pair's jury, which keeps its
            reply as an abstention; where no juror can be read, the pair fails.
        ties: whether a juror may call a tie.
        levels: degrees of better to tell apart: 1 asks for none, 2 (slightly, clearly) or 3 (and much) give a strength.
        reasons: let the jurors reason first and keep that as their rationales.
        structured: hold the models to a JSON schema, where their servers can (OpenAI, vLLM, SGLang).
        template: a prompt file of your own with the places {conversation}, {response_a}, {response_b}, and, if you want our
            words there, {material} and {answer}.
        temperature: of the sampling; null where a model takes none.
        max_tokens: longest reply.
    """
    form = Comparison(
        load(__file__, "prompts/pairwise.txt", template),
        load(__file__, "prompts/common.txt"),
        {"temperature": temperature, "max_tokens": max_tokens},
        reasons=reasons,
        ties=ties,
        levels=levels,
        structured=structured,
    )
    unread: list[Unreadable] = []

    async def vote(name: str, ask: Ask) -> Verdict:
        try:
            return await form.juror(ask, pair, name, both_orders, on_flip)
        except Unreadable as error:
            unread.append(Unreadable(f"juror {name}: {error.words}", error.raw))
            return Verdict("abstain", scores={"unreadable": error.words}, raw=error.raw, annotator=name)

    votes = await together([vote(name, ask) for name, ask in asks.items()])
    if unread and (unreadable == "fail" or len(unread) == len(votes)):
        raise unread[0]
    return votes
