"""Judge: one model compares two responses, asked in both orders."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from prefdata.core.judging import Comparison
from prefdata.core.method import method
from prefdata.core.protocols import Ask
from prefdata.core.rows import Abstained, Pair, Verdict
from prefdata.core.templates import load


@method(
    version=1,
    subject="pair",
    paper="LLM-as-a-judge with swapped positions; MT-Bench, arXiv:2306.05685",
    prompt_file=("prompts/pairwise.txt", "prompts/common.txt"),
    calls="2 if both_orders else 1",
)
async def pairwise(
    pair: Pair,
    ask: Ask,
    *,
    both_orders: bool = True,
    on_flip: Literal["tie", "abstain"] = "tie",
    ties: bool = True,
    levels: Literal[1, 2, 3] = 1,
    reasons: bool = True,
    structured: bool = False,
    template: Path | None = None,
    temperature: float | None = 0.0,
    max_tokens: int = 1024,
) -> Verdict | Abstained:
    """Which of two responses is better, by a language model that sees neither models' names nor anybody's vote.

    What was said in each order stands in scores.orders; a verdict that follows the position is marked scores.flipped. Two
    responses of the same text are a tie, and nobody is asked.

    Args:
        both_orders: ask twice, with either response first; one order alone costs half and keeps the model's position bias.
        on_flip: what a verdict becomes that changes side with the order: a tie, or an abstention.
        ties: whether the model may call a tie.
        levels: degrees of better to tell apart: 1 asks for none, 2 (slightly, clearly) or 3 (and much) give a strength.
        reasons: let the model reason first and keep that as the rationale.
        structured: hold the model to a JSON schema, where its server can (OpenAI, vLLM, SGLang).
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
    return await form.judge(ask, pair, both_orders, on_flip)
