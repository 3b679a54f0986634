"""Judge: one model compares two responses by a constitution."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Literal

from prefdata.core.errors import BadValue
from prefdata.core.judging import Comparison
from prefdata.core.method import method
from prefdata.core.protocols import Ask
from prefdata.core.rows import Abstained, Pair, Verdict
from prefdata.core.templates import load


@method(
    version=1,
    subject="pair",
    paper="feedback by sampled principles; Constitutional AI, arXiv:2212.08073",
    prompt_file=("prompts/principles_judge.txt", "prompts/principles.txt", "prompts/common.txt"),
    calls="2 if both_orders else 1",
)
async def principles(
    pair: Pair,
    ask: Ask,
    seed: int,
    *,
    file: Path | None = None,
    use: Literal["one", "all"] = "one",
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
    """Which of two responses keeps the principles better: one drawn for each pair, as in Constitutional AI, or all of them.

    The principles that were used stand in scores.principles. Which one is drawn depends on the seed and the pair alone.

    Args:
        file: a text file of your own, one principle a line, # for comments; default: the twelve in prompts/principles.txt.
        use: one, drawn for each pair, or all.
        both_orders: ask twice, with either response first; one order alone costs half and keeps the model's position bias.
        on_flip: what a verdict becomes that changes side with the order: a tie, or an abstention.
        ties: whether the model may call a tie.
        levels: degrees of better to tell apart: 1 asks for none, 2 (slightly, clearly) or 3 (and much) give a strength.
        reasons: let the model reason first and keep that as the rationale.
        structured: hold the model to a JSON schema, where its server can (OpenAI, vLLM, SGLang).
        template: a prompt file of your own with the places {conversation}, {response_a}, {response_b} and {principles}, and, if
            you want our words there, {material} and {answer}.
        temperature: of the sampling; null where a model takes none.
        max_tokens: longest reply.
    """
    lines = [line.strip() for line in load(__file__, "prompts/principles.txt", file).splitlines()]
    listed = [line for line in lines if line and not line.startswith("#")]
    if not listed:
        raise BadValue("principles: file", str(file), "a text file with a principle on each line", "It holds none.")
    used = [random.Random(f"{seed}:{pair.id}").choice(listed)] if use == "one" else listed
    form = Comparison(
        load(__file__, "prompts/principles_judge.txt", template),
        load(__file__, "prompts/common.txt"),
        {"temperature": temperature, "max_tokens": max_tokens},
        reasons=reasons,
        ties=ties,
        levels=levels,
        structured=structured,
        fields={"principles": "\n".join(f"- {line}" for line in used)},
        noted={"principles": used},
    )
    return await form.judge(ask, pair, both_orders, on_flip)
