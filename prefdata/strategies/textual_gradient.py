"""Strategy: improve answers by what a comparison of the best and the worst shows."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from prefdata.core.drafts import Sheet, candidate, exact, sheet, with_turns
from prefdata.core.errors import BadValue, PrefdataError
from prefdata.core.judging import read, talk, together
from prefdata.core.method import method
from prefdata.core.protocols import Ask, Reply, Reward
from prefdata.core.rows import Abstained, Prompt, Response
from prefdata.core.templates import fence
from prefdata.core.verdicts import number

LOW, HIGH = 1, 10


@method(
    version=1,
    subject="prompt",
    prompt_file="prompts/textual_gradient.txt",
    calls="width * (rounds + 1) + 2 * rounds",
    paper="Test-time Preference Optimization, arXiv:2501.12895",
)
async def textual_gradient(
    prompt: Prompt,
    ask: Ask,
    reward: Reward | None = None,
    critic: Ask | None = None,
    *,
    width: int = 5,
    rounds: int = 3,
    temperature: float | None = 0.7,
    max_tokens: int = 1024,
    template: Path | None = None,
) -> list[Response] | Abstained:
    """All answers of a search that goes from scores to words and back; the highest score has the role best, the lowest worst.

    First `width` answers are drawn and scored. Then, round by round, `ask` says why the best answer so far beats the worst (the loss), what
    to change in the best (the gradient), and writes `width` new ones by that. Scores come from a reward model, or from a critic
    that gives 1 to 10, and are kept with the answers; other answers have the role sample. Abstains where all scores are equal.

    Args:
        width: answers per round, from 2.
        rounds: rounds of improvement.
        temperature: of the answers, all else is asked for at 0; null where a model takes none.
        max_tokens: longest answer, loss or gradient, in tokens.
        template: a prompt file of your own in place of textual_gradient.txt: the parts system, loss, gradient, update and score.
    """
    if width < 2 or rounds < 0:
        raise BadValue("width and rounds", (width, rounds), "width from 2 and rounds from 0")
    if (reward is None) == (critic is None):
        raise PrefdataError(
            "textual_gradient needs one that scores: reward: NAME (a reward model) or critic: NAME (a model that is asked)."
        )
    text = sheet(__file__, "textual_gradient.txt", template, "system", "loss", "gradient", "update", "score")
    search = _Search(prompt, ask, reward, critic, text, {"temperature": temperature, "max_tokens": max_tokens})
    await search.draw(width, 0, prompt.messages, {}, [])
    for at in range(1, rounds + 1):
        ends = search.ends()
        if ends is None:
            break
        best, worst = ends
        loss = await search.words("loss", better=fence(best.text, "better"), worse=fence(worst.text, "worse"))
        gradient = await search.words("gradient", better=fence(best.text, "better"), loss=fence(loss, "comparison"))
        messages = with_turns(prompt.messages, best.text, text.said("update", gradient=fence(gradient, "instructions")))
        await search.draw(width, at, messages, {"loss": loss, "gradient": gradient, "template": text.ref("update")}, [best, worst])
    ends = search.ends()
    if ends is None:
        return Abstained("no answers with different scores")
    return search.made(*ends)


class _Search:
    """The answers so far, with their scores."""

    def __init__(self, prompt: Prompt, ask: Ask, reward: Reward | None, critic: Ask | None, text: Sheet, sampling: dict[str, Any]) -> None:
        self.prompt, self.ask, self.reward, self.critic, self.text, self.sampling = prompt, ask, reward, critic, text, sampling
        self.scored: dict[str, tuple[Response, float]] = {}

    async def draw(self, width: int, at: int, messages: Any, params: dict[str, Any], parents: list[Response]) -> None:
        """Draw answers and score those that are new."""
        replies: list[Reply] = await together([self.ask(messages, sample=i, **self.sampling) for i in range(width)])
        new = {reply.text.strip(): reply for reply in reversed(replies) if reply.text.strip() and reply.text.strip() not in self.scored}
        texts = [reply for reply in dict.fromkeys(reply.text.strip() for reply in replies) if reply in new]
        shared = {**self.sampling, **params, "round": at}
        for key, score in zip(texts, await self._scores([new[key].text for key in texts]), strict=True):
            more = {**shared, "score": score}
            made = candidate(self.prompt, new[key], "sample", params=more, sample=len(self.scored), parents=parents)
            self.scored[key] = (made, score)

    async def words(self, part: str, **fields: str) -> str:
        reply = await self.ask(self.text.asks(part, conversation=talk(self.prompt), **fields), **exact(self.sampling))
        return reply.text.strip()

    async def _scores(self, texts: list[str]) -> list[float]:
        if self.reward is not None:
            scores = await self.reward.scores(self.prompt.messages, texts) if texts else []
            if not all(map(math.isfinite, scores)):
                raise PrefdataError(f"the reward model gave {scores}, which are not all finite numbers; look at how it was loaded.")
            return scores
        return await together([self._asked(text) for text in texts])

    async def _asked(self, answer: str) -> float:
        assert self.critic is not None
        asked = self.text.asks("score", conversation=talk(self.prompt), answer=fence(answer, "answer"))
        return read(await self.critic(asked, **exact(self.sampling)), lambda said: number(said, LOW, HIGH))

    def ends(self) -> tuple[Response, Response] | None:
        """The best and the worst answer so far, the earlier one of equals; None where no two scores differ."""
        if not self.scored:
            return None
        found = list(self.scored.values())
        best, worst = max(found, key=lambda one: one[1]), min(found, key=lambda one: one[1])
        return (best[0], worst[0]) if best[1] > worst[1] else None

    def made(self, best: Response, worst: Response) -> list[Response]:
        role = {best.id: "best", worst.id: "worst"}
        return [replace(one, role=role.get(one.id, "sample")) for one, _ in self.scored.values()]
