"""Imported rows -> tables, set at a time: identities are hashed inside DuckDB, texts are written once.

A source yields `Batch`es: one Polars frame of one kind with the columns below (those it does not have may be left out)
and the rows it refused. Kinds and columns:

pairs        line, prompt | (messages, canonical), response_a, response_b, model_a, model_b, label (a, b, tie, both_bad
             or null), annotator_kind, annotator_id, annotator_group, strength, score_a, score_b, scores, rationale
responses    line, prompt | (messages, canonical), text, model, sample, score, scores, annotator_kind, annotator_id,
             prompt_meta (what the row says about the prompt, where `meta` is about the response)
prompts      line, prompt | (messages, canonical)
annotations  line, ref (an earlier item_id of the same source), model_a, model_b (where ref names a prompt), label,
             strength, score (rates one response, model_a's where ref names several), scores, rationale, annotator_kind,
             annotator_id, annotator_group, shown, seconds, raw, sample
all          source, subset, item_id, meta (JSON text)

`prompt` is plain text of one user message; else `messages` is the JSON text and `canonical` what `ids.canonical_messages`
makes of it. Responses of one prompt: one row each. A second import of the same rows adds nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa

from prefdata.core.rows import Reject
from prefdata.core.store import Store

US, RS = "chr(31)", "chr(30)"
HOLD_SECONDS = 8.0
"""How long an import keeps the store to itself before others get a turn."""
_TEXT, _REAL, _INT = pl.String, pl.Float64, pl.Int64
COLUMNS: dict[str, dict[str, Any]] = {
    "pairs": {
        **dict.fromkeys(("prompt", "messages", "canonical", "response_a", "response_b", "model_a", "model_b"), _TEXT),
        **dict.fromkeys(("label", "annotator_kind", "annotator_id", "annotator_group", "rationale", "scores"), _TEXT),
        **dict.fromkeys(("strength", "score_a", "score_b"), _REAL),
    },
    "responses": {
        **dict.fromkeys(("prompt", "messages", "canonical", "text", "model", "scores", "annotator_kind", "annotator_id"), _TEXT),
        "prompt_meta": _TEXT,
        "sample": _INT,
        "score": _REAL,
    },
    "prompts": dict.fromkeys(("prompt", "messages", "canonical"), _TEXT),
    "annotations": {
        **dict.fromkeys(("ref", "model_a", "model_b", "label", "rationale", "annotator_kind", "annotator_id"), _TEXT),
        **dict.fromkeys(("annotator_group", "shown", "raw", "created", "scores"), _TEXT),
        **dict.fromkeys(("strength", "score", "seconds"), _REAL),
        "sample": _INT,
    },
}
_ALWAYS: dict[str, Any] = {"line": _INT, "source": _TEXT, "subset": _TEXT, "item_id": _TEXT, "meta": _TEXT}


@dataclass(frozen=True)
class Batch:
    """Rows of one kind from one file, and those refused."""

    kind: str
    frame: pl.DataFrame
    file: str = ""
    rejects: Sequence[Reject] = ()
    read: int = 0
    """Source rows this batch stands for, refused ones included; default: rows of the frame plus rejects."""


@dataclass
class Counts:
    """What an import did. `read` = `stored` + `known` + rejected rows."""

    read: int = 0
    stored: int = 0
    known: int = 0
    added: dict[str, int] = field(default_factory=dict)
    rejects: list[Reject] = field(default_factory=list)
    seen: list[pl.Series] = field(default_factory=list, repr=False)
    """Hashes of the rows so far, batch by batch: equal rows of one file are numbered, so that all are kept, once."""

    def add(self, table: str, count: int) -> None:
        self.added[table] = self.added.get(table, 0) + count


def ingest(store: Store, batches: Iterable[Batch], counts: Counts | None = None) -> Counts:
    """Write batches, a few seconds' worth in one transaction; safe to run again after any interruption.

    The next batch is read while this one is written. A transaction takes in what is ready and never waits for a source
    with the lock in its hands.
    """
    counts = counts or Counts()
    source = iter(batches)
    with ThreadPoolExecutor(1, thread_name_prefix="prefdata-read") as reader:
        coming = reader.submit(next, source, None)
        while (batch := coming.result()) is not None:
            coming = reader.submit(next, source, None)
            with store.write() as connection:
                if "PREFDATA_MEMORY" not in os.environ:  # rows not yet committed fill whatever DuckDB may take, and gain nothing by it
                    connection.execute("SET memory_limit = '1GB'")
                until = time.monotonic() + HOLD_SECONDS
                _ingest_one(connection, batch, counts)
                while time.monotonic() < until and coming.done() and not coming.exception() and (batch := coming.result()) is not None:
                    coming = reader.submit(next, source, None)
                    _ingest_one(connection, batch, counts)
    return counts


def _ingest_one(connection: duckdb.DuckDBPyConnection, batch: Batch, counts: Counts) -> None:
    counts.rejects += batch.rejects
    counts.read += batch.read or batch.frame.height + len(batch.rejects)
    if not batch.frame.is_empty():
        _Ingest(connection, batch, counts).run()


def complete(kind: str, frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with every column of its kind, typed; missing ones are null."""
    wanted = {**_ALWAYS, **COLUMNS[kind]}
    return frame.select(
        (pl.col(name).cast(dtype) if name in frame.columns else pl.lit(None, dtype=dtype)).alias(name) for name, dtype in wanted.items()
    ).with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias("n"))


def _named(kind: str, frame: pl.DataFrame, file: str) -> pl.DataFrame:
    """Rows that do not name their source get the file's name; votes take any source that has their item.

    `given_source` is what the row itself says: the same rows under another file name are the same rows.
    """
    named = frame.with_columns(given_source=pl.col("source"))
    return named if kind == "annotations" else named.with_columns(pl.col("source").fill_null(Path(file).name.split(".")[0] or "file"))


PARALLEL_ROWS = 12_500


class _Ingest:
    """One batch on one open connection. Narrow ids first (`st`), then each text column once."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, batch: Batch, counts: Counts) -> None:
        self.connection, self.batch, self.counts = connection, batch, counts

    def run(self) -> None:
        kind = self.batch.kind
        table = _named(kind, complete(kind, self.batch.frame), self.batch.file).to_arrow()
        # DuckDB scans Arrow batches in parallel, and a frame of one chunk by one thread.
        self.connection.register("ch", pa.Table.from_batches(table.to_batches(max_chunksize=PARALLEL_ROWS), table.schema))
        self._run("CREATE OR REPLACE TEMP TABLE file AS SELECT ?::VARCHAR AS name", [self.batch.file])
        {"pairs": self._pairs, "responses": self._responses, "prompts": self._prompts_only, "annotations": self._annotations}[kind]()
        self.connection.unregister("ch")

    def _run(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        result = self.connection.execute(sql, parameters).fetchone()
        return int(result[0]) if result and isinstance(result[0], int) else 0

    def _insert(self, table: str, sql: str) -> int:
        count = self._run(f"INSERT INTO {table} BY NAME {sql}")
        self.counts.add(table, count)
        return count

    def _insert_texts(self, table: str, sql: str) -> None:
        """`_insert` of rows with texts, `FROM ch JOIN ids`: joined as written, `ch` streams past the ids in the file's order.

        Left to itself, DuckDB may take the texts for the smaller side and copy them into a hash table, and then a sort.
        """
        self._run("SET disabled_optimizers = 'join_order,build_side_probe_side'")
        self._insert(table, sql)
        self._run("SET disabled_optimizers = ''")

    def _pairs(self) -> None:
        self._run(f"""CREATE OR REPLACE TEMP TABLE st AS
            SELECT *, {_pair_id("first", "second")} AS i, first > second AS swapped FROM (
                SELECT n, p, {_response_id("p", "response_a", "model_a", "0")} AS first,
                       {_response_id("p", "response_b", "model_b", "0")} AS second
                FROM (SELECT *, {_PROMPT_ID} AS p FROM ch))""")
        self._refuse_identical()
        self._prompts("SELECT n, p FROM st")
        self._run(f"""CREATE OR REPLACE TEMP TABLE nr AS SELECT min(k) AS k, x, any_value(p) AS p FROM (
            SELECT n * 2 AS k, first AS x, p FROM st UNION ALL SELECT n * 2 + 1, second, p FROM st) new
            {_absent("responses", "x")} GROUP BY x""")
        self._insert_texts(
            "responses",
            " UNION ALL ".join(
                f"""SELECT x AS id, p AS prompt_id, response_{side} AS text, coalesce(model_{side}, '') AS model, 0 AS sample,
                length(response_{side}) AS chars, source FROM ch JOIN nr ON nr.k = n * 2 + {number}"""
                for number, side in enumerate("ab")
            ),
        )
        self._insert(
            "pairs",
            f"""SELECT i AS id, p AS prompt_id, least(first, second) AS a, greatest(first, second) AS b,
            source, 'import' AS strategy FROM (SELECT i, min(n) AS n FROM st new {_absent("pairs", "i")} GROUP BY i)
            JOIN st USING (i, n) JOIN ch USING (n) ORDER BY n""",
        )
        self._items("pair", "st.i", "st.swapped", "label, strength, score_a, score_b, rationale, annotator_id")
        self._annotate(
            """st.i AS subject, 'pair' AS kind,
            CASE WHEN swapped AND label = 'a' THEN 'b' WHEN swapped AND label = 'b' THEN 'a' ELSE label END AS choice,
            CASE WHEN swapped THEN -strength ELSE strength END AS strength, NULL::DOUBLE AS score,
            CASE WHEN swapped THEN score_b ELSE score_a END AS score_a, CASE WHEN swapped THEN score_a ELSE score_b END AS score_b,
            scores, rationale, NULL::VARCHAR AS shown""",
            "label IS NOT NULL OR score_a IS NOT NULL",
        )

    def _refuse_identical(self) -> None:
        same = self.connection.execute("SELECT line, st.n FROM st JOIN ch USING (n) WHERE first = second").fetchall()
        if same:
            reason = "both responses are the same text by the same model: nothing to prefer"
            self.counts.rejects += [Reject(self.batch.file, line or 0, "response_b", reason) for line, _ in same]
            self._run("DELETE FROM st WHERE first = second")

    def _responses(self) -> None:
        self._run(f"""CREATE OR REPLACE TEMP TABLE st AS
            SELECT *, {_response_id("p", "text", "model", "sample")} AS i, false AS swapped
            FROM (SELECT n, {_PROMPT_ID} AS p, text, model, sample FROM ch)""")
        self._prompts("SELECT n, p FROM st")
        self._run(f"""CREATE OR REPLACE TEMP TABLE nr AS SELECT i, n, p
            FROM (SELECT i, min(n) AS n FROM st new {_absent("responses", "i")} GROUP BY i) JOIN st USING (i, n)""")
        self._insert_texts(
            "responses",
            """SELECT i AS id, nr.p AS prompt_id, ch.text, coalesce(ch.model, '') AS model,
            coalesce(ch.sample, 0) AS sample, length(ch.text) AS chars, source FROM ch JOIN nr USING (n)""",
        )
        self._items("response", "st.i", "false", "score, scores, annotator_id")
        self._annotate(
            """st.i AS subject, 'response' AS kind, NULL::VARCHAR AS choice, NULL::DOUBLE AS strength, score,
            NULL::DOUBLE AS score_a, NULL::DOUBLE AS score_b, scores, NULL::VARCHAR AS rationale, NULL::VARCHAR AS shown""",
            "score IS NOT NULL OR scores IS NOT NULL",
        )

    def _prompts_only(self) -> None:
        self._run(f"CREATE OR REPLACE TEMP TABLE st AS SELECT n, {_PROMPT_ID} AS p, false AS swapped FROM ch")
        self._prompts("SELECT n, p FROM st")
        self._items("prompt", "st.p", "false", "prompt")

    def _prompts(self, ids: str) -> None:
        self._run(f"CREATE OR REPLACE TEMP TABLE np AS SELECT p, min(n) AS n FROM ({ids}) new {_absent('prompts', 'p')} GROUP BY p")
        plain = "coalesce(canonical, prompt)"
        # trim() costs as much as the hash, and few texts need it.
        bare = f"CASE WHEN starts_with({plain}, ' ') OR ends_with({plain}, ' ') THEN trim({plain}) ELSE {plain} END"
        meta = "coalesce(prompt_meta, meta) AS meta" if self.batch.kind == "responses" else "meta"
        self._insert_texts(
            "prompts",
            f"""SELECT p AS id,
            coalesce(messages, '[{{"role":"user","content":' || to_json(prompt) || '}}]') AS messages, source, {meta},
            length({plain}) AS chars, md5(lower({bare}))::UUID AS twin, messages IS NULL AS plain
            FROM ch JOIN np USING (n)""",
        )

    def _items(self, kind: str, subject: str, swapped: str, also: str) -> None:
        """Rows of the file by identity, equal ones numbered; `new_items` then holds those that no earlier import brought."""
        parts = ", ".join(f"coalesce({name.strip()}::VARCHAR, '')" for name in also.split(","))
        self._run(f"""CREATE OR REPLACE TEMP TABLE rows_of_file AS SELECT st.n,
            concat_ws({US}, '{kind}', coalesce(given_source, ''), coalesce(item_id, ''), {subject}, {parts}) AS h
            FROM st JOIN ch USING (n)""")
        self._run(f"""CREATE OR REPLACE TEMP TABLE new_items AS SELECT n, i_id
            FROM (SELECT n, md5(concat_ws({US}, h, {self._time()}))::UUID AS i_id FROM rows_of_file) new {_absent("items", "i_id")}""")
        stored = self._insert(
            "items",
            f"""SELECT i_id AS id, '{kind}' AS kind, source, subset, item_id, {subject} AS subject,
            {swapped} AS swapped, (SELECT name FROM file) AS file, line, meta
            FROM ch JOIN new_items USING (n) JOIN st USING (n) ORDER BY n""",
        )
        self.counts.stored += stored
        self.counts.known += self._run("SELECT count(*) FROM st") - stored

    def _time(self) -> str:
        """SQL for how often a row came so far in this import, itself included; 1 for nearly all."""
        rows = self.connection.execute("SELECT n, hash(h) AS k FROM rows_of_file ORDER BY n").pl()
        again = [past.filter(past.is_in(rows["k"].implode())) for past in self.counts.seen]
        self.counts.seen.append(rows["k"])
        if not any(map(len, again)) and rows["k"].n_unique() == rows.height:
            return "1"
        earlier = pl.concat([*again, rows["k"].clear()]).value_counts(name="times")
        times = rows.with_columns(here=pl.int_range(1, pl.len() + 1).over("k")).join(earlier, on="k", how="left")
        self.connection.register("times", times.select("n", time=pl.col("here") + pl.col("times").fill_null(0)))
        return "(SELECT time FROM times WHERE times.n = rows_of_file.n)"

    def _annotate(self, columns: str, where: str) -> None:
        """The judgement a row carries, once per new item; who judged is named, or the source stands for them."""
        self._insert(
            "annotations",
            f"""SELECT i_id AS id, {columns},
            coalesce(annotator_id, 'imported:' || coalesce(source, 'file')) AS annotator_id,
            coalesce(annotator_kind, 'imported') AS annotator_kind, source
            FROM ch JOIN new_items USING (n) JOIN st USING (n) WHERE {where} ORDER BY n""",
        )
        self._annotators("JOIN new_items USING (n)" if where == "true" else f"JOIN new_items USING (n) WHERE {where}")

    def _annotators(self, joined: str) -> None:
        group = "any_value(annotator_group)" if self.batch.kind in ("pairs", "annotations") else "NULL"
        self._insert(
            "annotators",
            f"""SELECT id, kind, id AS name, CASE WHEN g IS NULL THEN NULL ELSE to_json([g]) END AS groups
            FROM (SELECT coalesce(annotator_id, 'imported:' || coalesce(source, 'file')) AS id,
                any_value(coalesce(annotator_kind, 'imported')) AS kind, {group} AS g FROM ch {joined} GROUP BY 1) new
            {_absent("annotators", "id")}""",
        )

    def _annotations(self) -> None:
        """Judgements that refer to earlier items, by item id or by prompt item and two models."""
        self._run("""CREATE OR REPLACE TEMP TABLE known AS SELECT source, item_id, any_value(kind) AS kind,
            any_value(subject) AS subject, any_value(swapped) AS swapped FROM items
            WHERE item_id IN (SELECT ref FROM ch) AND kind = 'pair' GROUP BY source, item_id""")
        self._run(f"""CREATE OR REPLACE TEMP TABLE st AS SELECT * FROM (
            SELECT n, k.subject AS i, 'pair' AS kind, k.swapped, k.source AS found, NULL::UUID AS p, NULL::UUID AS x, NULL::UUID AS y
            FROM ch JOIN known k ON k.item_id = ref AND (ch.source IS NULL OR k.source = ch.source)
            WHERE ch.model_a IS NULL AND ch.score IS NULL
            UNION ALL SELECT n, {_pair_id("ra.id", "rb.id")}, 'pair', ra.id > rb.id, m.found, m.p, ra.id, rb.id FROM (
                SELECT DISTINCT ch.n, ch.model_a, ch.model_b, i.source AS found, coalesce(r.prompt_id, i.subject) AS p FROM ch
                JOIN items i ON i.item_id = ref AND (ch.source IS NULL OR i.source = ch.source) AND i.kind IN ('response', 'prompt')
                LEFT JOIN responses r ON i.kind = 'response' AND r.id = i.subject
                WHERE ch.model_a IS NOT NULL AND ch.score IS NULL) m
            JOIN responses ra ON ra.prompt_id = m.p AND ra.model = m.model_a AND ra.sample = 0
            JOIN responses rb ON rb.prompt_id = m.p AND rb.model = m.model_b AND rb.sample = 0
            UNION ALL SELECT n, i.subject, 'response', false, i.source, NULL, NULL, NULL FROM ch
            JOIN items i ON i.item_id = ref AND i.kind = 'response' AND (ch.source IS NULL OR i.source = ch.source)
            JOIN responses r ON r.id = i.subject AND (ch.model_a IS NULL OR r.model = ch.model_a)
            WHERE ch.score IS NOT NULL GROUP BY n, i.subject, i.source QUALIFY count(*) OVER (PARTITION BY n) = 1)
            QUALIFY row_number() OVER (PARTITION BY n ORDER BY found, i) = 1""")
        lost = self.connection.execute("SELECT line, ref, score IS NULL FROM ch ANTI JOIN st USING (n) ORDER BY n").fetchall()
        reason = ("no stored response is {!r} of this source, or several are (say which by its model)",
                  "no stored item {!r} of this source; import its pairs first")  # fmt: skip
        self.counts.rejects += [Reject(self.batch.file, line or 0, "item_id", reason[pair].format(ref)) for line, ref, pair in lost]
        self._insert(
            "pairs",
            f"""SELECT i AS id, p AS prompt_id, least(x, y) AS a, greatest(x, y) AS b, found AS source, 'votes' AS strategy
            FROM (SELECT i, any_value(p) AS p, any_value(x) AS x, any_value(y) AS y, any_value(found) AS found, min(n) AS n
                FROM st WHERE x IS NOT NULL GROUP BY i) new {_absent("pairs", "i")} ORDER BY n""",
        )
        self._items(
            "annotation",
            "st.i",
            "st.swapped",
            "ref, annotator_id, label, strength, score, scores, shown, sample, raw, rationale, model_a, model_b, created",
        )
        self._annotate(
            """st.i AS subject, st.kind AS kind,
            CASE WHEN swapped AND label = 'a' THEN 'b' WHEN swapped AND label = 'b' THEN 'a' ELSE label END AS choice,
            CASE WHEN swapped THEN -strength ELSE strength END AS strength, score,
            NULL::DOUBLE AS score_a, NULL::DOUBLE AS score_b, scores, rationale,
            CASE WHEN swapped AND shown = 'ab' THEN 'ba' WHEN swapped AND shown = 'ba' THEN 'ab' ELSE shown END AS shown,
            seconds, raw, try_cast(created AS TIMESTAMP) AS created""",
            "true",
        )


_PROMPT_ID = f"md5(coalesce(canonical, 'user' || {US} || prompt || {RS}))::UUID"


def _response_id(prompt: str, text: str, model: str, sample: str) -> str:
    return f"md5({prompt}::VARCHAR || {US} || coalesce({model}, '') || {US} || coalesce({sample}, 0)::VARCHAR || {US} || {text})::UUID"


def _pair_id(first: str, second: str) -> str:
    return f"md5(least({first}, {second})::VARCHAR || greatest({first}, {second})::VARCHAR)::UUID"


def _absent(table: str, column: str) -> str:
    return f"ANTI JOIN {table} old ON old.id = new.{column}"
