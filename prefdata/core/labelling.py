"""Handing pairs to people and taking their answers.

A pair is claimed under a lease, so that several people (and several tabs of one person) work side by side; an answer is
an appended row, durable when `record` returns; taking it back is another row. `desk.py` keeps a person's next pairs in
memory.

Choices are spoken as the person sees them (left, right) and stored as the pair knows them (a, b): the sides are drawn by
a hash of person and pair, and `shown` keeps the order.
"""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import duckdb

from prefdata.core.errors import BadValue
from prefdata.core.ids import UNIT
from prefdata.core.rows import Message
from prefdata.core.store import Store

Seen = Literal["left", "right", "tie", "both_bad", "abstain"]
SEEN: tuple[Seen, ...] = ("left", "right", "tie", "both_bad", "abstain")
SOURCE = "app"
"""Annotations made by people in the app carry this source."""
LEASE = 900.0
"""Seconds for which a claimed pair is kept for its person."""
CHUNK = 12
"""Pairs whose texts are fetched at once."""
FEW = 40
"""Up to about fifty rows, DuckDB goes to the places of a join's rows; for more it scans the table."""

LIVE = """annotations x ANTI JOIN (SELECT retracts AS id FROM annotations WHERE retracts IS NOT NULL) g ON g.id = x.id
    WHERE x.retracts IS NULL AND x.kind = 'pair'"""
"""Judgements of pairs that nobody took back; `AND ...` may follow."""
NOT_REVIEW = "json_extract_string(x.scores, '$.role') IS DISTINCT FROM 'review'"
IN_APP = f"{LIVE} AND x.source = '{SOURCE}' AND {NOT_REVIEW}"
"""Answers given in the labelling view."""

MACHINES = ("llm", "reward_model", "verifier", "imported")
"""Kinds of annotators that are no persons; everybody else is."""

Asked = tuple[str, str | None]
"""A pair's id, and why it is asked for."""


@dataclass(frozen=True)
class Seat:
    """Who asks for pairs, and which."""

    annotator: str
    overlap: int = 1
    """How many people may answer one pair in the app; a pair is never handed to one person twice."""
    desk: str = ""
    """Which tab asks: pairs on another desk of the same person come last."""
    beyond: bool = False
    """Take pairs that the queue does not ask for."""
    lease: float = LEASE

    def __post_init__(self) -> None:
        if self.overlap < 1:
            raise BadValue("overlap", self.overlap, "1 or more people per pair")


@dataclass(frozen=True)
class LabelTask:
    """One pair as one person sees it."""

    id: str
    """This showing of the pair; a pair that comes back is a new task."""
    pair_id: str
    messages: tuple[Message, ...]
    a: str
    b: str
    shown: str
    """`ab`: response a is on the left; `ba`: b is."""
    reason: str | None = None
    """Why the queue asks for this pair."""

    @property
    def left(self) -> str:
        return self.a if self.shown == "ab" else self.b

    @property
    def right(self) -> str:
        return self.b if self.shown == "ab" else self.a

    def stored(self, choice: str) -> str:
        """left, right -> a, b; the rest stays."""
        return {"left": self.shown[0], "right": self.shown[1]}.get(choice, choice)


@dataclass(frozen=True)
class Claim:
    """Pairs taken for one person, and how many they may still answer, these included."""

    pairs: tuple[Asked, ...]
    left: int


@dataclass(frozen=True)
class Progress:
    """What one person has done in the app."""

    answered: int = 0
    skipped: int = 0
    today: int = 0
    seconds: float | None = None
    """Median seconds per answer over the last hundred."""


def side(annotator: str, pair_id: str) -> str:
    """`ab` or `ba`: drawn by a hash, so the same person always sees a pair the same way round."""
    return "ba" if hashlib.sha256(f"{annotator}{UNIT}{pair_id}".encode()).digest()[0] & 1 else "ab"


def next_pair(store: Store, annotator: str, *, overlap: int = 1, desk: str = "") -> LabelTask | None:
    """Claim and fetch the next pair for `annotator`; None where nothing is left."""
    tasks = fetch(store, annotator, claim(store, Seat(annotator, overlap, desk), 1).pairs)
    return tasks[0] if tasks else None


def claim(store: Store, seat: Seat, count: int, besides: Sequence[str] = ()) -> Claim:
    """Lease up to `count` pairs: the queue by priority where one asks for humans, else the pairs in the store's order.

    Args:
        besides: pairs that are in hand already; their leases are renewed.
    """
    now = time.time()
    with store.write() as db:
        _sign_in(db, seat.annotator)
        queued = not seat.beyond and _asks_humans(db)
        found = _open_pairs(db, seat, queued, now, count, besides, others=False)
        if not found:  # what another tab of this person holds, or held when it was closed
            found = _open_pairs(db, seat, queued, now, count, besides, others=True)
        ids = [*besides, *(pair for pair, _ in found)]
        stale = "until < ? OR (annotator_id = ? AND pair_id IN (SELECT unnest(?::UUID[])))"
        db.execute(f"DELETE FROM leases WHERE {stale}", [now, seat.annotator, ids])
        db.execute("INSERT INTO leases SELECT unnest(?::UUID[]), ?, ?, ?", [ids, seat.annotator, seat.desk, now + seat.lease])
    with store.read() as db:
        sql, given = _open(seat, queued, now, (), others=True)
        row = db.execute(f"SELECT count(*) FROM ({sql})", given).fetchone()
    return Claim(tuple(found), int(row[0]) if row else 0)


def _asks_humans(db: duckdb.DuckDBPyConnection) -> bool:
    return db.execute("SELECT 1 FROM queue WHERE send_to = 'human' LIMIT 1").fetchone() is not None


def _open_pairs(
    db: duckdb.DuckDBPyConnection, seat: Seat, queued: bool, now: float, count: int, besides: Sequence[str], *, others: bool
) -> list[Asked]:
    sql, given = _open(seat, queued, now, besides, others=others)
    order = "priority DESC NULLS LAST, pair_id" if queued else "place"
    # A pair that several queues ask for stands there more than once: fetch some to spare, keep each once.
    spare = 4 if queued else 1
    rows = db.execute(f"SELECT pair_id, reason FROM ({sql}) ORDER BY {order} LIMIT {int(count) * spare}", given).fetchall()
    unique: dict[str, str | None] = {}
    for pair, reason in rows:
        unique.setdefault(str(pair), reason)
    return list(unique.items())[:count]


def _open(seat: Seat, queued: bool, now: float, besides: Sequence[str], *, others: bool) -> tuple[str, dict[str, Any]]:
    """The SELECT of pairs that the seat's person may answer; with `others`, those on their other desks too."""
    given: dict[str, Any] = {"me": seat.annotator, "overlap": seat.overlap, "besides": list(besides), "now": now}
    held = ""
    if not others:
        held = "UNION ALL SELECT pair_id FROM leases WHERE annotator_id = $me AND desk <> $desk AND until >= $now"
        given["desk"] = seat.desk
    closed = f"""SELECT x.subject AS pair_id FROM {LIVE} AND x.annotator_id = $me
        UNION ALL SELECT unnest($besides::UUID[]) {held}
        UNION ALL SELECT pair_id FROM (
            SELECT x.subject AS pair_id, x.annotator_id FROM {IN_APP} AND x.choice <> 'abstain'
            UNION ALL SELECT pair_id, annotator_id FROM leases WHERE until >= $now)
        WHERE annotator_id <> $me GROUP BY pair_id HAVING count(DISTINCT annotator_id) >= $overlap"""
    if not queued:
        return f"SELECT p.id AS pair_id, NULL AS reason, p.rowid AS place FROM pairs p ANTI JOIN ({closed}) c ON c.pair_id = p.id", given
    outdated = """SELECT key FROM steps WHERE shelf = 'acquire'
        QUALIFY row_number() OVER (PARTITION BY method ORDER BY used DESC) > 1"""
    sql = f"""SELECT q.pair_id, q.reason, q.priority FROM queue q ANTI JOIN ({closed}) c ON c.pair_id = q.pair_id
        WHERE q.send_to = 'human' AND q.key NOT IN ({outdated})"""
    return sql, given


def _sign_in(db: duckdb.DuckDBPyConnection, annotator: str) -> None:
    known = db.execute("SELECT kind FROM annotators WHERE id = ?", [annotator]).fetchone()
    if known is None:
        db.execute("INSERT INTO annotators VALUES (?, 'human', ?, NULL)", [annotator, annotator])
    elif known[0] in MACHINES:
        raise BadValue("the annotator's name", annotator, "a name of your own", f"This one stands for a {known[0]} in this store.")


def fetch(store: Store, annotator: str, pairs: Sequence[Asked]) -> list[LabelTask]:
    """The texts of `pairs`, in their order; a pair that is not in the store is left out."""
    tasks = []
    for start in range(0, len(pairs), CHUNK):
        part = pairs[start : start + CHUNK]
        with store.read() as db:
            found = _texts(db, [pair for pair, _ in part])
        for pair, reason in part:
            if pair in found:
                messages, a, b = found[pair]
                tasks.append(LabelTask(str(uuid.uuid4()), pair, messages, a, b, side(annotator, pair), reason))
    return tasks


def _texts(db: duckdb.DuckDBPyConnection, ids: Sequence[str]) -> dict[str, tuple[tuple[Message, ...], str, str]]:
    """Pair id -> messages, a's text, b's text."""
    rows = db.execute("SELECT id, prompt_id, a, b FROM pairs WHERE id IN (SELECT unnest(?::UUID[]))", [list(ids)]).fetchall()
    texts = look_up(db, "responses", "text", [response for row in rows for response in row[2:]])
    prompts = look_up(db, "prompts", "messages", [row[1] for row in rows])
    return {str(pair): (tuple(json.loads(prompts[prompt])), texts[a], texts[b]) for pair, prompt, a, b in rows}


def look_up(db: duckdb.DuckDBPyConnection, table: str, column: str, ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, str]:
    """The texts of a few rows by id: row numbers first, so that DuckDB reads these rows' texts and not all of them."""
    found: dict[uuid.UUID, str] = {}
    for start in range(0, len(ids), FEW):
        wanted = [str(one) for one in ids[start : start + FEW]]
        db.execute(
            f"CREATE OR REPLACE TEMP TABLE places AS SELECT rowid AS place FROM {table} WHERE id IN (SELECT unnest(?::UUID[]))", [wanted]
        )
        found |= dict(db.execute(f"SELECT t.id, t.{column} FROM {table} t JOIN places ON t.rowid = places.place").fetchall())
    return found


def record(
    store: Store,
    annotator: str,
    task: LabelTask,
    choice: Seen,
    *,
    strength: float | None = None,
    aspects: Mapping[str, Seen] | None = None,
    rationale: str | None = None,
    seconds: float | None = None,
    flag: bool = False,
    review: bool = False,
    fold: bool = True,
) -> bool:
    """Append one answer; it is on disk when this returns. False: this person had answered the pair already.

    Args:
        strength: how clear the choice is, in (0, 1]; only for left and right. Stored positive where a is better.
        aspects: aspect -> left, right or tie; stored under `scores.aspects` as 1 (a), -1 (b), 0.
        flag: this pair needs another look.
        review: the final word on a disputed pair; replaces this person's earlier one.
        fold: merge the answer into the store's one file at once. Otherwise it stays in DuckDB's log beside it, as durable
            and half as dear in a large store, until the next write of any kind or `fold`.
    """
    if choice not in SEEN:
        raise BadValue("choice", choice, ", ".join(SEEN))
    if strength is not None and not 0 < strength <= 1:
        raise BadValue("strength", strength, "a number above 0 and at most 1")
    winner = task.stored(choice)
    rated = {name: {"a": 1, "b": -1}.get(task.stored(seen), 0) for name, seen in (aspects or {}).items()}
    scores: dict[str, Any] = {"aspects": rated} if rated else {}
    scores |= {"flag": True} if flag else {}
    scores |= {"role": "review"} if review else {}
    mine = f"SELECT x.id FROM {LIVE} AND x.subject = $pair::UUID AND x.annotator_id = $me AND ({NOT_REVIEW}) <> $review"
    with store.write() as db:
        if not fold:
            db.execute("PRAGMA disable_checkpoint_on_shutdown")
        _sign_in(db, annotator)
        earlier = db.execute(mine, {"pair": task.pair_id, "me": annotator, "review": review}).fetchone()
        if earlier and not review:
            return False
        if earlier:
            _append(db, task.pair_id, annotator, retracts=str(earlier[0]))
        _append(
            db,
            task.pair_id,
            annotator,
            choice=winner,
            strength={"a": strength, "b": -strength}.get(winner) if strength is not None else None,
            scores=json.dumps(scores) if scores else None,
            rationale=(rationale or "").strip() or None,
            shown=task.shown,
            seconds=seconds,
        )
        db.execute("DELETE FROM leases WHERE pair_id = ? AND annotator_id = ?", [task.pair_id, annotator])
    return True


def fold(store: Store) -> None:
    """Merge what DuckDB's log holds into the store's file, so that whoever copies the file has everything."""
    with store.write():
        pass


def undo(store: Store, seat: Seat, annotation: str | None = None) -> LabelTask | None:
    """Take back the person's newest answer (or the one named) by a retraction; gives the pair to answer again."""
    with store.write() as db:
        row = db.execute(
            f"""SELECT x.id, x.subject FROM {IN_APP} AND x.annotator_id = $me AND ($id IS NULL OR x.id = $id::UUID)
            ORDER BY x.created DESC, x.rowid DESC LIMIT 1""",
            {"me": seat.annotator, "id": annotation},
        ).fetchone()
        if row is None:
            return None
        pair = str(row[1])
        _append(db, pair, seat.annotator, retracts=str(row[0]))
        db.execute("INSERT INTO leases VALUES (?, ?, ?, ?)", [pair, seat.annotator, seat.desk, time.time() + seat.lease])
    tasks = fetch(store, seat.annotator, [(pair, None)])
    return tasks[0] if tasks else None


def _append(db: duckdb.DuckDBPyConnection, pair: str, annotator: str, **values: str | float | None) -> None:
    """One row of `annotations`; `values` name its further columns."""
    row = {"id": str(uuid.uuid4()), "subject": pair, "annotator_id": annotator, **values}
    columns = ", ".join(f"${name} AS {name}" for name in row)
    db.execute(
        f"""INSERT INTO annotations BY NAME SELECT {columns}, 'pair' AS kind, 'human' AS annotator_kind,
        '{SOURCE}' AS source, now()::TIMESTAMP AS created""",
        row,
    )


def progress(store: Store, annotator: str) -> Progress:
    """How much `annotator` has answered here, and how fast."""
    with store.read() as db:
        row = db.execute(
            f"""WITH mine AS (SELECT choice, created, seconds, row_number() OVER (ORDER BY created DESC) AS age
                FROM {IN_APP} AND x.annotator_id = ?)
            SELECT count(*) FILTER (choice <> 'abstain'), count(*) FILTER (choice = 'abstain'),
                count(*) FILTER (choice <> 'abstain' AND created::DATE = current_date), median(seconds) FILTER (age <= 100) FROM mine""",
            [annotator],
        ).fetchone()
    return Progress(*row) if row else Progress()
