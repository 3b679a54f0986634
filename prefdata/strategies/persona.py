"""Strategy: answers for synthetic users who want different things."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefdata.core.drafts import Sheet, candidate, derived, drawn, made_by, sheet, with_system
from prefdata.core.errors import BadValue, PrefdataError
from prefdata.core.judging import together
from prefdata.core.method import method
from prefdata.core.protocols import Ask, Reply
from prefdata.core.rows import Abstained, Prompt, Response

NAME = "persona"
_TRIES = 200
"""Users looked at per place, until one disagrees with those already chosen."""


@dataclass(frozen=True)
class _User:
    """A synthetic user: a point in the space of preferences, -1 or +1 in a few dimensions and 0 in all others."""

    name: str
    traits: Mapping[str, int]

    def opposes(self, other: _User) -> bool:
        return any(self.traits[name] * other.traits.get(name, 0) < 0 for name in self.traits)


@method(
    version=1,
    subject="prompt",
    prompt_file="prompts/persona.txt",
    calls="per_prompt",
    paper="synthetic users of FSPO, arXiv:2502.19312, as points in a space of preferences as in AlignX, arXiv:2503.15463",
)
async def persona(
    prompt: Prompt,
    ask: Ask,
    seed: int,
    *,
    users: int = 100,
    traits: int = 5,
    per_prompt: int = 2,
    profile: bool = True,
    temperature: float | None = 0.7,
    max_tokens: int = 1024,
    template: Path | None = None,
) -> list[Response] | Abstained:
    """Answers written for users drawn for the prompt, any two of whom want opposite things in at least one respect.

    A user is a few preferences drawn once from the seed, the same for every prompt, so that data of one user agree with each
    other. With `profile`, each user makes a new prompt, the old one with a system message about the user: the answer
    written for them has the role match there, the others mismatch. Without, all answers stay with the prompt (role
    persona), for judges or people to choose between. Prompts that this strategy made are left alone.

    Args:
        users: size of the population; users are named user_0, user_1, ...
        traits: preferences that a user has, out of the dimensions in the prompt file.
        per_prompt: users drawn for each prompt, from 2.
        profile: whether the prompt tells about the user.
        temperature: of the sampling; null where the model takes none.
        max_tokens: longest answer, in tokens.
        template: a prompt file of your own in place of persona.txt, with the parts dimensions (a line each: name | one side | other
            side), answer, prompt and trait.
    """
    if made_by(prompt, NAME):
        return Abstained(f"{NAME} made this prompt")
    text = sheet(__file__, "persona.txt", template, "dimensions", "answer", "prompt", "trait")
    sides = _dimensions(text)
    if not 2 <= per_prompt <= users or not 1 <= traits <= len(sides):
        raise BadValue(
            "users, traits and per_prompt", (users, traits, per_prompt), f"per_prompt from 2 to users, and traits from 1 to {len(sides)}"
        )
    chosen = _chosen(drawn(seed, prompt, NAME), seed, users, traits, per_prompt, list(sides))
    told = {user.name: _profile(text, user, sides) for user in chosen}
    sampling: dict[str, Any] = {"temperature": temperature, "max_tokens": max_tokens}

    async def one(user: _User) -> Reply:
        return await ask(with_system(prompt.messages, text.said("answer", profile=told[user.name])), **sampling)

    answers = [
        (user, reply) for user, reply in zip(chosen, await together([one(user) for user in chosen]), strict=True) if reply.text.strip()
    ]
    if len({reply.text.strip() for _, reply in answers}) < 2:
        return Abstained("the users' answers do not differ")
    made = []
    for user, _ in answers if profile else answers[:1]:
        about = {"user": user.name, "traits": dict(user.traits), "profile": told[user.name]}
        system = text.said("prompt", profile=told[user.name])
        asked = derived(prompt, with_system(prompt.messages, system), NAME, keep=True, **about) if profile else prompt
        own = next(reply.text.strip() for other, reply in answers if other is user)
        for number, (other, reply) in enumerate(answers):
            params = {**sampling, "template": text.ref("answer"), "user": other.name, "traits": dict(other.traits)}
            role = "persona" if not profile else "match" if other is user else "mismatch"
            if role != "mismatch" or reply.text.strip() != own:
                made.append(candidate(asked, reply, role, params=params, sample=number))
    return made


def _dimensions(text: Sheet) -> dict[str, tuple[str, str]]:
    """Name -> what somebody at +1 and at -1 is like."""
    found = {}
    for line in text.parts["dimensions"].splitlines():
        if line.strip():
            name, *ends = (part.strip() for part in line.split("|"))
            if len(ends) != 2 or not all((name, *ends)) or name in found:
                raise PrefdataError(
                    f"the prompt file {text.name!r} has the dimension {line.strip()!r}; "
                    "it must look like  name | one side | other side, each name once."
                )
            found[name] = (ends[0], ends[1])
    return found


def _user(seed: int, number: int, traits: int, dimensions: Sequence[str]) -> _User:
    draw = random.Random(f"{seed} {NAME} user {number}")
    return _User(f"user_{number}", {name: draw.choice((1, -1)) for name in sorted(draw.sample(dimensions, traits))})


def _chosen(draw: random.Random, seed: int, users: int, traits: int, wanted: int, dimensions: Sequence[str]) -> list[_User]:
    """Users any two of whom disagree in a dimension."""
    chosen: list[_User] = []
    for _ in range(_TRIES * wanted):
        user = _user(seed, draw.randrange(users), traits, dimensions)
        if all(user.opposes(other) for other in chosen):
            chosen.append(user)
        if len(chosen) == wanted:
            return chosen
    raise PrefdataError(
        f"among {users} users with {traits} traits no {wanted} were found who all disagree with each other; "
        "give more users or traits, or a smaller per_prompt."
    )


def _profile(text: Sheet, user: _User, sides: Mapping[str, tuple[str, str]]) -> str:
    return "\n".join(text.said("trait", trait=sides[name][0 if sign > 0 else 1]) for name, sign in user.traits.items())
