"""Judge: a score composed of features that a model rates, with weights fitted to human choices."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from prefdata.core import pair_regression
from prefdata.core.errors import BadValue, PrefdataError, Unreadable
from prefdata.core.judging import fields_in, question, read, talk, together, words
from prefdata.core.method import method
from prefdata.core.protocols import Ask
from prefdata.core.rows import Prompt, Response, Score, as_messages
from prefdata.core.stats import Reals
from prefdata.core.templates import fence, load, sections

_LENGTH = "length"
_AGAINST = "not_"
_UNIT = 100
"""Characters that count as one in the feature length."""
_fits: WeakKeyDictionary[Any, dict[str, asyncio.Task[pair_regression.Fit]]] = WeakKeyDictionary()
"""One fit for each model and labelled file, however many rows wait for it."""


@dataclass(frozen=True)
class _Form:
    """What is asked about a response."""

    features: Mapping[str, str]
    template: str
    common: str
    low: int
    high: int
    length: bool
    sampling: Mapping[str, Any]

    @property
    def names(self) -> list[str]:
        return [name.removeprefix(_AGAINST) for name in self.features] + ([_LENGTH] if self.length else [])

    async def rate(self, ask: Ask, prompt: Prompt, text: str) -> tuple[Reals, str]:
        """A number per feature, and the reply."""
        names = self.names[: len(self.features)]
        listed = "\n".join(f"- {name}: {what}" for name, what in zip(names, self.features.values(), strict=True))
        messages = question(
            self.template,
            conversation=talk(prompt),
            response=fence(text, "response"),
            features=listed,
            form=json.dumps(dict.fromkeys(names, "N")).replace('"N"', "N"),
            low=str(self.low),
            high=str(self.high),
            material=words(self.common, "material"),
        )
        reply = await ask(messages, **self.sampling)
        rated = read(reply, lambda said: _ratings(said, names, self.low, self.high))
        return np.array([*rated, *([len(text) / _UNIT] if self.length else [])]), reply.text


@method(
    version=1,
    subject="response",
    paper="compositional preference models, arXiv:2310.13011",
    prompt_file=("prompts/feature_regression.txt", "prompts/feature_regression_features.txt", "prompts/common.txt"),
    calls="1",
)
async def feature_regression(
    response: Response,
    ask: Ask,
    *,
    labelled: Path | None = None,
    features: Path | None = None,
    low: int = 1,
    high: int = 10,
    length: bool = True,
    template: Path | None = None,
    temperature: float | None = 0.0,
    max_tokens: int = 512,
) -> Score:
    """A weighted sum of what a model says about helpfulness, factuality, readability and so on, one call for each response.

    With `labelled`, pairs that people decided, the weights are those of a logistic regression on the difference of the two
    sides' standardised features, without intercept; penalty (L1 or L2) and its strength are chosen by 8-fold cross-validation. The
    labelled responses are rated first (two calls for each pair, charged to the first row; the call cache keeps them), and mean and
    spread are theirs. Weights with 95 % intervals, the number of pairs and the cross-validated accuracy stand in scores.

    Without `labelled` every feature counts alike, plus or minus as its file says, on a scale from -1 to 1, and length counts
    nothing: a start while there are no labels. Ratings are kept in scores.features either way.

    Args:
        labelled: a .jsonl file of pairs with prompt, chosen and rejected (text or messages), such as `prefdata export dpo` writes;
            at least 16.
        features: a file of your own with a part `### name` for each feature, whose text says what is rated; `### not_name` is
            the feature name that counts against a response where there are no labels.
        low: lowest rating.
        high: highest rating.
        length: also take the response's length as a feature, in hundreds of characters.
        template: a prompt file of your own with the places {conversation}, {response}, {features} and {form}, and, if you want our
            words there, {low}, {high} and {material}.
        temperature: of the sampling; null where a model takes none.
        max_tokens: longest reply.
    """
    if low >= high:
        raise BadValue("feature_regression: low", low, f"a number below high ({high})")
    form = _Form(
        sections(load(__file__, "prompts/feature_regression_features.txt", features)),
        load(__file__, "prompts/feature_regression.txt", template),
        load(__file__, "prompts/common.txt"),
        low,
        high,
        length,
        {"temperature": temperature, "max_tokens": max_tokens},
    )
    fitted = None if labelled is None else await _fitted(ask, form, labelled)
    row, raw = await form.rate(ask, response.prompt, response.text)
    rated = dict(zip(form.names, row.tolist(), strict=True))
    if fitted is None:
        signs = [-1 if name.startswith(_AGAINST) else 1 for name in form.features]
        middle, half = (low + high) / 2, (high - low) / 2
        value = float(np.mean([sign * (one - middle) / half for sign, one in zip(signs, row[: len(signs)], strict=True)]))
        return Score(value, {"features": rated}, raw=raw)
    weights = zip(form.names, fitted.weights, fitted.low, fitted.high, strict=True)
    told = {name: [float(weight), float(lowest), float(highest)] for name, weight, lowest, highest in weights}
    facts = {"features": rated, "weights": told, "pairs": fitted.pairs, "accuracy": fitted.accuracy}
    return Score(fitted.score(row), facts, _rationale(form.names, fitted, row), raw)


def _rationale(names: Sequence[str], fitted: pair_regression.Fit, row: Reals) -> str:
    """The three features that moved the score most."""
    parts = fitted.weights * (row - fitted.mean) / fitted.std
    most = np.argsort(-np.abs(parts), kind="stable")[:3]
    return ", ".join(f"{names[n]} {parts[n]:+.2f}" for n in most)


async def _fitted(ask: Ask, form: _Form, labelled: Path) -> pair_regression.Fit:
    """The fit, made by the first row that needs it."""
    text = labelled.read_text(encoding="utf-8")
    key = hashlib.sha256(repr((text, form, id(asyncio.get_running_loop()))).encode()).hexdigest()
    fits = _fits.setdefault(getattr(ask, "ask", ask), {})  # every row has a wrapper of its own around the one model
    if key not in fits or fits[key].cancelled():
        fits[key] = asyncio.create_task(_fit(ask, form, _pairs(labelled, text)))
    return await asyncio.shield(fits[key])


async def _fit(ask: Ask, form: _Form, pairs: Sequence[tuple[Prompt, str, str]]) -> pair_regression.Fit:
    async def both(prompt: Prompt, better: str, worse: str) -> tuple[Reals, Reals] | None:
        try:
            (first, _), (second, _) = await together([form.rate(ask, prompt, better), form.rate(ask, prompt, worse)])
        except Unreadable:
            return None
        return first, second

    found = [one for one in await together([both(*pair) for pair in pairs]) if one is not None]
    if len(found) < len(pairs) / 2:
        raise PrefdataError(
            f"of {len(pairs)} labelled pairs only {len(found)} got readable ratings; take another model, or raise max_tokens."
        )
    return await asyncio.to_thread(pair_regression.fit, np.array([better for better, _ in found]), np.array([worse for _, worse in found]))


def _pairs(path: Path, text: str) -> list[tuple[Prompt, str, str]]:
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            sides = [_reply(row[side]) for side in ("chosen", "rejected")]
            found.append((Prompt(as_messages(row["prompt"])), sides[0], sides[1]))
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise PrefdataError(
                f"{path}, line {number} is no labelled pair ({type(error).__name__}: {error}); a line must be a JSON object with prompt, "
                "chosen and rejected, as text or as lists of messages."
            ) from None
    if len(found) < 2 * pair_regression.FOLDS:
        raise BadValue(f"the number of pairs in {path}", len(found), f"at least {2 * pair_regression.FOLDS}")
    return found


def _reply(value: Any) -> str:
    text = value if isinstance(value, str) else value[-1]["content"]
    if not isinstance(text, str):
        raise TypeError("a response is not text")
    return text


def _ratings(text: str, names: Sequence[str], low: int, high: int) -> list[float]:
    held = fields_in(text)
    given = [held.get(name.casefold()) for name in names]
    for name, value in zip(names, given, strict=True):
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise Unreadable(f"the reply's JSON has no rating of {name} from {low} to {high}", text)
    return [float(value) for value in given if value is not None]
