"""Strategy: answers at each level of a rubric, and prompts that ask for one level."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefdata.core.drafts import candidate, derived, drawn, made_by, sheet, with_system
from prefdata.core.errors import BadValue, UnknownName
from prefdata.core.judging import together
from prefdata.core.method import method
from prefdata.core.protocols import Ask, Reply
from prefdata.core.rows import Abstained, Prompt, Response

NAME = "rubric_levels"


@method(
    version=1,
    subject="prompt",
    prompt_file="prompts/rubric_levels.txt",
    calls="per_prompt * len(levels)",
    paper="Configurable Preference Tuning, arXiv:2506.11702",
)
async def rubric_levels(
    prompt: Prompt,
    ask: Ask,
    seed: int,
    *,
    rubrics: tuple[str, ...] = (),
    per_prompt: int = 1,
    levels: tuple[str, ...] = ("low", "middle", "high"),
    temperature: float | None = 0.7,
    max_tokens: int = 1024,
    template: Path | None = None,
) -> list[Response] | Abstained:
    """One answer for each level of a rubric; each level also makes a new prompt, which its own answer matches and the others do not.

    A new prompt is the old one with a short system message that asks for the level. All answers stand under all new prompts
    of their rubric: the one of the level has the role match, the others mismatch. So every pair occurs twice with opposite
    sides, and what is learnt is to obey the system message. Prompts that this strategy made are left alone.

    Args:
        rubrics: names of rubrics to draw from (plainness, brevity, warmth, playfulness, structure, directness, or those of your
            own prompt file); none named: all.
        per_prompt: rubrics drawn for each prompt.
        levels: of each rubric, at least two of low, middle and high (or those of your own prompt file).
        temperature: of the sampling; null where the model takes none.
        max_tokens: longest answer, in tokens.
        template: a prompt file of your own in place of rubric_levels.txt: the part write, and for a rubric R the parts rubric_R and
            system_R_LEVEL.
    """
    if made_by(prompt, NAME):
        return Abstained(f"{NAME} made this prompt")
    text = sheet(__file__, "rubric_levels.txt", template, "write")
    known = [name.removeprefix("rubric_") for name in text.parts if name.startswith("rubric_")]
    for rubric in rubrics:
        if rubric not in known:
            raise UnknownName("rubric", rubric, known)
    if len(set(levels)) < max(2, len(levels)) or per_prompt < 1:
        raise BadValue("levels and per_prompt", (list(levels), per_prompt), "two or more different levels, and per_prompt from 1")
    names = sorted(set(rubrics or known))
    chosen = drawn(seed, prompt, NAME).sample(names, min(per_prompt, len(names)))
    sampling: dict[str, Any] = {"temperature": temperature, "max_tokens": max_tokens}
    for part in (f"system_{rubric}_{level}" for rubric in chosen for level in levels):
        if part not in text.parts:
            raise UnknownName("part", part, text.parts, f" of the prompt file {text.name}")

    async def one(rubric: str, level: str) -> Reply:
        system = text.said("write", rubric=text.parts[f"rubric_{rubric}"], level=level)
        return await ask(with_system(prompt.messages, system), **sampling)

    replies = await together([one(rubric, level) for rubric in chosen for level in levels])
    made = []
    for number, rubric in enumerate(chosen):
        texts = dict(zip(levels, replies[number * len(levels) :], strict=False))
        shared = {**sampling, "template": text.ref("write"), "rubric": rubric}
        systems = {level: text.parts[f"system_{rubric}_{level}"] for level in levels}
        made += _crossed(prompt, rubric, {level: reply for level, reply in texts.items() if reply.text.strip()}, systems, shared)
    return made or Abstained("no rubric gave answers that differ between levels")


def _crossed(prompt: Prompt, rubric: str, replies: dict[str, Reply], systems: dict[str, str], shared: dict[str, object]) -> list[Response]:
    """Every answer under the prompt of every level, but where both levels have the same text."""
    made = []
    for wanted, match in replies.items():
        others = {level: reply for level, reply in replies.items() if level != wanted and reply.text.strip() != match.text.strip()}
        if not others:
            continue
        asked = derived(prompt, with_system(prompt.messages, systems[wanted]), NAME, keep=True, rubric=rubric, level=wanted)
        made.append(candidate(asked, match, "match", params={**shared, "level": wanted}))
        made += [candidate(asked, reply, "mismatch", params={**shared, "level": level}) for level, reply in others.items()]
    return made
