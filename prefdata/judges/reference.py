"""Judge: one number for each response, against an answer that is known to be good."""

from __future__ import annotations

from pathlib import Path

from prefdata.core.errors import BadValue
from prefdata.core.judging import Rating, in_meta
from prefdata.core.method import method
from prefdata.core.protocols import Ask
from prefdata.core.rows import Abstained, Response, Score
from prefdata.core.templates import fence, load


@method(
    version=1,
    subject="response",
    paper="grading with a reference answer; Prometheus, arXiv:2310.08491",
    prompt_file=("prompts/reference.txt", "prompts/common.txt"),
    calls="1",
)
async def reference(
    response: Response,
    ask: Ask,
    *,
    field: str = "reference",
    low: int = 1,
    high: int = 5,
    reasons: bool = True,
    structured: bool = False,
    template: Path | None = None,
    temperature: float | None = 0.0,
    max_tokens: int = 1024,
) -> Score | Abstained:
    """How far a response agrees with the prompt's reference answer, from `low` to `high`; abstains where there is none.

    The reference stands in the prompt's meta: a text, a number, or a list of which agreeing with one is enough.

    Args:
        field: of the prompt's meta, with the reference.
        low: worst score.
        high: best score.
        reasons: let the model reason first and keep that as the rationale.
        structured: hold the model to a JSON schema, where its server can (OpenAI, vLLM, SGLang).
        template: a prompt file of your own with the places {conversation}, {response} and {reference}, and, if you want our
            words there, {low}, {high}, {material} and {answer}.
        temperature: of the sampling; null where a model takes none.
        max_tokens: longest reply.
    """
    if low >= high:
        raise BadValue("reference: low", low, f"a number below high ({high})")
    known = in_meta(response.prompt, field)
    if not known:
        return Abstained(f"the prompt's meta has no {field!r}")
    form = Rating(
        load(__file__, "prompts/reference.txt", template),
        load(__file__, "prompts/common.txt"),
        {"temperature": temperature, "max_tokens": max_tokens},
        low,
        high,
        reasons,
        structured,
    )
    return await form.of(ask, response, reference="\n\n".join(fence(text, "reference") for text in known))
