"""Steps whose work is a table: sources, pairing, aggregates, signals, filters, acquisition.

A method either gets Polars frames, or, with nothing left of its star, returns `Sql` expressions that never leave
DuckDB. A step is skipped where the fingerprint of what it reads is the one it has seen; signals of immutable columns
are computed for new rows only.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from prefdata.core import columns, routing, votes
from prefdata.core.columns import LABEL, Relation, relation
from prefdata.core.errors import BadValue, PrefdataError
from prefdata.core.expressions import check_expression, referenced
from prefdata.core.ids import canonical_json
from prefdata.core.ingest import Counts, ingest
from prefdata.core.labels import Labels
from prefdata.core.rows import Sql
from prefdata.core.run import Bound, Context, StepReport, record_step
from prefdata.core.scan import scan
from prefdata.core.store import insert

FLUSH_SECONDS = 5.0
"""Signals of new rows are written at least this often; what was written is not computed again."""
PLANNED_BYTES = 100_000_000
"""Larger files are not read for a plan."""
_FINITE = "CASE WHEN isfinite({0}) THEN {0} END"


def source(context: Context, bound: Bound) -> StepReport:
    """Import a file; unchanged files are not read again."""
    path = context.read_path(str(bound.extra["path"]))
    key = bound.key(context, {"path": str(bound.extra["path"])})
    report = StepReport(str(bound.step), key)
    fingerprint = _file_fingerprint(path)
    seen = _seen(context, key)
    if seen and seen[0] == fingerprint and fingerprint:
        report.rows_in = report.had = seen[1]
        return report
    if context.plan and not (context.scratch and _size(path) < PLANNED_BYTES):
        report.detail["reads"] = str(path)
        return report
    context.progress.start(report.step, 0)
    counts = Counts()
    batches = bound.method.load()(path, **bound.params)

    def watched() -> Iterator[Any]:
        for batch in batches:
            yield batch
            context.progress.advance(done=batch.frame.height, failed=len(batch.rejects))

    ingest(context.store, watched(), counts)
    report.rows_in, report.had, report.done, report.failed = counts.read, counts.known, counts.stored, len(counts.rejects)
    report.detail |= {k: v for k, v in counts.added.items() if v}
    if counts.rejects and not context.plan:
        from prefdata.core.rejects import write_rejects

        report.detail["rejects"] = str(write_rejects(context.store, path, counts.rejects))
    record_step(context, bound, key, fingerprint=fingerprint, rows=counts.read)
    return report


def pairing(context: Context, bound: Bound) -> StepReport:
    """Responses of a prompt -> pairs that are not there yet."""
    needs = tuple(dict.fromkeys(("prompt_id", "response_id", *bound.method.header["needs"])))
    rel = relation("response", needs, context.keys)
    key = bound.key(context)
    report, changed = _start(context, bound, key, rel)
    if not changed:
        return report
    rows = _gather(context, "response", needs)
    made = bound.method.load()(rows, **_seeded(context, bound)).select(pl.col("first", "second").cast(pl.String))
    with context.store.write() as connection:
        connection.register("made", made.with_row_index("n"))
        found = connection.execute(
            """INSERT INTO pairs BY NAME SELECT id, prompt_id, a, b, source, $key AS strategy FROM (
            SELECT md5(least(first, second) || greatest(first, second))::UUID AS id, any_value(r.prompt_id) AS prompt_id,
                any_value(least(first, second))::UUID AS a, any_value(greatest(first, second))::UUID AS b,
                any_value(r.source) AS source, min(n) AS n
            FROM made JOIN responses r ON r.id = first::UUID WHERE first <> second GROUP BY 1) new
            ANTI JOIN pairs old ON old.id = new.id ORDER BY n""",
            {"key": key},
        ).fetchone()
    report.done = int(found[0]) if found else 0
    report.detail["pairs"] = made.height
    _finish(context, bound, report)
    return report


def aggregate(context: Context, bound: Bound) -> StepReport:
    """Votes -> one label per pair under this step's key; recomputed when the votes change."""
    rel = votes.handed(bound.method, bound.params, context.keys, context.judge_keys)
    key = bound.key(context, {"judges": ",".join(sorted(context.judge_keys)), **rel.reads})
    report, changed = _start(context, bound, key, rel)
    context.keys.labels = key
    if not changed:
        _finish(context, bound, report)
        return report
    if bound.method.handed == ():
        made: Sql = bound.method.load()(**bound.params)
        listed = ", ".join(f"{check_expression(made.columns[c], votes.COUNTS)} AS {c}" for c in LABEL)
        select, frame = f"SELECT id AS pair_id, {listed} FROM ({rel.sql})", None
    else:
        order = "row, annotator_id, choice" if "votes" in bound.method.handed else "row"
        rows = context.store.frame(f"{rel.sql} ORDER BY {order}", dict(rel.parameters))
        given: pl.DataFrame | Labels = bound.method.load()(rows, **_seeded(context, bound))
        frame = _no_nan(given.frame if isinstance(given, Labels) else given)
        report.detail |= given.detail if isinstance(given, Labels) else {}
        select = "SELECT pair_id, " + ", ".join(LABEL) + " FROM frame"
    _replace(context, "labels", key, select, rel.parameters if frame is None else {}, frame)
    rows_out = context.store.rows("SELECT count(*), count(winner) FROM labels WHERE key = ?", [key])[0]
    report.rows_in, report.done, report.abstained = rows_out[0], rows_out[1], rows_out[0] - rows_out[1]
    _finish(context, bound, report)
    return report


def signal(context: Context, bound: Bound) -> StepReport:
    """Numbers about a subject; null where undefined, never NaN."""
    header = bound.method.header
    subject, gives = header["subject"], list(header["gives"])
    made: Sql | None = bound.method.load()(**bound.params) if bound.method.handed == () else None
    names = list(header["needs"]) if made is None else sorted(set().union(*(referenced(e) for e in made.columns.values())))
    rel = relation(subject, names, context.keys)
    key = bound.key(context, rel.reads)
    if made is None and not rel.reads and rel.grows == (f"{subject}s",):
        report = _new_rows_signal(context, bound, key, subject, names)
    else:
        report, changed = _start(context, bound, key, rel)
        if changed and made is not None:
            computed = ", ".join(f"{check_expression(made.columns[name], names)}::DOUBLE AS v{n}" for n, name in enumerate(gives))
            listed = ", ".join(f"{{name: '{name}', value: {_FINITE.format(f'v{n}')}}}" for n, name in enumerate(gives))
            long = f"SELECT id, unnest([{listed}]) AS s FROM (SELECT id, {computed} FROM ({rel.sql}))"
            select = f"SELECT id AS subject, '{subject}' AS kind, s.name AS name, s.value AS value FROM ({long})"
            _replace(context, "signals", key, select, rel.parameters)
        elif changed:
            frames = [_long(frame, bound, subject, gives, context) for frame in scan(context.store, subject, names, context.keys)]
            _replace(context, "signals", key, "SELECT * FROM frame", {}, pl.concat(frames) if frames else None)
        if changed:
            _count_signals(context, report, key, len(gives))
    _finish(context, bound, report, gives=gives)
    context.keys.signals |= dict.fromkeys(gives, (key, subject))
    return report


def _new_rows_signal(context: Context, bound: Bound, key: str, subject: str, names: list[str]) -> StepReport:
    """Columns that never change: only rows without this key, chunk by chunk, each chunk committed."""
    base = relation(subject, (), context.keys)
    todo = context.store.frame(
        f"SELECT id FROM ({base.sql}) x ANTI JOIN (SELECT subject AS id FROM signals WHERE key = $own_key) USING (id)",
        {**base.parameters, "own_key": key},
    )
    total = context.store.value(f"SELECT count(*) FROM ({base.sql})", dict(base.parameters))
    report = StepReport(str(bound.step), key, rows_in=total, had=total - todo.height)
    if context.plan or todo.is_empty():
        return report
    context.progress.start(report.step, todo.height)
    gives = list(bound.method.header["gives"])
    waiting: list[pl.DataFrame] = []
    since = time.monotonic()

    def store_waiting() -> None:
        if waiting:
            with context.store.write() as connection:
                insert(connection, "signals", pl.concat(waiting).with_columns(pl.lit(key).alias("key")))
            waiting.clear()

    for frame in scan(context.store, subject, names, context.keys, only=todo):
        long = _long(frame, bound, subject, gives, context)
        waiting.append(long)
        undefined = long["value"].null_count() // len(gives)
        report.done += frame.height - undefined
        report.abstained += undefined
        context.progress.advance(done=frame.height - undefined, abstained=undefined)
        if time.monotonic() - since >= FLUSH_SECONDS:
            store_waiting()
            since = time.monotonic()
    store_waiting()
    return report


def _count_signals(context: Context, report: StepReport, key: str, names: int) -> None:
    value, null = context.store.rows("SELECT count(value), count(*) - count(value) FROM signals WHERE key = ?", [key])[0]
    report.done, report.abstained = value // names, null // names


def _long(frame: pl.DataFrame, bound: Bound, subject: str, gives: list[str], context: Context) -> pl.DataFrame:
    made: pl.DataFrame = bound.method.load()(frame, **_seeded(context, bound))
    missing = [name for name in gives if name not in made.columns]
    if missing or made.height != frame.height:
        raise PrefdataError(
            f"{bound.step} gave {made.height} rows with columns {made.columns}; "
            f"its header promises {gives} for each of {frame.height} rows."
        )
    finite = pl.when(pl.col("value").is_finite()).then(pl.col("value")).alias("value")
    return pl.concat(
        pl.DataFrame({"subject": frame["id"], "value": made[name].cast(pl.Float64)}).select(
            "subject", pl.lit(subject).alias("kind"), pl.lit(name).alias("name"), finite
        )
        for name in gives
    )


def filters(context: Context, bound: Bound) -> StepReport:
    """Per pair kept so far: kept, or the reason why not."""
    reasons = bound.method.header["reasons"]
    made: Sql | None = bound.method.load()(**bound.params) if bound.method.handed == () else None
    names = list(bound.method.header["needs"]) if made is None else sorted(referenced(made.columns["reason"]))
    rel = relation("pair", names, context.keys)
    key = bound.key(context, rel.reads)
    report, changed = _start(context, bound, key, rel)
    context.keys.filters = [*context.keys.filters, key]
    if changed:
        frame = None
        if made is not None:
            select = f"SELECT id AS pair_id, {check_expression(made.columns['reason'], names)} AS reason FROM ({rel.sql})"
        else:
            rows = _gather_filter(context, names, key)
            verdict = bound.method.load()(rows, **_seeded(context, bound))
            unknown = set(verdict.drop_nulls().unique()) - set(reasons)
            if unknown:
                raise BadValue(f"{bound.step}: reason", sorted(unknown)[0], ", ".join(reasons), "Declare it in the method's header.")
            frame = pl.DataFrame({"pair_id": rows["id"], "reason": verdict.cast(pl.String)})
            select = "SELECT pair_id, reason FROM frame"
        _replace(context, "decisions", key, select, rel.parameters if frame is None else {}, frame)
    if not context.plan:
        by_reason = context.store.rows("SELECT reason, count(*) FROM decisions WHERE key = ? GROUP BY 1 ORDER BY 2 DESC, 1", [key])
        kept = sum(n for reason, n in by_reason if reason is None)
        report.detail |= {"kept": kept, "dropped": {str(reason): n for reason, n in by_reason if reason is not None}}
        report.done = report.rows_in - report.had
    _finish(context, bound, report)
    return report


def _gather_filter(context: Context, names: list[str], own: str) -> pl.DataFrame:
    earlier = columns.Keys(context.keys.labels, context.keys.signals, [k for k in context.keys.filters if k != own], context.keys.sources)
    frames = list(scan(context.store, "pair", names, earlier))
    return pl.concat(frames) if frames else pl.DataFrame({"id": [], **{n: [] for n in names}})


def acquire(context: Context, bound: Bound) -> StepReport:
    """Pairs -> the queue of who answers next; replaced whenever the pool changes."""
    rel = routing.pool(bound.method, bound.params, context.keys, context.judge_keys)
    key = bound.key(context, {"judges": ",".join(sorted(context.judge_keys)), **rel.reads})
    report, changed = _start(context, bound, key, rel)
    if changed:
        rows = routing.rows(context.store, rel, bound.method, context.keys)
        made = bound.method.load()(rows, **_seeded(context, bound))
        _replace(context, "queue", key, "SELECT pair_id, send_to, priority, reason FROM frame", {}, made)
        report.done = made.height
    _finish(context, bound, report)
    return report


def audit(context: Context, bound: Bound) -> StepReport:
    """Run an audit and keep its numbers with the run."""
    report = StepReport(str(bound.step), bound.key(context))
    if not context.plan:
        with context.store.read() as db:
            report.detail = bound.method.load()(db, **bound.params)
        report.done = 1
    return report


def _start(context: Context, bound: Bound, key: str, rel: Relation) -> tuple[StepReport, bool]:
    """Whether the rows it reads are those this key has seen, and how many; the fingerprint rides in `detail`."""
    fingerprint = _fingerprint(context, rel)
    seen = _seen(context, key)
    report = StepReport(str(bound.step), key, detail={"fingerprint": fingerprint})
    if seen and seen[0] == fingerprint:
        report.rows_in = report.had = seen[1]
        return report, False
    if context.plan:
        report.rows_in = context.store.value(f"SELECT count(*) FROM ({rel.sql})", dict(rel.parameters))
        del report.detail["fingerprint"]
        return report, False
    base = relation(bound.method.header["subject"] or "pair", (), context.keys)
    report.rows_in = context.store.value(f"SELECT count(*) FROM ({base.sql})", dict(base.parameters))
    context.progress.start(report.step, report.rows_in)
    return report, True


def _finish(context: Context, bound: Bound, report: StepReport, gives: Sequence[str] = ()) -> None:
    """Note the step with what it read, so that the next run can tell whether anything changed."""
    record_step(context, bound, report.key, gives=gives, fingerprint=report.detail.pop("fingerprint", ""), rows=report.rows_in)


def _fingerprint(context: Context, rel: Relation) -> str:
    """What decides the rows of `rel`, without reading them: rows of its tables are only ever added, and results of a key
    follow from the fingerprint of the step that made them."""
    parts = [f"SELECT concat_ws(' ', '{t}', count(*), max(rowid)) FROM {t}" for t in rel.grows if t != "judges"]
    if "judges" in rel.grows:
        parts.append("SELECT string_agg(key, ' ' ORDER BY key) FROM (SELECT key FROM steps WHERE shelf = 'judges' "
                     "QUALIFY row_number() OVER (PARTITION BY method ORDER BY used DESC) = 1)")  # fmt: skip
    parts += ["SELECT concat_ws(' ', key, fingerprint, row_count) FROM steps WHERE key IN (SELECT unnest($made_by))"] if rel.reads else []
    made_by = {"made_by": sorted(set(rel.reads.values()))} if rel.reads else {}
    found = sorted(str(row[0]) for row in context.store.rows(" UNION ALL ".join(parts), made_by))
    return hashlib.sha256(canonical_json([found, {k: v for k, v in rel.parameters.items() if k == "sources"}]).encode()).hexdigest()[:32]


def _seen(context: Context, key: str) -> tuple[str, int] | None:
    if not context.store.exists:
        return None
    found = context.store.rows("SELECT fingerprint, row_count FROM steps WHERE key = ? ORDER BY used DESC LIMIT 1", [key])
    return (found[0][0], found[0][1]) if found else None


def _replace(context: Context, table: str, key: str, select: str, parameters: Mapping[str, Any], frame: pl.DataFrame | None = None) -> None:
    """The results of a key, exchanged as a whole in one transaction."""
    with context.store.write() as connection:
        connection.execute(f"DELETE FROM {table} WHERE key = ?", [key])
        if frame is not None:
            connection.register("frame", frame)
        elif " FROM frame" in select:
            return
        connection.execute(f"INSERT INTO {table} BY NAME SELECT *, $own_key AS key FROM ({select})", {**parameters, "own_key": key})


def _gather(context: Context, subject: str, names: tuple[str, ...] | list[str]) -> pl.DataFrame:
    frames = list(scan(context.store, subject, names, context.keys))
    return pl.concat(frames) if frames else pl.DataFrame({"id": [], **{n: [] for n in names}}, schema_overrides={"id": pl.String})


def _seeded(context: Context, bound: Bound) -> dict[str, Any]:
    """Parameters, with the recipe's seed for methods that ask for one left of the star."""
    return {**bound.params, **({"seed": context.recipe.seed} if "seed" in bound.method.handed else {})}


def _no_nan(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(pl.when(pl.col(c).is_finite()).then(pl.col(c)).alias(c) for c, t in frame.schema.items() if t.is_float())


def _size(path: Path) -> int:
    """Bytes of a file; 0 for a folder or what is not there (reading it will say so)."""
    return path.stat().st_size if path.is_file() else 0


def _file_fingerprint(path: Path) -> str:
    """Size and content hash of a file (first and last MiB of large ones, with the time of change); empty for folders."""
    try:
        size, changed = path.stat().st_size, path.stat().st_mtime_ns
        if path.is_dir():
            return ""
        with path.open("rb") as file:
            if size <= 64 << 20:
                return hashlib.sha256(file.read()).hexdigest()
            head = file.read(1 << 20)
            file.seek(-(1 << 20), 2)
            return hashlib.sha256(head + file.read() + f"{size} {changed}".encode()).hexdigest()
    except OSError:
        return ""
