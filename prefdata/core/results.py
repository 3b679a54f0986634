"""What row-wise methods gave, checked and turned into rows of tables, and the one transaction that stores a batch of it.

A result is checked while its row is being computed, so that one bad result is one failed row and never a lost batch.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import duckdb
import polars as pl

from prefdata.core import ids
from prefdata.core.errors import PrefdataError, UnknownName
from prefdata.core.ids import UNIT, canonical_json
from prefdata.core.rows import CHOICES, Choice, Group, Judged, Pair, Prompt, Response, Score, Verdict
from prefdata.core.run import Bound, Context
from prefdata.core.store import insert, insert_new

_SIDES: dict[Choice, Choice] = {"a": "b", "b": "a"}
_FLIP = {"a": "b", "b": "a", "ab": "ba", "ba": "ab"}
_HALF = re.compile("[\ud800-\udfff]")
_OUTCOME = {
    "key": pl.String, "subject": pl.String, "state": pl.String, "note": pl.String, "cost": pl.Float64, "seen": pl.String,
}  # fmt: skip
_PROMPT = dict.fromkeys(("id", "messages", "canonical", "text", "source", "meta", "parent"), pl.String)
_RESPONSE = {"finish": pl.String, "tokens_in": pl.Int64, "tokens_out": pl.Int64}
_ANNOTATION = {
    **dict.fromkeys(("choice", "scores", "rationale", "shown", "raw"), pl.String), "strength": pl.Float64, "score": pl.Float64,
}  # fmt: skip


@dataclass
class Rows:
    """What one row's result adds to the tables."""

    prompts: list[dict[str, Any]] = field(default_factory=list)
    """Prompts that a strategy made up and answered; those that are not there yet are made."""
    responses: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)
    pairs: list[tuple[str, str, str]] = field(default_factory=list)
    """id, a and b of pairs that were judged; those that are not there yet are made."""


@dataclass
class Done:
    """One finished row."""

    subject: str
    state: str
    note: str | None = None
    cost: float = 0.0
    rows: Rows = field(default_factory=Rows)
    seen: str | None = None
    again: bool = False
    """There was an outcome before, which hung on something that changed: what was said then is taken back."""


def responses(row: Prompt, result: Any, key: str) -> Rows:
    """What a strategy gave, as rows of `responses`, and of `prompts` where it answered others than the one it was given."""
    out = Rows()
    prompts: dict[str, Prompt] = {}
    for one in result if isinstance(result, list | tuple) else [result]:
        if not isinstance(one, Response):
            raise PrefdataError(f"a strategy gave {type(one).__name__}; it must give a list of Response, or Abstained.")
        out.responses.append(_response(replace(one, text=clean(one.text)), key))
        if one.prompt.id != row.id:
            prompts[one.prompt.id] = one.prompt
    out.prompts = [_prompt(prompt, row) for prompt in prompts.values()]
    return out


def _prompt(prompt: Prompt, parent: Prompt) -> dict[str, Any]:
    """A new prompt; `text` is what it is where it can be told as plain text."""
    alone = len(prompt.messages) == 1 and set(prompt.messages[0]) == {"role", "content"} and prompt.messages[0]["role"] == "user"
    content = prompt.messages[0]["content"] if alone else None
    return {
        "id": prompt.id, "messages": json.dumps(list(prompt.messages), ensure_ascii=False, separators=(",", ":")),
        "canonical": ids.canonical_messages(prompt.messages), "text": content if isinstance(content, str) else None,
        "source": prompt.source, "meta": _json(prompt.meta), "parent": parent.id,
    }  # fmt: skip


def _response(r: Response, key: str) -> dict[str, Any]:
    return {
        "id": r.id, "prompt_id": r.prompt.id, "text": r.text, "model": r.model, "sample": r.sample, "chars": len(r.text),
        "strategy": key, "role": r.role, "parents": canonical_json(list(r.parents)), "params": _json(r.params),
        "finish": r.finish, "tokens_in": r.tokens_in, "tokens_out": r.tokens_out, "source": r.prompt.source,
    }  # fmt: skip


@dataclass(frozen=True)
class Judge:
    """Who speaks in a step.

    Attributes:
        name: the annotator id where a verdict names no juror.
        method: a juror's id is `method:juror`.
        kind: of annotator: llm, reward_model or verifier.
    """

    name: str
    method: str
    kind: str

    @classmethod
    def of(cls, bound: Bound) -> Judge:
        names = [model for name in sorted(bound.handed) for model in bound.handed[name]]
        uses = {bound.method.models[name].use for name in bound.handed}
        kind = "reward_model" if uses & {"reward", "policy"} else "llm" if "ask" in uses else "verifier"
        return cls(":".join([bound.method.name, *names]), bound.method.name, kind)

    def annotator(self, given: Verdict | Score) -> str:
        return f"{self.method}:{given.annotator}" if given.annotator else self.name


def judgements(row: Pair | Response | Group, result: Any, judge: Judge, key: str, seen: str | None) -> Rows:
    """What a judge gave, as rows of `annotations`, and the pairs that it judged.

    The id of an annotation follows from the key, its subject, its number in the result, the order shown, the juror and
    what the outcome hangs on: a row that is computed once more, after a crash, adds nothing twice.
    """
    out = Rows()
    for number, one in enumerate(result if isinstance(result, list | tuple) else [result]):
        subject, kind, given, pair = _about(row, one)
        if pair:
            out.pairs.append(pair)
        who = judge.annotator(given)
        shown = given.shown if isinstance(given, Verdict) else None
        told = f"{UNIT}{given.annotator}{UNIT}{seen or ''}" if given.annotator or seen else ""
        out.annotations.append({
            "id": ids.hash_uuid(f"{key}{subject}{number}{shown or ''}{told}"), "subject": subject, "kind": kind,
            "annotator_id": who, "annotator_kind": judge.kind, "shown": shown, "key": key, **_said(given),
        })  # fmt: skip
    return out


def _about(row: Pair | Response | Group, one: Any) -> tuple[str, str, Verdict | Score, tuple[str, str, str] | None]:
    """Subject, its kind and the judgement in terms of the store's order; for two responses of a group also their pair."""
    if isinstance(one, Judged) and isinstance(row, Group | Pair):
        known = {response.id for response in (row.responses if isinstance(row, Group) else (row.a, row.b))}
        of = one.of if isinstance(one.of, tuple) else (one.of,)
        if not all(isinstance(response, Response) and response.id in known for response in of):
            raise PrefdataError("a judge of several responses judged one that is not among them.")
        if isinstance(one.given, Score) and len(of) == 1:
            return of[0].id, "response", one.given, None
        if isinstance(one.given, Verdict) and len(of) == 2 and of[0].id != of[1].id:
            (first, second), given = of, one.given
            if first.id > second.id:
                first, second, given = second, first, turned(given)
            identity = ids.pair_id(first.id, second.id)
            return identity, "pair", given, (identity, first.id, second.id)
        raise PrefdataError("a Score is about one response and a Verdict about two different ones.")
    if isinstance(one, Verdict) and isinstance(row, Pair):
        return row.id, "pair", one, None
    if isinstance(one, Score) and isinstance(row, Response):
        return row.id, "response", one, None
    wanted = {Pair: "Verdict", Response: "Score", Group: "list of Judged"}[type(row)]
    raise PrefdataError(f"a judge of a {type(row).__name__.lower()} gave {type(one).__name__}; it must give a {wanted}, or Abstained.")


def turned(verdict: Verdict) -> Verdict:
    """The same judgement with a and b exchanged: choice, strength, order shown, and what `scores` says of each side."""
    return replace(
        verdict,
        choice=_SIDES.get(verdict.choice, verdict.choice),
        strength=None if verdict.strength is None else 0.0 - verdict.strength,
        shown=_FLIP.get(verdict.shown, verdict.shown),
        scores=_turned(verdict.scores),
    )


def _turned(scores: Any) -> Any:
    """Sides exchanged in names (a, b, ab, ba; x_a and x_b where both are there) and in `orders`; a lone p_a is turned over."""
    if not isinstance(scores, Mapping):
        return scores
    out: dict[Any, Any] = {}
    for name, value in scores.items():
        head, _, tail = str(name).rpartition("_")
        other = f"{head}_{_FLIP[tail]}" if head and tail in _FLIP else ""
        if name == "orders" and isinstance(value, Mapping):
            out[name] = {_FLIP.get(order, order): _FLIP.get(choice, choice) for order, choice in value.items()}
        elif name == "p_a" and "p_b" not in scores and isinstance(value, int | float):
            out[name] = 1 - value - float(scores.get("p_tie") or 0)
        else:
            out[other if other in scores else _FLIP.get(str(name), name)] = _turned(value)
    return out


def _said(given: Verdict | Score) -> dict[str, Any]:
    """The columns of one judgement; raises where a number is not finite or a choice is none."""
    verdict, score = (given, None) if isinstance(given, Verdict) else (None, given)
    if verdict and verdict.choice not in CHOICES:
        raise UnknownName("choice", str(verdict.choice), CHOICES)
    return {
        "choice": verdict.choice if verdict else None,
        "strength": None if not verdict or verdict.strength is None else _finite("strength", verdict.strength, -1.0, 1.0),
        "score": _finite("score", score.value) if score else None,
        "scores": _json(given.scores) if given.scores else None,
        "rationale": clean(given.rationale),
        "raw": clean(given.raw),
    }


def _finite(what: str, value: Any, low: float = -math.inf, high: float = math.inf) -> float:
    number = float(value)
    if not math.isfinite(number) or not low <= number <= high:
        raise PrefdataError(
            f"a judge gave the {what} {value!r}; it must be a finite number{f' from {low:g} to {high:g}' if low > -math.inf else ''}."
        )
    return number


def _json(value: Mapping[str, Any]) -> str:
    """Canonical JSON with null for what is no finite number, and no broken characters."""
    text = canonical_json(_plain(value))
    return text if clean(text) == text else canonical_json(_plain(value, cleaned=True))


def _plain(value: Any, *, cleaned: bool = False) -> Any:
    if isinstance(value, Mapping):
        return {clean(str(k)) if cleaned else str(k): _plain(v, cleaned=cleaned) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, cleaned=cleaned) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return clean(value) if cleaned and isinstance(value, str) else value


def clean(text: Any) -> Any:
    """Text that UTF-8 can hold: half characters, as models sometimes break them off, become question marks."""
    if not isinstance(text, str):
        return text
    return text.encode("utf-8", "replace").decode() if _HALF.search(text) else text


def store(context: Context, key: str, done: Sequence[Done], judge: Judge | None) -> None:
    """Results and outcomes of finished rows, in one transaction."""
    outcomes = pl.DataFrame(
        [{"key": key, "subject": d.subject, "state": d.state, "note": clean(d.note), "cost": d.cost, "seen": d.seen} for d in done],
        schema=_OUTCOME,
    )
    prompts = [row for d in done for row in d.rows.prompts]
    made = [row for d in done for row in d.rows.responses]
    said = [row for d in done for row in d.rows.annotations]
    pairs = {pair[0]: pair for d in done for pair in d.rows.pairs}
    with context.store.write() as connection:
        _take_back(connection, key, [d for d in done if d.again and d.state != "failed"])
        if prompts:
            _make_prompts(connection, prompts)
        if made:
            insert_new(connection, "responses", pl.DataFrame(made, schema_overrides=_RESPONSE, infer_schema_length=None))
        if pairs:
            _make_pairs(connection, key, pairs.values())
        if said and judge:
            speakers = {row["annotator_id"]: {"id": row["annotator_id"], "kind": judge.kind, "name": judge.method} for row in said}
            insert_new(connection, "annotators", pl.DataFrame(list(speakers.values())))
            insert_new(connection, "annotations", pl.DataFrame(said, schema_overrides=_ANNOTATION, infer_schema_length=None))
        connection.register("finished", outcomes)
        connection.execute("DELETE FROM outcomes WHERE key = ? AND subject IN (SELECT subject::UUID FROM finished)", [key])
        connection.unregister("finished")
        insert(connection, "outcomes", outcomes)


def _make_prompts(connection: duckdb.DuckDBPyConnection, prompts: Sequence[Mapping[str, Any]]) -> None:
    """Prompts that are not there yet, with what an import would say of them; they never part in a split from those they are made of."""
    connection.register("asked", pl.DataFrame(prompts, schema=_PROMPT))
    connection.execute(
        """INSERT INTO prompts BY NAME
           SELECT new.id::UUID AS id, messages, new.source, new.meta, length(said) AS chars, twin, plain FROM (
               SELECT made.*, of.twin, of.plain AND made.text IS NOT NULL AS plain,
                   CASE WHEN of.plain AND made.text IS NOT NULL THEN made.text ELSE made.canonical END AS said
               FROM (SELECT DISTINCT ON (id) * FROM asked) made JOIN prompts of ON of.id = made.parent::UUID) new
           WHERE NOT EXISTS (SELECT 1 FROM prompts old WHERE old.id = new.id::UUID) ORDER BY id"""
    )
    connection.unregister("asked")


def _make_pairs(connection: duckdb.DuckDBPyConnection, key: str, pairs: Iterable[tuple[str, str, str]]) -> None:
    """Pairs that a judge of a group compared and that are not there yet."""
    connection.register("judged", pl.DataFrame(list(pairs), schema=["id", "a", "b"], orient="row"))
    connection.execute(
        """INSERT INTO pairs BY NAME SELECT new.id::UUID AS id, r.prompt_id, new.a::UUID AS a, new.b::UUID AS b, r.source, $key AS strategy
           FROM judged new JOIN responses r ON r.id = new.a::UUID WHERE NOT EXISTS (SELECT 1 FROM pairs old WHERE old.id = new.id::UUID)
           ORDER BY new.id""",
        {"key": key},
    )
    connection.unregister("judged")


def _take_back(connection: duckdb.DuckDBPyConnection, key: str, again: Sequence[Done]) -> None:
    """Retract what the key said about rows that were judged anew, and give new judgements ids that no old one has."""
    if not again:
        return
    connection.register("anew", pl.DataFrame({"subject": [d.subject for d in again]}))
    connection.execute(
        """INSERT INTO annotations BY NAME
           WITH of AS (SELECT subject::UUID AS id FROM anew), about AS (
               SELECT id FROM of UNION SELECT p.id FROM pairs p JOIN of ON of.id = p.prompt_id
               UNION SELECT r.id FROM responses r JOIN of ON of.id = r.prompt_id)
           SELECT uuid() AS id, x.subject, x.kind, x.annotator_id, x.annotator_kind, x.key, x.id AS retracts, now()::TIMESTAMP AS created
           FROM live_annotations x JOIN about ON about.id = x.subject WHERE x.key = $key""",
        {"key": key},
    )
    connection.unregister("anew")
    said = [row for d in again for row in d.rows.annotations]
    while said:
        connection.register("wanted", pl.DataFrame({"id": [row["id"] for row in said]}))
        taken = {str(row[0]) for row in connection.execute("SELECT x.id FROM annotations x JOIN wanted w ON w.id::UUID = x.id").fetchall()}
        connection.unregister("wanted")
        said = [row for row in said if row["id"] in taken]
        for row in said:
            row["id"] = ids.hash_uuid(row["id"] + key)
