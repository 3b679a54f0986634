"""Judge: one number for each response."""

from __future__ import annotations

from pathlib import Path

from prefdata.core.errors import BadValue
from prefdata.core.judging import Rating
from prefdata.core.method import method
from prefdata.core.protocols import Ask
from prefdata.core.rows import Response, Score
from prefdata.core.templates import load


@method(
    version=1,
    subject="response",
    paper="point-wise scoring without a rubric; AIR, arXiv:2504.03612",
    prompt_file=("prompts/pointwise.txt", "prompts/common.txt"),
    calls="1",
)
async def pointwise(
    response: Response,
    ask: Ask,
    *,
    low: int = 1,
    high: int = 10,
    reasons: bool = False,
    structured: bool = False,
    template: Path | None = None,
    temperature: float | None = 0.0,
    max_tokens: int = 1024,
) -> Score:
    """One score for a response by itself, from `low` to `high`; pairs follow by algebra, K calls instead of K(K-1).

    The scale stands in scores.scale.

    Args:
        low: worst score.
        high: best score.
        reasons: let the model reason first and keep that as the rationale; AIR found that it need not.
        structured: hold the model to a JSON schema, where its server can (OpenAI, vLLM, SGLang).
        template: a prompt file of your own with the places {conversation} and {response}, and, if you want our words there,
            {low}, {high}, {material} and {answer}.
        temperature: of the sampling; null where a model takes none.
        max_tokens: longest reply.
    """
    if low >= high:
        raise BadValue("pointwise: low", low, f"a number below high ({high})")
    form = Rating(
        load(__file__, "prompts/pointwise.txt", template),
        load(__file__, "prompts/common.txt"),
        {"temperature": temperature, "max_tokens": max_tokens},
        low,
        high,
        reasons,
        structured,
    )
    return await form.of(ask, response)
