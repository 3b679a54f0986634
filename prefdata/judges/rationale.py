"""Judge: the reasons for a label, in a model's words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from prefdata.core.judging import question, read, talk
from prefdata.core.judging import rationale as reasons_in
from prefdata.core.method import method
from prefdata.core.protocols import Ask
from prefdata.core.rows import Abstained, Pair, Verdict
from prefdata.core.templates import fence, load, sections
from prefdata.core.text import words
from prefdata.core.verdicts import choice, side

STRETCH = 16
"""Characters that must stand in a response in a row to count as copied."""
_NOTES = {
    "empty": "the reply gives no reasons",
    "copied": "{copied:.0%} of the rationale is copied from a response",
    "contradicts": "the rationale speaks against the label",
}
_BETTER = re.compile(
    r"\b(?P<who>chosen|rejected|response [ab])\b(?: (?:response|answer|one))?(?: (?:is|was|remains|seems|would be|comes out))"
    r"(?: (?:clearly|much|far|slightly|overall|in fact|actually|the))* (?:better|stronger|superior|preferable)\b",
    re.IGNORECASE,
)


@method(
    version=1,
    subject="pair",
    needs=("winner",),
    prompt_file=("prompts/rationale.txt", "prompts/rationale_answer.txt"),
    calls="1",
    paper="Data-Centric Human Preference Optimization with Rationales, arXiv:2407.14477",
)
async def rationale(
    pair: Pair,
    ask: Ask,
    *,
    kind: Literal["general", "specific"] = "general",
    rejected: Literal["abstain", "keep"] = "abstain",
    least_words: int = 5,
    most_copied: float = 0.5,
    template: Path | None = None,
    temperature: float | None = 0.0,
    max_tokens: int = 1024,
) -> Verdict | Abstained:
    """Why the labelled winner of a pair is better, as a text kept with the pair; it is no vote and moves no label.

    The model is told which response was chosen and speaks of "the chosen response" and "the rejected response", so that its
    words hold whichever is a and whichever b. Abstains where the label is a tie or there is none, and writes anew where a
    label changes. The rationale stands in an annotation whose choice is `abstain`.

    Every rationale is checked, and `scores.check` says how it fared: empty (fewer than least_words words), copied (more than
    most_copied of its characters stand in a response, in stretches of 16 or more), contradicts (the model's closing line, or
    every sentence in English that calls one response better, speaks for the loser), or ok. A reply without the closing line
    fails. `scores` also holds the share copied, whom the closing line names, and the model.

    Args:
        kind: general: why the winner is better overall; specific: which places of the texts decide.
        rejected: what a rationale becomes that is empty, copied or contradicts: an abstention, or kept with its mark.
        least_words: fewer words than this are no rationale.
        most_copied: share of the characters, 0 to 1, up to which a rationale may repeat the responses.
        template: a prompt file of your own with the places {conversation}, {response_a}, {response_b}, {chosen}, {rejected}
            (A or B) and, if you want our words there, {answer}.
        temperature: of the sampling; null where a model takes none.
        max_tokens: longest reply.
    """
    if pair.winner not in ("a", "b"):
        return Abstained("the label is a tie" if pair.winner == "tie" else "the pair has no label that names a winner")
    winner, loser = ("a", "b") if pair.winner == "a" else ("b", "a")
    answer = sections(load(__file__, "prompts/rationale_answer.txt"))
    messages = question(
        load(__file__, "prompts/rationale.txt", template),
        conversation=talk(pair.prompt),
        response_a=fence(pair.a.text, "response_a"),
        response_b=fence(pair.b.text, "response_b"),
        chosen=winner.upper(),
        rejected=loser.upper(),
        answer=f"{answer[kind]}\n\n{answer['ending']}",
    )
    reply = await ask(messages, temperature=temperature, max_tokens=max_tokens)
    said = reasons_in(reply.text) or ""
    named = side(read(reply, choice)) if reply.text.strip() else None
    share = copied(said, (pair.a.text, pair.b.text))
    if words(said) < least_words:
        check = "empty"
    elif share > most_copied:
        check = "copied"
    elif named != winner or praised(said, winner) == loser:
        check = "contradicts"
    else:
        check = "ok"
    if check != "ok" and rejected == "abstain":
        return Abstained(_NOTES[check].format(copied=share))
    scores = {"check": check, "kind": kind, "winner": winner, "named": named, "copied": round(share, 4), "model": reply.model}
    return Verdict("abstain", scores=scores, rationale=said or None, raw=reply.text)


def copied(text: str, sources: tuple[str, ...], stretch: int = STRETCH) -> float:
    """The share of a text's characters that stand in a source in stretches of at least `stretch`, case and spaces aside."""
    plain = _plain(text)
    if len(plain) < stretch:
        return float(bool(plain) and any(plain in _plain(source) for source in sources))
    known = {whole[at : at + stretch] for whole in map(_plain, sources) for at in range(len(whole) - stretch + 1)}
    covered = end = 0
    for at in range(len(plain) - stretch + 1):
        if plain[at : at + stretch] in known:
            covered += at + stretch - max(at, end)
            end = at + stretch
    return covered / len(plain)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def praised(text: str, winner: str) -> str | None:
    """The side that every "... is better" of a text is about; None where there is none, or both are praised."""
    loser = "b" if winner == "a" else "a"
    sides = {"chosen": winner, "rejected": loser}
    found = {sides.get(who, who[-1]) for who in (match["who"].casefold() for match in _BETTER.finditer(text))}
    return found.pop() if len(found) == 1 else None
