"""The rows of a row-wise step: which are missing, and reading those from the store, window by window.

A row is missing where it has no outcome under the step's key, or one that hung on something else: the outcome of a
group hangs on which responses the prompt had, and that of a judge that is told the label on what the label said
(`outcomes.seen`). Failed rows count as missing where the run retries them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import polars as pl

from prefdata.core.columns import relation
from prefdata.core.rows import Group, Pair, Prompt, Response
from prefdata.core.run import Bound, Context, StepReport
from prefdata.core.scan import scan

Row = TypeVar("Row", Response, Pair)
WINDOW = 5_000
"""Rows (of a group: responses) whose texts are in memory at a time."""
FEWEST = 2
"""Responses that a prompt needs to be judged as a group."""
_PROMPT = ("messages", "prompt_source", "meta")
_MADE = ("role", "parents")
_NAMES: dict[str, tuple[str, ...]] = {
    "prompt": ("messages", "source", "meta"),
    "response": (*_PROMPT, "text", "model", "sample", *_MADE),
    "pair": (*_PROMPT, *(f"{side}_{name}" for side in ("a", "b") for name in ("id", "text", "model", *_MADE))),
    "group": (*_PROMPT, "prompt_id", "text", "model", "sample", *_MADE),
}


@dataclass(frozen=True)
class Todo:
    """The missing rows of a step.

    Attributes:
        frame: `id`; `seen`, what the outcome will hang on (null: nothing else); `again`, whether there was an outcome before;
            of groups also `n`, the number of responses.
    """

    subject: str
    frame: pl.DataFrame
    winner: bool

    @property
    def rows(self) -> int:
        return self.frame.height

    @property
    def hangs(self) -> bool:
        """Whether outcomes hang on something that may change."""
        return self.winner or self.subject == "group"


def find(context: Context, bound: Bound, key: str, subject: str) -> tuple[Todo, StepReport]:
    """The missing rows of `subject` (prompt, response, pair or group) in store order, and a report that counts all rows."""
    winner = "winner" in bound.method.header["needs"]
    sql, parameters = _all(context, subject, winner)
    states = "('done', 'abstained')" if context.retry_failed else "('done', 'abstained', 'failed')"
    frame = context.store.frame(
        f"""SELECT x.* EXCLUDE (row), o.id IS NOT NULL AS again FROM ({sql}) x
            LEFT JOIN (SELECT subject AS id, state, seen FROM outcomes WHERE key = $own_key) o ON o.id = x.id
            WHERE o.id IS NULL OR o.state NOT IN {states} OR o.seen IS DISTINCT FROM x.seen ORDER BY x.row""",
        {**parameters, "own_key": key},
    )
    total = context.store.value(f"SELECT count(*) FROM ({sql})", parameters)
    return Todo(subject, frame, winner), StepReport(str(bound.step), key, rows_in=total, had=total - frame.height)


def reads(context: Context, bound: Bound, subject: str) -> Mapping[str, str]:
    """Results of other steps that the rows carry, for the step's key: the labels, where the judge is told the winner."""
    needs = bound.method.header["needs"]
    found = relation(subject, needs, context.keys).reads if needs else {}
    return {name: key for name, key in found.items() if name == "labels"}


def _all(context: Context, subject: str, winner: bool) -> tuple[str, dict[str, Any]]:
    """Every row that the step is about: id, row, seen."""
    if subject == "group":
        prompts, responses = relation("prompt", (), context.keys), relation("response", ("prompt_id",), context.keys)
        sql = f"""SELECT x.id, x.row, coalesce(g.n, 0) AS n, coalesce(g.seen, '') AS seen FROM ({prompts.sql}) x
            LEFT JOIN (SELECT prompt_id, count(*) AS n, md5(string_agg(id::VARCHAR, ' ' ORDER BY id)) AS seen
                FROM ({responses.sql}) GROUP BY prompt_id) g ON g.prompt_id = x.id"""
        return sql, {**prompts.parameters, **responses.parameters}
    rel = relation(subject, ("winner",) if winner else (), context.keys)
    return f"SELECT id, row, {'winner' if winner else 'NULL::VARCHAR'} AS seen FROM ({rel.sql})", dict(rel.parameters)


def read(context: Context, todo: Todo) -> Iterator[Prompt | Response | Pair | Group]:
    """The missing rows with their texts, in store order; groups of fewer than FEWEST responses are left out."""
    if todo.subject == "group":
        yield from _groups(context, todo.frame)
        return
    names = (*_NAMES[todo.subject], *(("winner",) if todo.winner else ()))
    for frame in scan(context.store, todo.subject, names, context.keys, only=todo.frame.select("id"), chunk=WINDOW):
        for row in frame.iter_rows(named=True):
            yield _object(todo.subject, row)


def _object(subject: str, row: Mapping[str, Any]) -> Prompt | Response | Pair:
    if subject == "prompt":
        return _prompt(row, row["source"])
    prompt = _prompt(row, row["prompt_source"])
    if subject == "response":
        return _response(prompt, row)
    return _stored(Pair(prompt, _response(prompt, row, "a_"), _response(prompt, row, "b_"), row.get("winner")), row["id"])


def _response(prompt: Prompt, row: Mapping[str, Any], side: str = "") -> Response:
    parents = row.get(f"{side}parents")
    made = Response(
        prompt,
        row[f"{side}text"],
        row[f"{side}model"],
        row.get(f"{side}sample") or 0,
        row.get(f"{side}role") or "",
        tuple(json.loads(parents)) if parents else (),
    )
    return _stored(made, row[f"{side}id"])


def _prompt(row: Mapping[str, Any], source: str | None) -> Prompt:
    return Prompt(tuple(json.loads(row["messages"])), source or "", json.loads(row["meta"] or "{}"))


def _stored(row: Row, identity: str) -> Row:
    """A row from the store keeps the store's identity, whatever sample it was."""
    row.__dict__["id"] = str(identity)
    return row


def _groups(context: Context, frame: pl.DataFrame) -> Iterator[Group]:
    """Prompts whose responses fill a window together, then the responses of that window; a prompt is never cut in two."""
    fitting = frame.filter(pl.col("n") >= FEWEST)
    rel = relation("response", ("prompt_id",), context.keys)
    for _, part in fitting.with_columns(window=(pl.col("n").cum_sum() - 1) // WINDOW).group_by("window", maintain_order=True):
        wanted = context.store.frame(
            f"SELECT x.id FROM ({rel.sql}) x JOIN part ON part.id = x.prompt_id ORDER BY x.row",
            dict(rel.parameters),
            part=part.select("id"),
        )
        found: dict[str, list[Mapping[str, Any]]] = {}
        for rows in scan(context.store, "response", _NAMES["group"], context.keys, only=wanted, chunk=max(1, wanted.height)):
            for row in rows.iter_rows(named=True):
                found.setdefault(str(row["prompt_id"]), []).append(row)
        for identity in part["id"].to_list():
            rows_of = found.pop(str(identity), [])
            if len(rows_of) >= FEWEST:
                prompt = _prompt(rows_of[0], rows_of[0]["prompt_source"])
                prompt.__dict__["id"] = str(identity)
                yield Group(prompt, tuple(_response(prompt, row) for row in rows_of))
