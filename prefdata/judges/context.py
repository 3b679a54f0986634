"""Judge: one model compares two responses under one criterion."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from prefdata.core.judging import Comparison, in_meta
from prefdata.core.method import method
from prefdata.core.protocols import Ask
from prefdata.core.rows import Abstained, Pair, Verdict
from prefdata.core.templates import fence, load


@method(
    version=1,
    subject="pair",
    paper="context-aware preference modelling (RPR), arXiv:2407.14916",
    prompt_file=("prompts/context.txt", "prompts/common.txt"),
    calls="2 if both_orders else 1",
)
async def context(
    pair: Pair,
    ask: Ask,
    *,
    criterion: str = "",
    field: str = "criterion",
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
    """Which of two responses is better by one criterion alone; abstains where there is no criterion.

    The criterion is the parameter, or else the prompt's own in its meta. It stands in scores.criterion.

    Args:
        criterion: what to judge all pairs by, such as "Prefer the response that a beginner can follow."
        field: of the prompt's meta, with the criterion of that prompt; read where `criterion` is empty.
        both_orders: ask twice, with either response first; one order alone costs half and keeps the model's position bias.
        on_flip: what a verdict becomes that changes side with the order: a tie, or an abstention.
        ties: whether the model may call a tie.
        levels: degrees of better to tell apart: 1 asks for none, 2 (slightly, clearly) or 3 (and much) give a strength.
        reasons: let the model reason first and keep that as the rationale.
        structured: hold the model to a JSON schema, where its server can (OpenAI, vLLM, SGLang).
        template: a prompt file of your own with the places {conversation}, {response_a}, {response_b} and {criterion}, and, if
            you want our words there, {material} and {answer}.
        temperature: of the sampling; null where a model takes none.
        max_tokens: longest reply.
    """
    given = [criterion.strip()] if criterion.strip() else in_meta(pair.prompt, field)
    if not given:
        return Abstained(f"no criterion is set, and the prompt's meta has no {field!r}")
    held = "\n".join(given)
    form = Comparison(
        load(__file__, "prompts/context.txt", template),
        load(__file__, "prompts/common.txt"),
        {"temperature": temperature, "max_tokens": max_tokens},
        reasons=reasons,
        ties=ties,
        levels=levels,
        structured=structured,
        fields={"criterion": fence(held, "criterion")},
        noted={"criterion": held},
    )
    return await form.judge(ask, pair, both_orders, on_flip)
