"""Steps that go row by row because a row's work is a model call or a program: strategies and judges.

Missing rows (`missing.py`) are computed by a pool of workers on one event loop; a batch of results (`results.py`) and its
outcomes are written in one transaction, about once a second. Every row ends done, abstained or failed, with a note.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from prefdata.core import missing, results
from prefdata.core.errors import Interrupted, PrefdataError, Stopped
from prefdata.core.handing import Hands
from prefdata.core.missing import Todo
from prefdata.core.planning import estimate
from prefdata.core.results import Done, Judge, Rows
from prefdata.core.rows import Abstained
from prefdata.core.run import Bound, Context, StepReport, record_step

log = logging.getLogger("prefdata.run")
FLUSH_ROWS, FLUSH_SECONDS = 2_000, 1.0
_NOTE = 1_000
"""Characters of a failure that an outcome keeps."""
_AT_ONCE = 20_000
"""Prompts without enough responses that are put aside in one transaction."""
_SUBJECTS = {"pair": "pair", "response": "response", "prompt": "group"}
"""What a judge's header calls its subject -> what its rows are."""
ToRows = Callable[[Any, Any, str | None], Rows]
"""Row, result and what the outcome hangs on -> rows of tables."""


@dataclass
class _Buffer:
    """Finished rows that wait for the next transaction."""

    rows: list[Done] = field(default_factory=list)
    since: float = field(default_factory=time.monotonic)

    @property
    def due(self) -> bool:
        return len(self.rows) >= FLUSH_ROWS or time.monotonic() - self.since >= FLUSH_SECONDS

    def take(self) -> list[Done]:
        rows, self.rows, self.since = self.rows, [], time.monotonic()
        return rows


def strategy(context: Context, bound: Bound) -> StepReport:
    """Prompts -> responses, to them or to prompts that the strategy made of them."""
    key = bound.key(context)
    return _rowwise(context, bound, key, "prompt", lambda row, result, seen: results.responses(row, result, key))


def judge(context: Context, bound: Bound) -> StepReport:
    """Pairs, responses or all responses of a prompt -> annotations."""
    header = bound.method.header
    subject = _SUBJECTS.get(header["subject"])
    if subject is None:
        allowed = ", ".join(f"{name!r}" for name in _SUBJECTS)
        raise PrefdataError(f"{bound.method.path}: a judge's header needs a subject of {allowed}, not {header['subject']!r}.")
    if header["needs"] and (subject != "pair" or set(header["needs"]) != {"winner"}):
        raise PrefdataError(f"{bound.method.path}: a judge may need the winner of a pair and no other column, not {header['needs']!r}.")
    key = bound.key(context, missing.reads(context, bound, subject))
    who = Judge.of(bound)
    report = _rowwise(context, bound, key, subject, lambda row, result, seen: results.judgements(row, result, who, key, seen), who)
    if not header["needs"]:  # who was told the label has no vote in it
        context.judge_keys.append(report.key)
    return report


def _rowwise(context: Context, bound: Bound, key: str, subject: str, to_rows: ToRows, who: Judge | None = None) -> StepReport:
    todo, report = missing.find(context, bound, key, subject)
    if context.plan:
        _plan(context, bound, report, todo)
        return report
    record_step(context, bound, key, rows=report.rows_in)
    if not todo.rows:
        return report
    context.progress.start(report.step, todo.rows)
    was = {row[0]: row[1:] for row in todo.frame.select("id", "seen", "again").iter_rows()} if todo.hangs else {}

    def write(done: list[Done]) -> None:
        results.store(context, key, done, who)
        for state in ("done", "abstained", "failed"):
            setattr(report, state, getattr(report, state) + sum(row.state == state for row in done))
        report.cost += sum(row.cost for row in done)

    def finish(row: Any, result: Any, cost: float) -> Done:
        seen, again = was.get(row.id, (None, False))
        end = Done(row.id, "done", None, cost, seen=seen, again=again)
        try:
            if isinstance(result, Exception):
                raise result
            if isinstance(result, Abstained):
                end.state, end.note = "abstained", result.note
            else:
                end.rows = to_rows(row, result, seen)
        except Exception as error:  # one row's failure is that row's outcome; the run goes on
            log.debug("%s failed on %s", bound.method.name, row.id, exc_info=error)
            end.state = "failed"
            end.note = (str(error) if isinstance(error, PrefdataError) else f"{type(error).__name__}: {error}")[:_NOTE]
        return end

    rows = _Rows(missing.read(context, todo))
    try:
        _put_aside(context, todo, write)
        context.runner.run(_pool(context, bound, rows, finish, write))
    except KeyboardInterrupt:
        rows.stopped = True
    if rows.stopped:
        left = todo.rows - report.done - report.abstained - report.failed
        raise Interrupted(
            f"stopped in {bound.step}: what was finished is stored, {left} rows are left; run the same command again to go on."
        )
    return report


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


async def _pool(
    context: Context, bound: Bound, rows: _Rows, finish: Callable[[Any, Any, float], Done], write: Callable[[list[Done]], None]
) -> None:
    """Workers take rows until none is left; finished rows are flushed from time to time, and always at the end.

    The first Ctrl-C lets what is in flight finish (it may be paid for); the second gives it up.
    """
    hands = Hands(context, bound)
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
            handed, bill = hands.row()
            result = await _result(function, row, handed, bound.params)
            finished = finish(row, result, bill.cost)
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
            for _ in range(hands.width):
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


async def _result(function: Callable[..., Any], row: Any, handed: list[Any], params: Mapping[str, Any]) -> Any:
    """What the method gave for a row, or the exception with which it failed on it."""
    try:
        result = function(row, *handed, **params)
        return await result if inspect.isawaitable(result) else result
    except Stopped:
        raise
    except ExceptionGroup as group:  # of a method's own task group
        for stopped in _leaves(group.subgroup(Stopped)):
            raise stopped from None
        return next(_leaves(group))
    except Exception as error:
        return error


def _leaves(group: BaseException | None) -> Iterator[Exception]:
    """The single exceptions of a group, however deep."""
    if isinstance(group, BaseExceptionGroup):
        for inner in group.exceptions:
            yield from _leaves(inner)
    elif isinstance(group, Exception):
        yield group


def _plan(context: Context, bound: Bound, report: StepReport, todo: Todo) -> None:
    rows, responses = todo.rows, 1.0
    if todo.subject == "group":
        fitting = todo.frame.filter(pl.col("n") >= missing.FEWEST)["n"]
        rows, responses = fitting.len(), float(fitting.mean() or 0.0)  # type: ignore[arg-type]
    estimate(context, bound, report, todo.subject, rows, responses)


def _put_aside(context: Context, todo: Todo, write: Callable[[list[Done]], None]) -> None:
    """Prompts with too few responses to compare abstain, unread."""
    if todo.subject != "group":
        return
    few = todo.frame.filter(pl.col("n") < missing.FEWEST)
    for part in few.iter_slices(_AT_ONCE):
        write([
            Done(row["id"], "abstained", f"a judgement of a group needs {missing.FEWEST} responses; this prompt has {row['n']}",
                 seen=row["seen"], again=row["again"])
            for row in part.iter_rows(named=True)
        ])  # fmt: skip
        context.progress.advance(abstained=part.height)
