"""Judge: a model that may calculate and run programs before it rates a response."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefdata.core.calculator import calculate
from prefdata.core.errors import BadValue, Unreadable
from prefdata.core.judging import fields_in, question, rationale, read, talk, words
from prefdata.core.method import method
from prefdata.core.protocols import Ask, Sandbox
from prefdata.core.rows import Response, Score
from prefdata.core.templates import fence, load
from prefdata.core.verdicts import number

_SHOWN = 4_000
"""Characters of a tool's answer that the model is shown."""


@method(
    version=1,
    subject="response",
    paper="Themis, arXiv:2310.01045",
    prompt_file=("prompts/tool.txt", "prompts/tool_parts.txt", "prompts/common.txt"),
    calls="1 + turns",
)
async def tool(
    response: Response,
    ask: Ask,
    sandbox: Sandbox | None = None,
    *,
    turns: int = 3,
    low: int = 1,
    high: int = 10,
    seconds: float = 5.0,
    template: Path | None = None,
    temperature: float | None = 0.0,
    max_tokens: int = 1024,
) -> Score:
    """One score for a response, from `low` to `high`, by a model that checks it with tools first.

    A calculator is always there; Python only where the recipe hands in a sandbox that it has switched on. Each use is one turn: the
    model asks, the answer is shown to it fenced, as material. What was asked and answered stands in scores.trace, all replies in
    raw. A model that still asks for a tool after the last turn has not answered, and its row fails.

    Args:
        turns: most uses of tools.
        low: worst score.
        high: best score.
        seconds: wall-clock bound of one program.
        template: a prompt file of your own with the places {conversation}, {response}, {tools} and {step}, and, if you want our
            words there, {low}, {high} and {material}.
        temperature: of the sampling; null where a model takes none.
        max_tokens: longest reply of one turn.
    """
    for name, value, good, allowed in (
        ("turns", turns, turns >= 0, "a whole number from 0"),
        ("low", low, low < high, f"a number below high ({high})"),
    ):
        if not good:
            raise BadValue(f"tool: {name}", value, allowed)
    parts, scale = load(__file__, "prompts/tool_parts.txt"), {"low": low, "high": high}
    tools = ["calculator"] + (["python"] if sandbox is not None else [])
    messages: list[dict[str, str]] = question(
        load(__file__, "prompts/tool.txt", template),
        conversation=talk(response.prompt),
        response=fence(response.text, "response"),
        tools=words(parts, *tools),
        step=words(parts, "step" if turns else "last", **scale),
        low=str(low),
        high=str(high),
        material=words(load(__file__, "prompts/common.txt"), "material"),
    )
    trace: list[dict[str, str]] = []
    replies: list[str] = []
    while True:
        reply = await ask(messages, temperature=temperature, max_tokens=max_tokens)
        replies.append(reply.text)
        asked = read(reply, fields_in)
        if "score" in asked:
            score = read(reply, lambda text: number(text, low, high))
            return Score(score, {"scale": [low, high], "trace": trace}, rationale(reply.text), json.dumps(replies, ensure_ascii=False))
        if "tool" not in asked:
            raise Unreadable("the reply's JSON has neither a score nor a tool", reply.text)
        if len(trace) == turns:
            raise Unreadable(f"the reply asks for a tool instead of giving a score after {turns} turns", reply.text)
        used = await _use(asked, tools, sandbox, seconds)
        trace.append(used)
        left = words(parts, "step" if len(trace) < turns else "last", **scale)
        shown = words(parts, "result", answer=fence(used["output"], "result"), left=left)
        messages = [*messages, {"role": "assistant", "content": reply.text}, {"role": "user", "content": shown}]


async def _use(asked: Mapping[str, Any], tools: list[str], sandbox: Sandbox | None, seconds: float) -> dict[str, str]:
    """One use of a tool; what goes wrong is the tool's answer."""
    name, given = str(asked["tool"]).strip().casefold(), asked.get("input")
    text = given if isinstance(given, str) else json.dumps(given)
    if name == "calculator":
        try:
            output = str(calculate(text))
        except BadValue as error:
            output = f"error: {error}"
    elif name == "python" and sandbox is not None:
        ran = await sandbox.run(text, seconds=seconds)
        output = "\n".join(
            part for part in (ran.stdout.rstrip(), ran.stderr.rstrip(), f"({ran.state})" if ran.state != "ok" else "") if part
        )
        output = output or "(the program printed nothing)"
    else:
        output = f"error: there is no tool {name[:40]!r}; there is: {', '.join(tools)}"
    cut = output if len(output) <= _SHOWN else f"{output[: _SHOWN // 2]}\n... (cut)\n{output[-_SHOWN // 2 :]}"
    return {"tool": name, "input": text, "output": cut}
