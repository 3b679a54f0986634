"""Strategy: several models at several temperatures, each answer under a principle."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from prefdata.core.drafts import candidate, drawn, sheet, with_system
from prefdata.core.errors import BadValue
from prefdata.core.judging import together
from prefdata.core.method import method
from prefdata.core.protocols import Ask
from prefdata.core.rows import Prompt, Response

_MIXES: dict[str, dict[str, float]] = {
    "chat": {"helpfulness": 3, "truthfulness": 1, "honesty": 1},
    "tasks": {"helpfulness": 4, "verbalized_calibration": 1},
    "facts": {"honesty": 1, "truthfulness": 1},
    "none": {},
}
_CALIBRATION = "verbalized_calibration"


@method(
    version=1,
    subject="prompt",
    prompt_file="prompts/principles.txt",
    calls="n if len(asks) else 0",
    paper="UltraFeedback, arXiv:2310.01377",
)
async def pool(
    prompt: Prompt,
    asks: Mapping[str, Ask],
    seed: int,
    *,
    n: int = 4,
    temperatures: tuple[float | None, ...] = (1.0,),
    top_p: float | None = 1.0,
    max_tokens: int = 1024,
    mix: Literal["chat", "tasks", "facts", "none"] = "chat",
    weights: dict[str, float] | None = None,
    calibration: float = 0.1,
    template: Path | None = None,
) -> list[Response]:
    """n answers to each prompt by models of a pool drawn for it, each under a principle drawn for the answer; empty ones are left out.

    No model answers twice before every other one has answered once. A principle is a sentence in the system message, one
    of several that say the same; it is kept with the answer. Raising n draws only the new answers.

    Args:
        n: answers per prompt.
        temperatures: one of these is drawn for each answer; null where the models take none.
        top_p: nucleus of the sampling, 0 to 1, or null.
        max_tokens: longest answer, in tokens.
        mix: how often each principle is drawn, after the sources of UltraFeedback: chat (helpfulness 3, truthfulness 1, honesty 1), tasks
            (helpfulness 4, verbalized_calibration 1), facts (honesty 1, truthfulness 1); none: no principle at all.
        weights: principle -> how often, in place of `mix`; the names are parts of the prompt file.
        calibration: share of the answers under `honesty` that are asked to put their confidence into words instead, 0 to 1.
        template: a prompt file of your own, a part per principle, empty lines between the sentences to draw from.
    """
    texts = sheet(__file__, "principles.txt", template).parts
    odds = _MIXES[mix] if weights is None else weights
    unknown = [name for name in odds if name not in texts or not odds[name] >= 0]
    if n < 1 or unknown or (odds and not sum(odds.values()) > 0) or not temperatures or not 0 <= calibration <= 1:
        raise BadValue(
            "n, weights, temperatures or calibration",
            [n, odds, list(temperatures), calibration],
            f"n from 1, weights from 0 for {', '.join(texts)}, at least one temperature, and a calibration from 0 to 1",
        )
    order = list(asks)
    drawn(seed, prompt, "pool").shuffle(order)

    async def one(i: int) -> Response:
        draw, writer = drawn(seed, prompt, "pool", i), order[i % len(order)]
        sampling = {"temperature": draw.choice(temperatures), "top_p": top_p, "max_tokens": max_tokens}
        principle, system = _principle(draw, odds, texts, calibration)
        messages = with_system(prompt.messages, system) if system else prompt.messages
        reply = await asks[writer](messages, sample=i, **sampling)
        params = {**sampling, "writer": writer, "principle": principle, "system": system}
        return candidate(prompt, reply, "sample", params=params, sample=i)

    made = await together([one(i) for i in range(n)])
    return [response for response in made if response.text.strip()]


def _principle(
    draw: random.Random, odds: Mapping[str, float], texts: Mapping[str, str], calibration: float
) -> tuple[str | None, str | None]:
    """A principle and one of its sentences."""
    if not odds:
        return None, None
    name = draw.choices(list(odds), list(odds.values()))[0]
    if name == "honesty" and _CALIBRATION in texts and draw.random() < calibration:
        name = _CALIBRATION
    return name, draw.choice([text.strip() for text in texts[name].split("\n\n") if text.strip()])
