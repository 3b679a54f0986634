"""Handing pairs to people and taking their answers.

A pair is claimed under a lease, so that several people (and several tabs of one person) work side by side; an answer is
an appended row, durable when `record` returns; taking it back is another row. `Desk` is what a screen holds: upcoming
pairs in memory, fetched in the background, so that an answer costs one short write and the next pair is there.

Choices are spoken as the person sees them (left, right) and stored as the pair knows them (a, b): the sides are drawn by
a hash of person and pair, and `shown` keeps the order.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import duckdb

from prefdata.core.errors import BadValue, PrefdataError
from prefdata.core.ids import UNIT
from prefdata.core.rows import Message
from prefdata.core.store import Store

Seen = Literal["left", "right", "tie", "both_bad", "abstain"]
SEEN: tuple[str, ...] = ("left", "right", "tie", "both_bad", "abstain")
SOURCE = "app"
"""Annotations made by people in the app carry this source."""
LEASE = 1800.0
"""Seconds for which a claimed pair is kept for its person."""
CLAIM, CHUNK, LOW = 60, 12, 6
"""Pairs claimed at once, pairs whose texts are fetched at once, and pairs left when the next fetch starts."""

LIVE = """annotations x ANTI JOIN (SELECT retracts AS id FROM annotations WHERE retracts IS NOT NULL) g ON g.id = x.id
    WHERE x.retracts IS NULL AND x.kind = 'pair'"""
"""Judgements of pairs that nobody took back; `AND ...` may follow."""
NOT_REVIEW = "json_extract_string(x.scores, '$.role') IS DISTINCT FROM 'review'"


@dataclass(frozen=True)
class LabelTask:
    """One pair as one person sees it."""

    id: str
    """The id its answer will have: answering the same task twice stores one row."""
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
    """Pairs taken for one person, and how many more wait for them."""

    pairs: tuple[tuple[str, str | None], ...]
    """(pair id, reason), the first to be shown first."""
    left: int
    """Pairs this person may still answer, the claimed ones included."""


@dataclass(frozen=True)
class Progress:
    """What one person has done."""

    answered: int
    skipped: int
    today: int
    seconds: float | None
    """Median seconds per answer over the last hundred."""


def side(annotator: str, pair_id: str) -> str:
    """`ab` or `ba`: drawn by a hash, so the same person always sees a pair the same way round."""
    return "ba" if hashlib.sha256(f"{annotator}{UNIT}{pair_id}".encode()).digest()[0] & 1 else "ab"


def next_pair(store: Store, annotator: str, *, overlap: int = 1, desk: str = "") -> LabelTask | None:
    """Claim and fetch the next pair for `annotator`; None where nothing is left."""
    taken = claim(store, annotator, 1, overlap=overlap, desk=desk)
    tasks = fetch(store, annotator, taken.pairs)
    return tasks[0] if tasks else None


def claim(
    store: Store,
    annotator: str,
    count: int = CLAIM,
    *,
    overlap: int = 1,
    desk: str = "",
    beyond: bool = False,
    besides: Sequence[str] = (),
    lease: float = LEASE,
) -> Claim:
    """Lease up to `count` pairs to `annotator`: the queue by priority where one asks for humans, else the store's order.

    Args:
        overlap: how many people may answer one pair here; a pair is never handed to one person twice.
        desk: which tab asks; pairs on another desk of the same person come last.
        beyond: take pairs that the queue does not ask for.
        besides: pairs that are in hand already.
    """
    if overlap < 1:
        raise BadValue("overlap", overlap, "1 or more people per pair")
    with store.write() as db:
        _sign_in(db, annotator)
        now = time.time()
        queued = not beyond and has_queue(db)
        found = _open_pairs(db, annotator, count, queued, overlap, desk, besides, now)
        if not found:  # what another tab of this person holds, or held when it was closed
            found = _open_pairs(db, annotator, count, queued, overlap, None, besides, now)
        ids = [pair for pair, _ in found]
        db.execute("DELETE FROM leases WHERE until < ? OR (annotator_id = ? AND pair_id IN (SELECT unnest(?::UUID[])))", [now, annotator, ids])
        db.execute("INSERT INTO leases SELECT unnest(?::UUID[]), ?, ?, ?", [ids, annotator, desk, now + lease])
    with store.read() as db:
        sql, given = _base(queued, annotator, overlap, None, (), now)
        row = db.execute(f"SELECT count(*) FROM ({sql})", given).fetchone()
    return Claim(tuple(found), int(row[0]) if row else 0)


def has_queue(db: duckdb.DuckDBPyConnection) -> bool:
    """Whether somebody asks humans for answers."""
    return db.execute("SELECT 1 FROM queue WHERE send_to = 'human' LIMIT 1").fetchone() is not None


def _open_pairs(
    db: duckdb.DuckDBPyConnection,
    annotator: str,
    count: int,
    queued: bool,
    overlap: int,
    desk: str | None,
    besides: Sequence[str],
    now: float,
) -> list[tuple[str, str | None]]:
    sql, given = _base(queued, annotator, overlap, desk, besides, now)
    order = "priority DESC NULLS LAST, pair_id" if queued else "at"
    # A pair that several queues ask for stands there more than once: some to spare, then each once.
    rows = db.execute(f"SELECT pair_id, reason FROM ({sql}) ORDER BY {order} LIMIT {int(count) * (4 if queued else 1)}", given).fetchall()
    unique: dict[str, str | None] = {}
    for pair, reason in rows:
        unique.setdefault(str(pair), reason)
    return list(unique.items())[:count]


def _base(queued: bool, annotator: str, overlap: int, desk: str | None, besides: Sequence[str], now: float) -> tuple[str, dict[str, Any]]:
    """The SELECT of pairs that `annotator` may answer. With `desk`, those on the person's other desks are left out."""
    given: dict[str, Any] = {"me": annotator, "overlap": overlap, "besides": list(besides), "now": now}
    held = ""
    if desk is not None:
        held = "UNION ALL SELECT pair_id FROM leases WHERE annotator_id = $me AND desk <> $desk AND until >= $now"
        given["desk"] = desk
    closed = f"""SELECT x.subject AS pair_id FROM {LIVE} AND x.annotator_id = $me
        UNION ALL SELECT unnest($besides::UUID[]) {held}
        UNION ALL SELECT pair_id FROM (
            SELECT x.subject AS pair_id, x.annotator_id FROM {LIVE} AND x.source = '{SOURCE}' AND x.choice <> 'abstain' AND {NOT_REVIEW}
            UNION ALL SELECT pair_id, annotator_id FROM leases WHERE until >= $now)
        WHERE annotator_id <> $me GROUP BY pair_id HAVING count(DISTINCT annotator_id) >= $overlap"""
    if not queued:
        return f"SELECT p.id AS pair_id, NULL AS reason, p.rowid AS at FROM pairs p ANTI JOIN ({closed}) c ON c.pair_id = p.id", given
    newest = """SELECT key FROM steps WHERE shelf = 'acquire'
        QUALIFY row_number() OVER (PARTITION BY method ORDER BY used DESC) > 1"""
    sql = f"""SELECT q.pair_id, q.reason, q.priority FROM queue q ANTI JOIN ({closed}) c ON c.pair_id = q.pair_id
        WHERE q.send_to = 'human' AND q.key NOT IN ({newest})"""
    return sql, given


def _sign_in(db: duckdb.DuckDBPyConnection, annotator: str) -> None:
    known = db.execute("SELECT kind FROM annotators WHERE id = ?", [annotator]).fetchone()
    if known is None:
        db.execute("INSERT INTO annotators VALUES (?, 'human', ?, NULL)", [annotator, annotator])
    elif known[0] != "human":
        raise BadValue("the annotator's name", annotator, "a name that no machine judge has", f"This one belongs to a {known[0]}; choose another.")


def fetch(store: Store, annotator: str, pairs: Sequence[tuple[str, str | None]]) -> list[LabelTask]:
    """The texts of `pairs`, in their order; a pair that is not in the store is left out.

    Few at a time: up to about twenty pairs, DuckDB looks up their rows instead of scanning all texts.
    """
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
    """Pair id -> messages, a's text, b's text; row numbers first, so that only those rows' texts are read."""
    db.execute("CREATE OR REPLACE TEMP TABLE w AS SELECT id, prompt_id, a, b FROM pairs WHERE id IN (SELECT unnest(?::UUID[]))", [list(ids)])
    db.execute("CREATE OR REPLACE TEMP TABLE wr AS SELECT rowid AS at FROM responses WHERE id IN (SELECT a FROM w UNION ALL SELECT b FROM w)")
    db.execute("CREATE OR REPLACE TEMP TABLE wp AS SELECT rowid AS at FROM prompts WHERE id IN (SELECT prompt_id FROM w)")
    texts = dict(db.execute("SELECT r.id, r.text FROM responses r JOIN wr ON r.rowid = wr.at").fetchall())
    prompts = dict(db.execute("SELECT p.id, p.messages FROM prompts p JOIN wp ON p.rowid = wp.at").fetchall())
    rows = db.execute("SELECT id, prompt_id, a, b FROM w").fetchall()
    return {str(pair): (tuple(json.loads(prompts[prompt])), texts[a], texts[b]) for pair, prompt, a, b in rows}


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
) -> bool:
    """Append one answer; it is on disk when this returns. False: this person had answered the pair already.

    Args:
        strength: how clear the choice is, in (0, 1]; only for left and right. Stored positive where a is better.
        aspects: aspect -> left, right or tie; stored under `scores.aspects` as 1 (a), -1 (b), 0.
        flag: this pair needs another look.
        review: the final word on a disputed pair; replaces this person's earlier one.
    """
    if choice not in SEEN:
        raise BadValue("choice", choice, ", ".join(SEEN))
    if strength is not None and not 0 < strength <= 1:
        raise BadValue("strength", strength, "a number above 0 and at most 1")
    winner = task.stored(choice)
    signed = None if strength is None or winner not in "ab" else (strength if winner == "a" else -strength)
    rated = {name: {"a": 1, "b": -1}.get(task.stored(seen), 0) for name, seen in (aspects or {}).items()}
    scores: dict[str, Any] = {"aspects": rated} if rated else {}
    scores |= {"flag": True} if flag else {}
    scores |= {"role": "review"} if review else {}
    mine = f"SELECT x.id FROM {LIVE} AND x.subject = $pair::UUID AND x.annotator_id = $me AND ({NOT_REVIEW}) <> $review"
    given = {"pair": task.pair_id, "me": annotator, "review": review}
    with store.write() as db:
        _sign_in(db, annotator)
        earlier = db.execute(mine, given).fetchone()
        if earlier and not review:
            return False
        if earlier:
            _retract(db, str(earlier[0]), task.pair_id, annotator)
        db.execute(
            f"""INSERT INTO annotations BY NAME SELECT ?::UUID AS id, ?::UUID AS subject, 'pair' AS kind, ? AS annotator_id,
            'human' AS annotator_kind, ? AS choice, ?::DOUBLE AS strength, ?::JSON AS scores, ? AS rationale, ? AS shown,
            ?::DOUBLE AS seconds, '{SOURCE}' AS source, now()::TIMESTAMP AS created""",
            [task.id, task.pair_id, annotator, winner, signed, json.dumps(scores) if scores else None, (rationale or "").strip() or None,
             task.shown, seconds],  # fmt: skip
        )
    return True


def undo(store: Store, annotator: str, *, annotation: str | None = None, desk: str = "", lease: float = LEASE) -> LabelTask | None:
    """Take back `annotator`'s newest answer (or the one named) by a retraction; gives the pair to answer again."""
    with store.write() as db:
        row = db.execute(
            f"""SELECT x.id, x.subject FROM {LIVE} AND x.annotator_id = $me AND x.source = '{SOURCE}' AND {NOT_REVIEW}
            AND ($id IS NULL OR x.id = $id::UUID) ORDER BY x.created DESC, x.rowid DESC LIMIT 1""",
            {"me": annotator, "id": annotation},
        ).fetchone()
        if row is None:
            return None
        pair = str(row[1])
        _retract(db, str(row[0]), pair, annotator)
        db.execute("INSERT INTO leases VALUES (?, ?, ?, ?)", [pair, annotator, desk, time.time() + lease])
    tasks = fetch(store, annotator, [(pair, None)])
    return tasks[0] if tasks else None


def _retract(db: duckdb.DuckDBPyConnection, annotation: str, pair: str, annotator: str) -> None:
    db.execute(
        f"""INSERT INTO annotations BY NAME SELECT ?::UUID AS id, ?::UUID AS subject, 'pair' AS kind, ? AS annotator_id,
        'human' AS annotator_kind, '{SOURCE}' AS source, now()::TIMESTAMP AS created, ?::UUID AS retracts""",
        [str(uuid.uuid4()), pair, annotator, annotation],
    )


def progress(store: Store, annotator: str) -> Progress:
    """How much `annotator` has answered here, and how fast."""
    with store.read() as db:
        row = db.execute(
            f"""WITH mine AS (SELECT choice, created, seconds, row_number() OVER (ORDER BY created DESC) AS age
                FROM {LIVE} AND x.annotator_id = ? AND x.source = '{SOURCE}' AND {NOT_REVIEW})
            SELECT count(*) FILTER (choice <> 'abstain'), count(*) FILTER (choice = 'abstain'),
                count(*) FILTER (choice <> 'abstain' AND created::DATE = current_date), median(seconds) FILTER (age <= 100) FROM mine""",
            [annotator],
        ).fetchone()
    return Progress(*row) if row else Progress(0, 0, 0, None)


class Desk:
    """One person's place: upcoming pairs in memory, refilled in the background. Safe to use from several threads."""

    def __init__(self, store: Store, annotator: str, *, overlap: int = 1, name: str = "", beyond: bool = False, lease: float = LEASE) -> None:
        self.store, self.annotator, self.overlap, self.lease = store, annotator, overlap, lease
        self.name, self.beyond = name or uuid.uuid4().hex[:8], beyond
        self.done, self.left = Progress(0, 0, 0, None), 0
        self._ready: deque[LabelTask] = deque()
        self._claimed: deque[tuple[str, str | None]] = deque()
        self._lost: set[str] = set()
        self._until = 0.0
        self._filling = threading.Lock()

    def current(self) -> LabelTask | None:
        """The pair to show; None when nothing is left for this person."""
        if time.time() > self._until:  # the leases have run out: others may have these pairs by now
            with self._filling:
                self._ready.clear()
                self._claimed.clear()
        if not self._ready:
            self._fill()
        elif len(self._ready) <= LOW and not self._filling.locked():
            threading.Thread(target=self._fill_quietly, daemon=True).start()
        return self._ready[0] if self._ready else None

    def answer(self, task: LabelTask, choice: Seen, **more: Any) -> bool:
        """`record`, then move on; a task that is no longer in front is left alone."""
        if not self._ready or self._ready[0].id != task.id:
            return False
        stored = record(self.store, self.annotator, task, choice, **more)
        self._ready.popleft()
        self.left = max(0, self.left - 1)
        if stored:
            skip = choice == "abstain"
            self.done = Progress(self.done.answered + (not skip), self.done.skipped + skip, self.done.today + (not skip), self.done.seconds)
        return stored

    def undo(self, annotation: str | None = None) -> bool:
        """`undo`, and show that pair again at once."""
        task = undo(self.store, self.annotator, annotation=annotation, desk=self.name, lease=self.lease)
        if task is None:
            return False
        with self._filling:
            rest = [other for other in self._ready if other.pair_id != task.pair_id]
            self._ready = deque([task, *rest])
            self._until = max(self._until, time.time() + 60)
        self.left += 1
        self.done = progress(self.store, self.annotator)
        return True

    def _fill_quietly(self) -> None:
        with suppress(PrefdataError):  # the next call in front meets the same trouble and says so
            self._fill()

    def _fill(self) -> None:
        """Texts for the next few pairs; claims more where none is left."""
        with self._filling:
            if len(self._ready) > LOW:
                return
            while True:
                if not self._claimed:
                    self._claim()
                if not self._claimed:
                    return
                part = [self._claimed.popleft() for _ in range(min(CHUNK, len(self._claimed)))]
                tasks = fetch(self.store, self.annotator, part)
                self._lost |= {pair for pair, _ in part} - {task.pair_id for task in tasks}
                self._ready.extend(tasks)
                if tasks:
                    return

    def _claim(self) -> None:
        besides = [*self._lost, *(task.pair_id for task in self._ready)]
        taken = claim(self.store, self.annotator, overlap=self.overlap, desk=self.name, beyond=self.beyond, besides=besides, lease=self.lease)
        self._claimed.extend(taken.pairs)
        self._until = time.time() + self.lease
        self.left = max(0, taken.left - len(self._lost))
        self.done = progress(self.store, self.annotator)
