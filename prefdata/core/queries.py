"""The named SELECTs behind `status`, `why`, the app's screens and the audits.

Each takes the open connection of `store.read()` and gives plain rows, so that one short call can answer many of them:

    with store.read() as db:
        sources, labels = queries.sources(db), queries.labels(db)
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import duckdb

from prefdata.core.errors import PrefdataError

Row = dict[str, Any]
TABLES = ("prompts", "responses", "pairs", "items", "annotators", "annotations", "labels", "signals", "decisions", "queue",
          "calls", "outcomes", "runs", "exports", "trainings")  # fmt: skip
MATCHES = 20
"""At most so many candidates are listed for an ambiguous name."""


def rows(db: duckdb.DuckDBPyConnection, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[Row]:
    """The rows of a SELECT by column name."""
    found = db.execute(sql, parameters)
    names = [column[0] for column in found.description or ()]
    return [dict(zip(names, values, strict=True)) for values in found.fetchall()]


def table_counts(db: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Rows per table."""
    sql = "SELECT " + ", ".join(f"(SELECT count(*) FROM {name}) AS {name}" for name in TABLES)
    return rows(db, sql)[0]


def sources(db: duckdb.DuckDBPyConnection) -> list[Row]:
    """What came from where, the largest first."""
    return rows(
        db,
        """
        SELECT coalesce(source, '') AS source, sum(p)::BIGINT AS prompts, sum(r)::BIGINT AS responses, sum(q)::BIGINT AS pairs,
               sum(v)::BIGINT AS judgements
        FROM (SELECT source, count(*) AS p, 0 AS r, 0 AS q, 0 AS v FROM prompts GROUP BY source
              UNION ALL SELECT source, 0, count(*), 0, 0 FROM responses GROUP BY source
              UNION ALL SELECT source, 0, 0, count(*), 0 FROM pairs GROUP BY source
              UNION ALL SELECT source, 0, 0, 0, count(*) FROM annotations WHERE source IS NOT NULL GROUP BY source)
        GROUP BY 1 ORDER BY pairs DESC, responses DESC, source""",
    )


def annotator_kinds(db: duckdb.DuckDBPyConnection) -> list[Row]:
    """Who judged, by kind: how many of them, and what they said."""
    return rows(
        db,
        f"""
        SELECT annotator_kind AS kind, count(DISTINCT annotator_id) AS annotators, count(*) AS judgements, {_CHOICES}
        FROM live_annotations GROUP BY 1 ORDER BY judgements DESC, 1""",
    )


def machine_judges(db: duckdb.DuckDBPyConnection) -> list[Row]:
    """Each judge that is no person: what it said, where it abstained or failed, what it cost."""
    return rows(
        db,
        f"""
        WITH said AS (SELECT key, any_value(annotator_id) AS judge, any_value(annotator_kind) AS kind, count(*) AS judgements, {_CHOICES}
                      FROM live_annotations WHERE key IS NOT NULL GROUP BY key),
             ended AS (SELECT key, count(*) FILTER (state = 'abstained') AS abstained, count(*) FILTER (state = 'failed') AS failed,
                              sum(cost) AS cost FROM outcomes GROUP BY key)
        SELECT coalesce(judge, s.method) AS judge, kind, coalesce(judgements, 0) AS judgements, coalesce(a, 0) AS a, coalesce(b, 0) AS b,
               coalesce(tie, 0) AS tie, coalesce(both_bad, 0) AS both_bad, coalesce(scored, 0) AS scored,
               coalesce(abstained, 0) AS abstained, coalesce(failed, 0) AS failed, coalesce(cost, 0) AS cost, key
        FROM steps s LEFT JOIN said USING (key) LEFT JOIN ended USING (key)
        WHERE s.shelf = 'judges' AND (said.key IS NOT NULL OR ended.key IS NOT NULL)
        ORDER BY judgements DESC, key""",
    )


_CHOICES = """count(*) FILTER (choice = 'a') AS a, count(*) FILTER (choice = 'b') AS b, count(*) FILTER (choice = 'tie') AS tie,
    count(*) FILTER (choice = 'both_bad') AS both_bad, count(*) FILTER (score IS NOT NULL OR score_a IS NOT NULL) AS scored"""


def labels(db: duckdb.DuckDBPyConnection) -> list[Row]:
    """Per aggregator key, the newest first: how many pairs, and who won."""
    return rows(
        db,
        """
        SELECT s.key, s.method, count(l.pair_id) AS pairs, count(*) FILTER (l.winner = 'a') AS a, count(*) FILTER (l.winner = 'b') AS b,
               count(*) FILTER (l.winner = 'tie') AS tie, count(*) FILTER (l.pair_id IS NOT NULL AND l.winner IS NULL) AS undecided,
               avg(l.margin) AS margin, s.used
        FROM steps s LEFT JOIN labels l USING (key) WHERE s.shelf = 'aggregate' GROUP BY s.key, s.method, s.used ORDER BY s.used DESC""",
    )


def signals(db: duckdb.DuckDBPyConnection) -> list[Row]:
    """Per signal of its newest key: rows, rows without a value, mean and range."""
    return rows(
        db,
        """
        SELECT g.name, g.kind, count(*) AS rows, count(*) - count(value) AS undefined, avg(value) AS mean, min(value) AS least,
               max(value) AS most, g.key
        FROM signals g JOIN steps s USING (key) GROUP BY g.name, g.kind, g.key, s.used
        QUALIFY row_number() OVER (PARTITION BY g.name ORDER BY s.used DESC) = 1 ORDER BY g.name""",
    )


def failures(db: duckdb.DuckDBPyConnection, most: int = 10) -> list[Row]:
    """Rows that ended abstained or failed, by reason, the most frequent first."""
    return rows(
        db,
        """
        SELECT coalesce(s.shelf || '/' || s.method, o.key) AS step, o.state, o.note AS reason, count(*) AS rows
        FROM outcomes o LEFT JOIN (SELECT DISTINCT key, shelf, method FROM steps) s USING (key)
        WHERE o.state <> 'done' GROUP BY ALL ORDER BY o.state DESC, rows DESC, 1, 3 LIMIT ?""",
        [most],
    )


def spend(db: duckdb.DuckDBPyConnection) -> list[Row]:
    """Per model: calls, tokens and US dollars."""
    return rows(
        db,
        """
        SELECT model, count(*) AS calls, sum(tokens_in)::BIGINT AS tokens_in, sum(tokens_out)::BIGINT AS tokens_out, sum(cost) AS cost
        FROM calls GROUP BY model ORDER BY cost DESC NULLS LAST, calls DESC, model""",
    )


def waiting(db: duckdb.DuckDBPyConnection) -> list[Row]:
    """Who is asked to answer next, by the newest queue, and how many of those pairs have no answer yet."""
    return rows(
        db,
        """
        SELECT q.send_to, count(*) AS pairs, count(*) FILTER (NOT EXISTS (
            SELECT 1 FROM live_annotations x WHERE x.subject = q.pair_id AND x.annotator_kind = q.send_to)) AS open
        FROM queue q WHERE key = (SELECT key FROM steps WHERE shelf = 'acquire' ORDER BY used DESC LIMIT 1) GROUP BY 1 ORDER BY 1""",
    )


def runs(db: duckdb.DuckDBPyConnection, most: int = 5) -> list[Row]:
    """The last runs, the newest first."""
    return rows(
        db,
        """
        SELECT id, command, state, started, date_diff('millisecond', started, ended) / 1000 AS seconds
        FROM runs ORDER BY started DESC LIMIT ?""",
        [most],
    )


def exports(db: duckdb.DuckDBPyConnection, most: int = 10) -> list[Row]:
    """The last exports: where they went and how many rows they hold."""
    found = rows(db, "SELECT path, manifest, created FROM exports ORDER BY created DESC LIMIT ?", [most])
    out = []
    for row in found:
        manifest = json.loads(row["manifest"])
        out.append({"kind": manifest.get("kind"), "path": row["path"], **_split_counts(manifest), "created": row["created"]})
    return out


def _split_counts(manifest: Mapping[str, Any]) -> dict[str, int]:
    counts = manifest.get("counts") or {}
    return {split: counts.get(split, 0) for split in ("train", "validation", "test")}


def trainings(db: duckdb.DuckDBPyConnection, most: int = 10) -> list[Row]:
    """The last trainings."""
    return rows(db, "SELECT objective, path, metrics, created FROM trainings ORDER BY created DESC LIMIT ?", [most])


def filter_run(db: duckdb.DuckDBPyConnection) -> Row | None:
    """The newest run that filtered: id, when, recipe, and `filters`, its filter steps in order; None where there was none."""
    for row in rows(db, "SELECT id, started, recipe, report FROM runs WHERE report IS NOT NULL ORDER BY started DESC"):
        steps = json.loads(row["report"])["steps"]
        filters = [step for step in steps if step["step"].startswith("filter ")]
        if filters:
            labelled = [step["key"] for step in steps if step["step"].startswith("aggregate ")]
            return {"id": row["id"], "started": row["started"], "recipe": json.loads(row["recipe"]), "filters": filters,
                    "labels": labelled[-1] if labelled else None}  # fmt: skip
    return None


def funnel(db: duckdb.DuckDBPyConnection) -> list[Row]:
    """How many pairs each filter of the newest filtering run met, kept, and dropped for which reason."""
    run = filter_run(db)
    out = []
    for step in run["filters"] if run else ():
        counted = rows(db, "SELECT reason, count(*) AS pairs FROM decisions WHERE key = ? GROUP BY 1 ORDER BY 2 DESC, 1", [step["key"]])
        dropped = {row["reason"]: row["pairs"] for row in counted if row["reason"] is not None}
        kept = sum(row["pairs"] for row in counted if row["reason"] is None)
        out.append(
            {
                "filter": step["step"].removeprefix("filter "),
                "met": kept + sum(dropped.values()),
                "kept": kept,
                "dropped": dropped,
                "key": step["key"],
            }
        )
    return out


def overview(db: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """Everything `prefdata status` shows."""
    return {
        "tables": table_counts(db),
        "sources": sources(db),
        "annotators": annotator_kinds(db),
        "judges": machine_judges(db),
        "labels": labels(db),
        "signals": signals(db),
        "funnel": funnel(db),
        "waiting": waiting(db),
        "failures": failures(db),
        "spend": spend(db),
        "runs": runs(db),
        "exports": exports(db),
        "trainings": trainings(db),
    }


def match_pairs(db: duckdb.DuckDBPyConnection, name: str) -> list[Row]:
    """The pairs that `name` may mean (at most MATCHES): an id, its first four or more digits, or `source:item_id`."""
    digits = name.strip().lower().replace("-", "")
    if re.fullmatch("[0-9a-f]{4,32}", digits):
        low, high = (f"{(digits + fill * 32)[:32]}" for fill in "0f")
        found = rows(db, f"SELECT id FROM pairs WHERE id BETWEEN ?::UUID AND ?::UUID ORDER BY id LIMIT {MATCHES}", [low, high])
        if found:
            return _named(db, [row["id"] for row in found])
    found = rows(
        db,
        f"""
        WITH hit AS (SELECT DISTINCT kind, subject FROM items
                     WHERE item_id IS NOT NULL AND (coalesce(source, '') || ':' || item_id = $name OR item_id = $name))
        SELECT DISTINCT p.id FROM pairs p JOIN hit ON (hit.kind IN ('pair', 'annotation') AND hit.subject = p.id)
            OR (hit.kind = 'response' AND hit.subject IN (p.a, p.b)) OR (hit.kind = 'prompt' AND hit.subject = p.prompt_id)
        ORDER BY p.id LIMIT {MATCHES}""",
        {"name": name},
    )
    return _named(db, [row["id"] for row in found])


def _named(db: duckdb.DuckDBPyConnection, ids: Sequence[Any]) -> list[Row]:
    """Pair ids with what tells them apart."""
    return rows(
        db,
        """SELECT pair_id AS id, source, a_model, b_model, prompt[:80] AS prompt FROM pair_texts
        WHERE pair_id IN (SELECT unnest(?::UUID[])) ORDER BY pair_id""",
        [[str(i) for i in ids]],
    )


def one_pair(db: duckdb.DuckDBPyConnection, name: str) -> str:
    """The id of the one pair that `name` means."""
    found = match_pairs(db, name)
    if len(found) == 1:
        return str(found[0]["id"])
    if not found:
        short = " (an id needs at least four of its first digits)" if len(name) < 4 else ""
        raise PrefdataError(f"no pair is called {name!r}{short}; list some with  prefdata sql 'FROM pair_texts LIMIT 5'.")
    listed = ", ".join(str(row["id"]) for row in found[:8]) + (", ..." if len(found) > 8 else "")
    count = f"at least {len(found)}" if len(found) == MATCHES else len(found)
    raise PrefdataError(f"{name!r} fits {count} pairs: {listed}; give more of one id.")


def story(db: duckdb.DuckDBPyConnection, pair: str) -> dict[str, Any]:
    """Everything known about one pair: where it came from, what was said, decided and made of it."""
    found = rows(
        db,
        """
        SELECT p.id, p.source, p.strategy, p.prompt_id, p.a, p.b, pr.messages, pr.meta, ra.text AS a_text, rb.text AS b_text,
               ra.model AS a_model, rb.model AS b_model, ra.role AS a_role, rb.role AS b_role,
               ra.strategy AS a_strategy, rb.strategy AS b_strategy
        FROM pairs p JOIN prompts pr ON pr.id = p.prompt_id JOIN responses ra ON ra.id = p.a JOIN responses rb ON rb.id = p.b
        WHERE p.id = ?""",
        [pair],
    )
    if not found:
        raise PrefdataError(f"there is no pair {pair!r} in this store.")
    row = found[0]
    who = {"pair": row["id"], "prompt": row["prompt_id"], "a": row["a"], "b": row["b"]}
    ids = {name: str(value) for name, value in who.items()}
    return {
        "pair": {**row, "messages": json.loads(row["messages"]), "meta": json.loads(row["meta"] or "{}")},
        "origin": _origin(db, ids),
        "judgements": _judgements(db, ids),
        "labels": _labels_of(db, pair),
        "signals": _signals_of(db, ids),
        "decisions": _decisions_of(db, pair),
        "trouble": _trouble(db, ids),
        "queue": rows(db, "SELECT send_to, priority, reason, key FROM queue WHERE pair_id = ? ORDER BY priority DESC", [pair]),
        "exports": _exports_of(db, pair),
    }


_WHO = "(SELECT * FROM (VALUES ('pair', $pair::UUID), ('prompt', $prompt::UUID), ('a', $a::UUID), ('b', $b::UUID)) AS t (of, subject))"


def _origin(db: duckdb.DuckDBPyConnection, ids: Mapping[str, str]) -> list[Row]:
    """The rows of imported files that the pair, its prompt and its responses came from."""
    return rows(
        db,
        f"""
        SELECT w.of, i.kind, i.source, i.subset, i.item_id, i.file, i.line, i.swapped FROM items i JOIN {_WHO} w USING (subject)
        WHERE i.kind <> 'annotation' ORDER BY i.file, i.line, w.of LIMIT 50""",
        ids,
    )


def _judgements(db: duckdb.DuckDBPyConnection, ids: Mapping[str, str]) -> list[Row]:
    """Every judgement, those taken back included; an imported one with the file and line it stands in (see `ingest.py` for its id)."""
    return rows(
        db,
        f"""
        WITH read AS (SELECT i.id, i.file, i.line FROM items i JOIN {_WHO} w USING (subject))
        SELECT w.of, x.annotator_kind AS kind, x.annotator_id AS who, x.choice, x.strength, x.score, x.score_a, x.score_b, x.scores,
               x.rationale, x.shown, x.seconds, x.created, x.key, read.file, read.line,
               EXISTS (SELECT 1 FROM annotations r WHERE r.retracts = x.id) AS retracted
        FROM annotations x JOIN {_WHO} w USING (subject) LEFT JOIN read ON read.id = x.id WHERE x.retracts IS NULL
        ORDER BY CASE w.of WHEN 'pair' THEN 0 ELSE 1 END, w.of, x.annotator_kind, x.created, x.annotator_id, x.shown""",
        ids,
    )


def _labels_of(db: duckdb.DuckDBPyConnection, pair: str) -> list[Row]:
    return rows(
        db,
        """
        SELECT l.key, l.winner, l.p_a, l.p_tie, l.margin, l.confidence, l.votes,
               l.key = (SELECT key FROM steps WHERE shelf = 'aggregate' ORDER BY used DESC LIMIT 1) AS newest
        FROM labels l LEFT JOIN steps s USING (key) WHERE l.pair_id = ? ORDER BY s.used DESC NULLS LAST""",
        [pair],
    )


def _signals_of(db: duckdb.DuckDBPyConnection, ids: Mapping[str, str]) -> list[Row]:
    """Of the pair, its prompt and its responses; where a signal has several keys, the newest."""
    return rows(
        db,
        f"""
        SELECT w.of, g.name, g.value, g.key FROM signals g JOIN {_WHO} w USING (subject) LEFT JOIN steps s USING (key)
        QUALIFY row_number() OVER (PARTITION BY w.of, g.name ORDER BY s.used DESC NULLS LAST) = 1
        ORDER BY CASE w.of WHEN 'pair' THEN 0 ELSE 1 END, w.of, g.name""",
        ids,
    )


def _decisions_of(db: duckdb.DuckDBPyConnection, pair: str) -> list[Row]:
    """What each filter said, the newest run's first and in its order."""
    return rows(
        db,
        """
        SELECT d.key, s.method, s.params, d.reason, s.run_id, s.used FROM decisions d LEFT JOIN steps s USING (key)
        LEFT JOIN runs r ON r.id = s.run_id WHERE d.pair_id = ? ORDER BY r.started DESC NULLS LAST, s.used""",
        [pair],
    )


def _trouble(db: duckdb.DuckDBPyConnection, ids: Mapping[str, str]) -> list[Row]:
    """Steps that abstained or failed on the pair or a part of it."""
    return rows(
        db,
        f"SELECT w.of, o.key, o.state, o.note FROM outcomes o JOIN {_WHO} w USING (subject) WHERE o.state <> 'done' ORDER BY o.key, w.of",
        ids,
    )


def _exports_of(db: duckdb.DuckDBPyConnection, pair: str) -> list[Row]:
    """Exports whose rules let this pair through: its source is chosen, every filter kept it, and its label names a winner."""
    out = []
    source = rows(db, "SELECT source FROM pairs WHERE id = ?", [pair])[0]["source"]
    newest = "QUALIFY row_number() OVER (PARTITION BY path ORDER BY created DESC) = 1"  # an export replaces the one before it
    for row in rows(db, f"SELECT path, manifest, created FROM exports {newest} ORDER BY created DESC"):
        manifest = json.loads(row["manifest"])
        keys, only = manifest.get("keys") or {}, (manifest.get("recipe") or {}).get("only") or []
        filters = list(keys.get("filters") or [])
        kept = rows(
            db,
            "SELECT count(DISTINCT key) AS n FROM decisions WHERE pair_id = ? AND reason IS NULL AND key IN (SELECT unnest(?::VARCHAR[]))",
            [pair, filters],
        )
        won = rows(db, "SELECT 1 FROM labels WHERE pair_id = ? AND key = ? AND winner IN ('a', 'b')", [pair, keys.get("labels")])
        if won and kept[0]["n"] == len(set(filters)) and (not only or source in only):
            out.append({"kind": manifest.get("kind"), "path": row["path"], "created": row["created"], "key": manifest.get("key"),
                        "files": sorted(manifest.get("files") or {})})  # fmt: skip
    return out
