"""Strategy: a strong and a weak model."""

from __future__ import annotations

from typing import Any, Literal

from prefdata.core.drafts import candidate
from prefdata.core.errors import BadValue
from prefdata.core.judging import together
from prefdata.core.method import method
from prefdata.core.protocols import Ask
from prefdata.core.rows import Abstained, Prompt, Response


@method(version=1, subject="prompt", calls="2 * n", paper="model level contrasts of PopAlign, arXiv:2410.13785")
async def contrast_models(
    prompt: Prompt,
    strong: Ask,
    weak: Ask,
    *,
    contrast: Literal["parameter", "leaderboard"] = "parameter",
    n: int = 1,
    temperature: float | None = 0.7,
    max_tokens: int = 1024,
) -> list[Response] | Abstained:
    """The same request to two models of which one is known to be better; roles strong and weak, joined in sets by draw.

    Nobody labels these: that the strong model's answer is better is true on the whole, and not for every prompt.

    Args:
        contrast: what the models differ in, kept with the answers: parameter (size or checkpoint of one family), leaderboard (rank).
        n: draws from each model.
        temperature: of both; null where one takes none.
        max_tokens: longest answer, in tokens.
    """
    if n < 1:
        raise BadValue("n", n, "a number from 1")
    sampling: dict[str, Any] = {"temperature": temperature, "max_tokens": max_tokens}

    async def draw(ask: Ask, role: str, i: int) -> Response:
        params = {**sampling, "contrast": contrast, "set": f"{contrast} {i}"}
        return candidate(prompt, await ask(prompt.messages, sample=i, **sampling), role, params=params, sample=i)

    made = await together([draw(ask, role, i) for i in range(n) for ask, role in ((strong, "strong"), (weak, "weak"))])
    pairs = [(made[at], made[at + 1]) for at in range(0, len(made), 2)]
    kept = [pair for pair in pairs if all(one.text.strip() for one in pair) and pair[0].text != pair[1].text]
    if not kept:
        return Abstained("no draw gave two answers that differ")
    return [response for pair in kept for response in pair]
