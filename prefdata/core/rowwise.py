"""Steps that go row by row because a row's work is a model call or a program: strategies and judges.

Missing rows are computed by a pool of workers on one event loop; a batch of results and its outcomes are written in one
transaction, about once a second. Every row ends done, abstained or failed, with a note.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import polars as pl

from prefdata.core import ids
from prefdata.core.columns import relation
from prefdata.core.errors import Interrupted, PrefdataError, Stopped
from prefdata.core.ids import canonical_json
from prefdata.core.method import Method
from prefdata.core.rows import Abstained, Pair, Prompt, Response, Score, Verdict
from prefdata.core.run import Bound, Context, StepReport, record_step
from prefdata.core.scan import scan
from prefdata.core.store import insert, insert_new

log = logging.getLogger("prefdata.run")
Row = TypeVar("Row", Prompt, Response, Pair)
FLUSH_ROWS, FLUSH_SECONDS, WINDOW = 500, 1.0, 5_000
_NAMES = {
    "prompt": ["messages", "source", "meta"],
    "response": ["messages", "prompt_source", "meta", "text", "model", "sample"],
    "pair": ["messages", "prompt_source", "meta", "a_id", "b_id", "a_text", "b_text", "a_model", "b_model"],
}


@dataclass
class _Done:
    """One finished row."""

    subject: str
    state: str
    note: str | None = None
    cost: float = 0.0
    result: Any = None


@dataclass
class _Buffer:
    """Finished rows that wait for the next transaction."""

    rows: list[_Done] = field(default_factory=list)
    since: float = field(default_factory=time.monotonic)

    @property
    def due(self) -> bool:
        return len(self.rows) >= FLUSH_ROWS or time.monotonic() - self.since >= FLUSH_SECONDS

    def take(self) -> list[_Done]:
        rows, self.rows, self.since = self.rows, [], time.monotonic()
        return rows


def strategy(context: Context, bound: Bound) -> StepReport:
    """Prompts -> responses."""

    def to_tables(done: list[_Done], key: str) -> dict[str, pl.DataFrame]:
        made = [response for row in done for response in row.result or []]
        return {"responses": _responses_frame(made, key)} if made else {}

    return _rowwise(context, bound, "prompt", to_tables)


def judge(context: Context, bound: Bound) -> StepReport:
    """Pairs or responses -> annotations."""
    subject = bound.method.header["subject"]
    if subject not in ("pair", "response"):
        raise PrefdataError(f"{bound.method.path}: a judge's header needs subject='pair' or subject='response', not {subject!r}.")
    kind = _annotator_kind(bound)
    name = bound.method.name + "".join(f":{bound.handed[use]}" for use in sorted(bound.handed))

    def to_tables(done: list[_Done], key: str) -> dict[str, pl.DataFrame]:
        results = [
            (row.subject, number, given)
            for row in done
            for number, given in enumerate(row.result if isinstance(row.result, list) else [row.result])
            if given is not None
        ]
        if not results:
            return {}
        annotator = pl.DataFrame([{"id": name, "kind": kind, "name": bound.method.name}])
        return {"annotations": _annotations_frame(results, subject, name, kind, key), "annotators": annotator}

    report = _rowwise(context, bound, subject, to_tables)
    context.judge_keys.append(report.key)
    return report


def _annotator_kind(bound: Bound) -> str:
    if "reward" in bound.handed or "policy" in bound.handed:
        return "reward_model"
    return "llm" if "ask" in bound.handed else "verifier"


def _rowwise(
    context: Context, bound: Bound, subject: str, to_tables: Callable[[list[_Done], str], Mapping[str, pl.DataFrame]]
) -> StepReport:
    key = bound.key(context)
    todo, report = _missing(context, bound, key, subject)
    if context.plan:
        _estimate(context, bound, report, subject, todo)
        return report
    record_step(context, bound, key, rows=report.rows_in)
    if todo.is_empty():
        return report
    context.progress.start(report.step, todo.height)

    def write(done: list[_Done]) -> None:
        _write(context, key, done, to_tables(done, key))
        for state in ("done", "abstained", "failed"):
            setattr(report, state, getattr(report, state) + sum(row.state == state for row in done))
        report.cost += sum(row.cost for row in done)

    rows = _Rows(_subjects(context, subject, todo))
    try:
        context.runner.run(_pool(context, bound, rows, write))
    except KeyboardInterrupt:
        rows.stopped = True
    if rows.stopped:
        left = todo.height - report.done - report.abstained - report.failed
        raise Interrupted(
            f"stopped in {bound.step}: what was finished is stored, {left} rows are left; run the same command again to go on."
        )
    return report


def _missing(context: Context, bound: Bound, key: str, subject: str) -> tuple[pl.DataFrame, StepReport]:
    base = relation(subject, (), context.keys)
    states = "('done', 'abstained')" if context.retry_failed else "('done', 'abstained', 'failed')"
    todo = context.store.frame(
        f"""SELECT id FROM ({base.sql}) x ANTI JOIN (SELECT subject AS id FROM outcomes WHERE key = $own_key AND state IN {states})
            USING (id) ORDER BY row""",
        {**base.parameters, "own_key": key},
    )
    total = context.store.value(f"SELECT count(*) FROM ({base.sql})", dict(base.parameters))
    return todo, StepReport(str(bound.step), key, rows_in=total, had=total - todo.height)


def _estimate(context: Context, bound: Bound, report: StepReport, subject: str, todo: pl.DataFrame) -> None:
    """Calls and cost of the missing rows: four characters to a token, `max_tokens` (or 256) per answer."""
    if "ask" not in bound.handed or context.models is None:
        return
    per_row = int(bound.params.get("n", 1) or 1)
    report.calls = per_row * todo.height
    names = {"prompt": "prompt_chars", "response": "prompt_chars + chars", "pair": "prompt_chars + a_chars + b_chars"}[subject]
    rel = relation(subject, [n.strip() for n in names.split("+")], context.keys)
    chars = context.store.value(f"SELECT coalesce(avg({names}), 0) FROM ({rel.sql})", dict(rel.parameters)) or 0
    out = int(bound.params.get("max_tokens") or 256)
    each = context.models.estimate(bound.handed["ask"], int(chars / 4), out)
    if each is None:
        report.detail["cost"] = "unknown: no price for this model"
    else:
        report.cost = each * report.calls


def _subjects(context: Context, subject: str, todo: pl.DataFrame) -> Iterator[Prompt | Response | Pair]:
    for frame in scan(context.store, subject, _NAMES[subject], context.keys, only=todo, chunk=WINDOW):
        for row in frame.iter_rows(named=True):
            yield _object(subject, row)


def _object(subject: str, row: Mapping[str, Any]) -> Prompt | Response | Pair:
    source = row["source"] if subject == "prompt" else row["prompt_source"]
    prompt = Prompt(tuple(json.loads(row["messages"])), source or "", json.loads(row["meta"] or "{}"))
    if subject == "prompt":
        return prompt
    if subject == "response":
        return _stored(Response(prompt, row["text"], row["model"], row["sample"]), row["id"])
    a = _stored(Response(prompt, row["a_text"], row["a_model"]), row["a_id"])
    b = _stored(Response(prompt, row["b_text"], row["b_model"]), row["b_id"])
    return _stored(Pair(prompt, a, b), row["id"])


def _stored(row: Row, identity: str) -> Row:
    """A row from the store keeps the store's identity, whatever sample it was."""
    row.__dict__["id"] = identity
    return row


class _Rows:
    """One iterator for many workers, that ends early when the run is stopped; the loop gets a turn after each row."""

    def __init__(self, rows: Iterator[Any]) -> None:
        self.rows, self.stopped = rows, False

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        await asyncio.sleep(0)
        if self.stopped:
            raise StopAsyncIteration
        try:
            return next(self.rows)
        except StopIteration:
            raise StopAsyncIteration from None


async def _pool(context: Context, bound: Bound, rows: _Rows, write: Callable[[list[_Done]], None]) -> None:
    """Workers take rows until none is left; finished rows are flushed from time to time, and always at the end.

    The first Ctrl-C lets what is in flight finish (it may be paid for); the second gives it up.
    """
    asks = [context.models.ask(name) for use, name in bound.handed.items() if use == "ask"] if context.models else []
    width = context.models.concurrency(bound.handed["ask"]) if context.models and "ask" in bound.handed else 1
    function = bound.method.load()
    buffer = _Buffer()
    writing = asyncio.Lock()

    async def flush() -> None:
        async with writing:
            done = buffer.take()
            if done:
                await asyncio.to_thread(write, done)

    async def worker() -> None:
        async for row in rows:
            finished = await _one_row(bound.method, function, row, bound.params, _handed(bound, context, asks))
            buffer.rows.append(finished)
            context.progress.advance(**{finished.state: 1}, cost=finished.cost)
            if buffer.due and not writing.locked():
                await flush()

    loop, pool = asyncio.get_running_loop(), asyncio.current_task()

    def interrupted() -> None:
        if rows.stopped and pool:
            pool.cancel()
        elif pool:
            log.info("stopping: rows in flight finish first, since they may be paid for; Ctrl-C again gives them up.")
        rows.stopped = True

    with suppress(NotImplementedError, RuntimeError, ValueError):  # not the main thread: Ctrl-C is someone else's
        loop.add_signal_handler(signal.SIGINT, interrupted)
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(width):
                group.create_task(worker())
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    except asyncio.CancelledError:
        if not rows.stopped:
            raise
    finally:
        with suppress(NotImplementedError, RuntimeError, ValueError):
            loop.remove_signal_handler(signal.SIGINT)
        done = buffer.take()
        if done:
            write(done)


def _handed(bound: Bound, context: Context, asks: list[Any]) -> dict[str, Any]:
    handed: dict[str, Any] = {"ask": _Counting(asks[0])} if asks else {}
    if "seed" in bound.method.handed:
        handed["seed"] = context.recipe.seed
    return handed


class _Counting:
    """An `ask` that books what a row's calls cost."""

    def __init__(self, ask: Any) -> None:
        self.ask, self.cost = ask, 0.0

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        reply = await self.ask(*args, **kwargs)
        self.cost += reply.cost
        return reply


async def _one_row(method: Method, function: Callable[..., Any], row: Any, params: Mapping[str, Any], handed: Mapping[str, Any]) -> _Done:
    ask = handed.get("ask")
    try:
        result = function(row, *[handed[name] for name in method.handed[1:]], **params)
        if inspect.isawaitable(result):
            result = await result
    except Stopped:
        raise
    except Exception as error:  # one row's failure is that row's outcome; the run goes on
        log.debug("%s failed on %s", method.name, row.id, exc_info=True)
        note = str(error) if isinstance(error, PrefdataError) else f"{type(error).__name__}: {error}"
        return _Done(row.id, "failed", note[:1000], ask.cost if ask else 0.0)
    cost = ask.cost if ask else 0.0
    if isinstance(result, Abstained):
        return _Done(row.id, "abstained", result.note, cost)
    return _Done(row.id, "done", None, cost, result)


def _write(context: Context, key: str, done: list[_Done], frames: Mapping[str, pl.DataFrame]) -> None:
    outcomes = pl.DataFrame(
        [{"key": key, "subject": d.subject, "state": d.state, "note": d.note, "cost": d.cost} for d in done],
        schema={"key": pl.String, "subject": pl.String, "state": pl.String, "note": pl.String, "cost": pl.Float64},
    )
    with context.store.write() as connection:
        for table, frame in frames.items():
            insert_new(connection, table, frame)
        connection.register("finished", outcomes)
        connection.execute("DELETE FROM outcomes WHERE key = ? AND subject IN (SELECT subject::UUID FROM finished)", [key])
        connection.unregister("finished")
        insert(connection, "outcomes", outcomes)


def _responses_frame(made: list[Response], key: str) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {
                "id": r.id,
                "prompt_id": r.prompt.id,
                "text": r.text,
                "model": r.model,
                "sample": r.sample,
                "chars": len(r.text),
                "strategy": key,
                "role": r.role,
                "parents": canonical_json(list(r.parents)),
                "params": canonical_json(dict(r.params)),
                "finish": r.finish,
                "tokens_in": r.tokens_in,
                "tokens_out": r.tokens_out,
                "source": r.prompt.source,
            }
            for r in made
        ],
        schema_overrides={"finish": pl.String, "tokens_in": pl.Int64, "tokens_out": pl.Int64},
    )


def _annotations_frame(results: list[tuple[str, int, Any]], subject: str, annotator: str, kind: str, key: str) -> pl.DataFrame:
    rows = []
    for row, number, result in results:
        if not isinstance(result, Verdict | Score):
            raise PrefdataError(f"a judge gave {type(result).__name__}; it must give Verdict, Score or Abstained.")
        verdict, score = (result, None) if isinstance(result, Verdict) else (None, result)
        rows.append({
            "id": ids.hash_uuid(f"{key}{row}{number}{verdict.shown if verdict else ''}"), "subject": row, "kind": subject,
            "annotator_id": annotator, "annotator_kind": kind,
            "choice": verdict.choice if verdict else None, "strength": verdict.strength if verdict else None,
            "score": score.value if score else None, "scores": canonical_json(dict(result.scores)) if result.scores else None,
            "rationale": result.rationale, "shown": verdict.shown if verdict else None, "key": key, "raw": result.raw,
        })  # fmt: skip
    text = dict.fromkeys(("choice", "scores", "rationale", "shown", "raw"), pl.String)
    return pl.DataFrame(rows, schema_overrides={**text, "strength": pl.Float64, "score": pl.Float64}, infer_schema_length=None)
