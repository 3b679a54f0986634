"""What a router is handed: the pairs that the filters kept, each with everything that was said about it.

One row per pair, voted on or not: `id`, `row`, the columns that the header needs, the counts `n`, `n_a`, `n_b`, `n_tie`,
`n_both_bad` over all voices, and `voices`, a list of

    annotator_id, kind, choice (a, b, tie, both_bad), strength, a, b

where a and b are the scores that this annotator gave to the two sides, if it did. Only the newest run of each machine
judge counts. A parameter typed `Column` names one more column of a pair (a signal, a label), one typed `Sided` a number
of responses, which the rows then carry for both sides.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from prefdata.core import votes
from prefdata.core.columns import TEXTS, Keys, Relation, relation
from prefdata.core.labelling import MACHINES
from prefdata.core.labels import CLASSES
from prefdata.core.method import Method
from prefdata.core.scan import scan
from prefdata.core.stats import Reals, draws
from prefdata.core.store import Store

Column: TypeAlias = str
"""The name of a pair's column; the runner hands it in."""
Sided: TypeAlias = str
"""The name of a number of responses; the runner hands it in as a_NAME and b_NAME."""
To = Literal["human", "llm"]

_VOICE = {
    "annotator_id": pl.String, "kind": pl.String, "choice": pl.String, "strength": pl.Float64, "a": pl.Float64, "b": pl.Float64,
}  # fmt: skip
VOICES = pl.List(pl.Struct(_VOICE))


def pool(method: Method, params: Mapping[str, Any], keys: Keys, judge_keys: Sequence[str]) -> Relation:
    """The SELECT behind the rows of a router, without texts."""
    return gathered([name for name in columns(method, params) if name not in TEXTS], keys, judge_keys)


def gathered(names: Sequence[str], keys: Keys, judge_keys: Sequence[str]) -> Relation:
    """The SELECT of pairs with these columns (no texts), the counts of their votes and their voices."""
    every = votes.votes(keys, judge_keys, None)
    pairs = relation("pair", names, keys)
    newest = "x.key IS NULL OR x.key IN (" + (
        "SELECT unnest($judge_keys)" if judge_keys else "SELECT key FROM steps WHERE shelf = 'judges' "
        "QUALIFY row_number() OVER (PARTITION BY method ORDER BY used DESC) = 1") + ")"  # fmt: skip
    points = f"""SELECT x.subject, x.annotator_id, avg(x.score) AS score FROM live_annotations x
        WHERE x.kind = 'response' AND x.score IS NOT NULL AND ({newest}) GROUP BY ALL"""
    both = f"""SELECT x.subject, x.annotator_id, avg(x.score_a) AS a, avg(x.score_b) AS b FROM live_annotations x
        WHERE x.kind = 'pair' AND x.score_a IS NOT NULL AND x.score_b IS NOT NULL AND ({newest}) GROUP BY ALL"""
    said = f"""SELECT v.*, coalesce(p.score, g.a) AS a, coalesce(q.score, g.b) AS b FROM ({every.sql}) v
        LEFT JOIN ({both}) g ON g.subject = v.id AND g.annotator_id = v.annotator_id
        LEFT JOIN ({points}) p ON p.subject = v.a_id AND p.annotator_id = v.annotator_id
        LEFT JOIN ({points}) q ON q.subject = v.b_id AND q.annotator_id = v.annotator_id"""
    voice = "{annotator_id: annotator_id, kind: annotator_kind, choice: choice, strength: strength, a: a, b: b}"
    counted = ", ".join(f"count(*) FILTER (choice = '{name[2:]}') AS {name}" for name in votes.COUNTS if name != "n")
    told = f"""SELECT id, count(*) AS n, {counted}, list({voice} ORDER BY annotator_id, choice, strength, a, b) AS voices
        FROM ({said}) GROUP BY id"""
    listed = ", ".join(f"coalesce(told.{name}, 0) AS {name}" for name in votes.COUNTS)
    sql = (
        f"SELECT base.*, {listed}, coalesce(told.voices, []) AS voices FROM ({pairs.sql}) base LEFT JOIN ({told}) told ON told.id = base.id"
    )
    grows = tuple(dict.fromkeys((*pairs.grows, *every.grows)))
    return Relation(sql, {**pairs.reads, **every.reads}, {**pairs.parameters, **every.parameters}, grows)


def rows(store: Store, rel: Relation, method: Method, keys: Keys) -> pl.DataFrame:
    """The rows of a router in store order, with the texts that it needs."""
    return with_texts(store, rel, [name for name in method.header["needs"] if name in TEXTS], keys)


def with_texts(store: Store, rel: Relation, texts: Sequence[str], keys: Keys) -> pl.DataFrame:
    """The rows of a relation in store order; texts are read stretch by stretch, not joined inside DuckDB."""
    frame = store.frame(f"{rel.sql} ORDER BY row", dict(rel.parameters))
    frame = frame.with_columns(pl.col("id").cast(pl.String), pl.col("voices").cast(VOICES))
    if not texts:
        return frame
    if frame.is_empty():
        return frame.with_columns(pl.lit("").alias(name) for name in texts)
    read = pl.concat(scan(store, "pair", texts, keys, only=frame.select("id")))
    return frame.join(read.with_columns(pl.col("id").cast(pl.String)), on="id", how="inner", maintain_order="left")


def columns(method: Method, params: Mapping[str, Any]) -> list[str]:
    """Names of the columns that a router reads: those of its header, and those that its parameters name."""
    names = list(method.header["needs"])
    for name, param in method.params.items():
        kind = re.search(r"\b(Column|Sided)\b", param.annotation)
        if kind:
            given = params.get(name)
            listed = [given] if isinstance(given, str) else list(given or ())
            names += listed if kind[0] == "Column" else [f"{side}_{one}" for one in listed for side in ("a", "b")]
    return list(dict.fromkeys(names))


def spoken(rows: pl.DataFrame) -> pl.DataFrame:
    """All voices of a pool as one long table: `place` (of the pair in the pool) and the fields of a voice; both_bad is a tie."""
    long = rows.select(place=pl.int_range(pl.len(), dtype=pl.Int64), voices=pl.col("voices").cast(VOICES))
    told = long.explode("voices").drop_nulls("voices").unnest("voices")
    return told.with_columns(choice=pl.col("choice").replace("both_bad", "tie"))


def people() -> pl.Expr:
    """Voices of persons."""
    return ~pl.col("kind").is_in(MACHINES)


def named(who: Sequence[str]) -> pl.Expr:
    """Voices of these annotators or kinds; nobody named: every machine."""
    if not who:
        return ~people()
    return pl.col("annotator_id").is_in(list(who)) | pl.col("kind").is_in(list(who))


def tally(said: pl.DataFrame, pairs: int) -> Reals:
    """Voices for a, b and tie of each pair: (pairs, 3)."""
    counts = np.zeros((pairs, len(CLASSES)))
    for number, outcome in enumerate(CLASSES):
        places = said.filter(pl.col("choice") == outcome)["place"].to_numpy()
        counts[:, number] = np.bincount(places, minlength=pairs)
    return counts


def entropy(counts: Reals) -> Reals:
    """Entropy of each row's shares over its maximum ln 3; 0 for a row without voices."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    made: Reals = -(shares * np.log(np.where(shares > 0, shares, 1))).sum(axis=1) / np.log(counts.shape[1])
    return made


def still_open(rows: pl.DataFrame, to: To, enough: int | None) -> pl.DataFrame:
    """Pairs with fewer than `enough` voices of those who are asked; all where that is None."""
    if enough is None:
        return rows
    asked = pl.element().struct.field("kind").is_in(MACHINES)
    return rows.filter(pl.col("voices").list.eval(asked if to == "llm" else ~asked).list.sum() < enough)


def thinned(rows: pl.DataFrame, to: To, enough: int, seed: int, among: int) -> tuple[pl.DataFrame, npt.NDArray[np.bool_]]:
    """A pool of at most `among` open pairs and as many others, drawn by chance, and which are open."""
    is_open = rows["pair_id"].is_in(still_open(rows, to, enough)["pair_id"].implode()).to_numpy()
    if rows.height <= among:
        return rows, is_open
    drawn = draws(rows["pair_id"], seed)
    kept = np.sort(np.concatenate([np.flatnonzero(side)[np.argsort(drawn[side], kind="stable")[:among]] for side in (is_open, ~is_open)]))
    return rows[kept], is_open[kept]


def queue(rows: pl.DataFrame, priority: Any, reason: Any, to: To, most: int | None = None, *, then: Any = None) -> pl.DataFrame:
    """Queue rows, the highest priority first; rows whose priority is null or NaN are left out.

    Args:
        rows: with `pair_id`.
        priority, reason: one per row.
        most: at most so many.
        then: what decides among equals, the highest first; after it the pair id does.
    """
    made = rows.select("pair_id").with_columns(
        pl.lit(to).alias("send_to"),
        pl.Series("priority", priority, dtype=pl.Float64, nan_to_null=True),
        pl.Series("reason", reason, dtype=pl.String),
        pl.lit(0.0).alias("then") if then is None else pl.Series("then", then, dtype=pl.Float64),
    )
    near = [pl.col(name).round(9) for name in ("priority", "then")]  # 1 against 2 votes and 2 against 1 are equals to the last bit
    ranked = made.drop_nulls("priority").sort(*near, "pair_id", descending=[True, True, False]).drop("then")
    return ranked if most is None else ranked.head(most)


def by_chance(rows: pl.DataFrame, seed: int, reason: str, to: To, most: int) -> pl.DataFrame:
    """Queue rows drawn by chance, as a router does that has nothing to go by."""
    return queue(rows, 1 - draws(rows["pair_id"], seed), [reason] * rows.height, to, most)
