"""What the app's screens show beside the labelling view: disputes, people, agreement, pace, pairs to browse, runs."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import duckdb
import numpy as np
import polars as pl

from prefdata.core import queries, stats
from prefdata.core.labelling import IN_APP, LIVE, MACHINES, NOT_REVIEW, look_up
from prefdata.core.queries import Row
from prefdata.core.rows import Prompt
from prefdata.core.store import Store

FLAGGED = "json_extract_string(x.scores, '$.flag') = 'true'"
VOTED = f"x.choice IS NOT NULL AND x.choice <> 'abstain' AND {NOT_REVIEW}"
PEOPLE = f"x.annotator_kind NOT IN {MACHINES}"
CHOICES = ("a", "b", "tie", "both_bad")
Which = Literal["open", "decided", "all"]


@dataclass(frozen=True)
class Agreement:
    """How far annotators agree on the pairs that several of them judged."""

    pairs: int
    """Pairs with at least two votes."""
    share: float | None
    """Of all two votes on one pair by different people, the share that say the same."""
    alpha: float | None
    """Krippendorff's alpha, nominal; None where nothing can disagree."""
    matrix: pl.DataFrame
    """first, second, common (pairs both judged), same (how many alike): each two annotators both ways round."""


def counts(store: Store) -> Row:
    """Pairs in the store, pairs the queue wants from humans, pairs in somebody's hands, and pairs with a vote by a person."""
    with store.read() as db:
        return queries.rows(db, f"""SELECT (SELECT count(*) FROM pairs) AS pairs,
            (SELECT count(DISTINCT pair_id) FROM leases WHERE until >= $now) AS held,
            (SELECT count(DISTINCT pair_id) FROM queue WHERE send_to = 'human') AS queued,
            (SELECT count(DISTINCT x.subject) FROM {LIVE} AND {PEOPLE} AND {VOTED}) AS voted""", {"now": time.time()})[0]  # fmt: skip


def history(store: Store, annotator: str, most: int = 50) -> list[Row]:
    """`annotator`'s own answers, newest first: id, pair_id, prompt, choice as it was seen, rationale, seconds, created, flag."""
    with store.read() as db:
        found = queries.rows(db, f"""
            WITH mine AS (SELECT x.* FROM {IN_APP} AND x.annotator_id = ? ORDER BY x.created DESC, x.rowid DESC LIMIT ?)
            SELECT m.id, m.subject AS pair_id, p.prompt_id, m.rationale, m.seconds, m.created,
                CASE WHEN m.choice NOT IN ('a', 'b') THEN m.choice WHEN m.choice = m.shown[1] THEN 'left' ELSE 'right' END AS choice,
                coalesce(json_extract_string(m.scores, '$.flag') = 'true', false) AS flag
            FROM mine m JOIN pairs p ON p.id = m.subject ORDER BY m.created DESC""", [annotator, most])  # fmt: skip
        return [{**row, "prompt": prompt} for row, prompt in zip(found, _last_messages(db, found), strict=True)]


def _last_messages(db: duckdb.DuckDBPyConnection, rows: Sequence[Row]) -> list[str]:
    """The beginning of each row's prompt (`prompt_id`): of its last message."""
    found = look_up(db, "prompts", "messages", [row["prompt_id"] for row in rows])
    return [Prompt(tuple(json.loads(found[row["prompt_id"]]))).text[:300] for row in rows]


def disputes(store: Store, which: Which = "open", most: int = 500) -> list[Row]:
    """Pairs on which people differ or that somebody flagged; flags first, then the most evenly split."""
    wanted = {"open": "AND NOT decided", "decided": "AND decided", "all": ""}[which]
    with store.read() as db:
        return queries.rows(db, f"""
            SELECT * FROM (
                SELECT x.subject AS pair_id, count(*) FILTER ({VOTED}) AS votes,
                    {", ".join(f"count(*) FILTER (x.choice = '{c}' AND {NOT_REVIEW}) AS {c}" for c in CHOICES)},
                    count(*) FILTER ({FLAGGED}) AS flags, bool_or(NOT ({NOT_REVIEW})) AS decided
                FROM {LIVE} AND {PEOPLE} GROUP BY x.subject)
            WHERE (greatest(a, b, tie, both_bad) < votes OR flags > 0) {wanted}
            ORDER BY flags DESC, votes - greatest(a, b, tie, both_bad) DESC, pair_id LIMIT ?""", [most])  # fmt: skip


def votes(store: Store, pair: str) -> list[Row]:
    """What people said of one pair and did not take back; `role` is review for a final word, `flag` whether it was flagged."""
    said = why(store, pair)["judgements"]
    out = []
    for row in said:
        if row["of"] == "pair" and row["kind"] not in MACHINES and not row["retracted"]:
            scores = json.loads(row["scores"] or "{}")
            out.append({**row, "role": scores.get("role", ""), "flag": bool(scores.get("flag")), "aspects": scores.get("aspects", {})})
    return out


def why(store: Store, pair: str) -> dict[str, Any]:
    """Everything known about one pair."""
    with store.read() as db:
        return queries.story(db, pair)


def people(store: Store, kinds: Sequence[str]) -> list[Row]:
    """Per annotator of these kinds: what they chose, on which side, how fast; the busiest first."""
    with store.read() as db:
        found = queries.rows(db, f"""
            SELECT x.annotator_id AS annotator, any_value(x.annotator_kind) AS kind, count(*) FILTER ({VOTED}) AS votes,
                {", ".join(f"count(*) FILTER (x.choice = '{c}' AND {VOTED}) AS {c}" for c in CHOICES)},
                count(*) FILTER (x.choice = 'abstain') AS skipped, count(*) FILTER ({FLAGGED}) AS flags,
                count(*) FILTER ({VOTED} AND x.choice IN ('a', 'b') AND x.shown IN ('ab', 'ba')) AS sided,
                count(*) FILTER ({VOTED} AND x.choice IN ('a', 'b') AND x.choice = x.shown[1]) AS on_left,
                median(x.seconds) FILTER ({VOTED}) AS seconds, max(x.created) AS newest
            FROM {LIVE} AND x.annotator_kind IN (SELECT unnest($kinds::VARCHAR[])) AND x.choice IS NOT NULL
            GROUP BY 1 ORDER BY votes DESC, annotator""", {"kinds": list(kinds)})  # fmt: skip
    return [{**row, "interval": stats.wilson(row["on_left"], row["sided"])} for row in found]


def agreement(store: Store, kinds: Sequence[str]) -> Agreement:
    """Among annotators of these kinds; one vote per annotator and pair, the newest."""
    cast = f"""WITH cast_votes AS (SELECT x.subject, x.annotator_id,
            arg_max(x.choice, coalesce(x.created, TIMESTAMP '1970-01-01')) AS choice
        FROM {LIVE} AND {VOTED} AND x.annotator_kind IN (SELECT unnest($kinds::VARCHAR[])) GROUP BY 1, 2)"""
    given = {"kinds": list(kinds)}
    with store.read() as db:
        table = db.execute(f"""{cast} SELECT {", ".join(f"count(*) FILTER (choice = '{c}') AS {c}" for c in CHOICES)}
            FROM cast_votes GROUP BY subject HAVING count(*) > 1""", given).pl()  # fmt: skip
        matrix = db.execute(f"""{cast} SELECT x.annotator_id AS first, y.annotator_id AS second, count(*) AS common,
                count(*) FILTER (x.choice = y.choice) AS same
            FROM cast_votes x JOIN cast_votes y ON y.subject = x.subject AND y.annotator_id <> x.annotator_id
            GROUP BY 1, 2 ORDER BY 1, 2""", given).pl()  # fmt: skip
    share = float(matrix["same"].sum()) / float(matrix["common"].sum()) if matrix.height else None
    alpha = stats.krippendorff_alpha(table.to_numpy().astype(np.float64)) if table.height else None
    return Agreement(table.height, share, alpha, matrix)


def pace(store: Store, kinds: Sequence[str], by: Literal["day", "hour"] = "day") -> pl.DataFrame:
    """Per day (or hour) and annotator: start, annotator, votes, median seconds; only votes whose time is known."""
    return store.frame(
        f"""SELECT date_trunc($by, x.created)::TIMESTAMP AS start, x.annotator_id AS annotator,
            count(*) AS votes, median(x.seconds) AS seconds
        FROM {LIVE} AND {VOTED} AND x.created IS NOT NULL AND x.annotator_kind IN (SELECT unnest($kinds::VARCHAR[]))
        GROUP BY 1, 2 ORDER BY 1, 2""",
        {"kinds": list(kinds), "by": by},
    )


def annotator_kinds(store: Store) -> list[str]:
    """Kinds of annotators with judgements of pairs."""
    found = store.rows(f"SELECT DISTINCT x.annotator_kind FROM {LIVE} AND x.choice IS NOT NULL ORDER BY 1")
    return [row[0] for row in found]


def named(store: Store, name: str) -> str | None:
    """The one pair that `name` means: its id or the first digits of it; None where that is no pair, or several."""
    if not re.fullmatch("[0-9a-fA-F-]{8,36}", name.strip()):
        return None
    with store.read() as db:
        found = queries.match_pairs(db, name)
    return str(found[0]["id"]) if len(found) == 1 else None


def reasons(store: Store) -> list[str]:
    """Why the newest filtering run dropped pairs."""
    with store.read() as db:
        return sorted({reason for step in queries.funnel(db) for reason in step["dropped"]})


def browse(store: Store, text: str = "", winner: str = "", reason: str = "", *, most: int = 25, skip: int = 0) -> pl.DataFrame:
    """Pairs in the store's order: pair_id, source, prompt, winner, margin, dropped (the reason, or null), and the pair's signals.

    Args:
        text: words that the prompt or a response must contain, in this order; case does not matter.
        winner: only pairs with this label.
        reason: only pairs that the newest filtering run dropped for this reason; `kept`: those it kept.
    """
    joins, conditions = [], []
    with store.read() as db:
        run = queries.filter_run(db)
        given: dict[str, Any] = {"keys": [step["key"] for step in run["filters"]] if run else []}
        if text.strip():
            given["text"] = text.strip()
            joins.append("JOIN prompts pr ON pr.id = p.prompt_id JOIN responses ra ON ra.id = p.a JOIN responses rb ON rb.id = p.b")
            found = "contains(lower({}), lower($text))"
            conditions.append("(" + " OR ".join(found.format(c) for c in ("pr.messages::VARCHAR", "ra.text", "rb.text")) + ")")
        if winner:
            given["winner"] = winner
            conditions.append("l.winner = $winner")
        if reason:
            conditions.append("d.kept" if reason == "kept" else "d.reason = $reason")
            given |= {} if reason == "kept" else {"reason": reason}
        page = queries.rows(db, f"""
            SELECT p.id AS pair_id, p.prompt_id, p.source, l.winner, l.margin, d.reason AS dropped FROM pairs p {" ".join(joins)}
            LEFT JOIN newest_labels l ON l.pair_id = p.id
            LEFT JOIN (SELECT pair_id, any_value(reason) AS reason, bool_and(reason IS NULL) AS kept FROM decisions
                       WHERE key IN (SELECT unnest($keys::VARCHAR[])) GROUP BY pair_id) d ON d.pair_id = p.id
            {"WHERE " + " AND ".join(conditions) if conditions else ""}
            ORDER BY p.rowid LIMIT {int(most)} OFFSET {int(skip)}""", given)  # fmt: skip
        columns = {
            "pair_id": pl.String,
            "source": pl.String,
            "prompt": pl.String,
            "winner": pl.String,
            "margin": pl.Float64,
            "dropped": pl.String,
        }
        rows = [
            {**row, "pair_id": str(row["pair_id"]), "prompt": prompt} for row, prompt in zip(page, _last_messages(db, page), strict=True)
        ]
        return _with_signals(db, pl.DataFrame([{name: row[name] for name in columns} for row in rows], schema=columns))


def _with_signals(db: duckdb.DuckDBPyConnection, page: pl.DataFrame) -> pl.DataFrame:
    """The page with one column per signal of its pairs, each of its newest key."""
    found = db.execute("""
        SELECT g.subject::VARCHAR AS pair_id, g.name, g.value FROM signals g LEFT JOIN steps s USING (key)
        WHERE g.kind = 'pair' AND g.subject IN (SELECT unnest(?::UUID[]))
        QUALIFY row_number() OVER (PARTITION BY g.subject, g.name ORDER BY s.used DESC NULLS LAST) = 1
        ORDER BY g.name""", [page["pair_id"].to_list()]).pl()  # fmt: skip
    if found.is_empty():
        return page
    return page.join(found.pivot("name", index="pair_id", values="value"), on="pair_id", how="left", maintain_order="left")


def runs(store: Store, most: int = 30) -> list[Row]:
    """The newest runs with their steps: id, command, state, started, seconds, steps, recipe."""
    with store.read() as db:
        found = queries.runs(db, most)
        kept = {row["id"]: row for row in queries.rows(db, "SELECT id, recipe, report FROM runs")}
    out = []
    for row in found:
        more = kept[row["id"]]
        report = json.loads(more["report"]) if more["report"] else {}
        out.append({**row, "id": str(row["id"]), "steps": report.get("steps", []), "recipe": json.loads(more["recipe"] or "null")})
    return out


def failures(store: Store, most: int = 50) -> list[Row]:
    """Rows that ended abstained or failed, by step and reason, the most frequent first."""
    with store.read() as db:
        return queries.failures(db, most)
