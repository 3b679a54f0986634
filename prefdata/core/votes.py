"""Annotations -> votes on pairs, the one input of every aggregator.

A vote is a live judgement of a pair, or the order in which one annotator scored a pair's two responses: point-wise
scores become votes by algebra, K calls instead of K(K-1)/2. Judgements without a readable choice are no votes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from prefdata.core.columns import Keys, Relation, quoted, relation
from prefdata.core.method import Method

COUNTS = ("n", "n_a", "n_b", "n_tie", "n_both_bad")
_PAIR = """SELECT v.subject AS pair_id, v.annotator_id, v.annotator_kind, v.choice, v.strength, v.key
    FROM live_annotations v WHERE v.kind = 'pair' AND v.choice IS NOT NULL AND v.choice <> 'abstain'"""
_POINT = """SELECT p.id AS pair_id, x.annotator_id, x.annotator_kind,
        CASE WHEN x.score > y.score THEN 'a' WHEN x.score < y.score THEN 'b' ELSE 'tie' END AS choice,
        NULL::DOUBLE AS strength, x.key
    FROM pairs p JOIN points x ON x.subject = p.a JOIN points y ON y.subject = p.b
        AND y.annotator_id = x.annotator_id AND y.key IS NOT DISTINCT FROM x.key"""
_POINTS = """SELECT subject, annotator_id, annotator_kind, key, avg(score) AS score FROM live_annotations
    WHERE kind = 'response' AND score IS NOT NULL GROUP BY ALL"""


def handed(method: Method, params: Mapping[str, Any], keys: Keys, judge_keys: Sequence[str]) -> Relation:
    """The rows an aggregator asks for left of its star: nothing or `counts`, `votes`, or `pool`.

    A parameter named `features` lists numbers of responses by name (signals, score, chars); `votes` and `pool` then carry
    each for both sides, a_NAME and b_NAME.
    """
    needs = [*method.header["needs"], *feature_columns(params.get("features") or ())]
    every = votes(keys, judge_keys, params.get("of"), needs if "votes" in method.handed else ())
    if "pool" in method.handed:
        return pool(every, keys, needs)
    return every if "votes" in method.handed else counts(every)


def feature_columns(features: Sequence[str]) -> list[str]:
    """Columns of a pair behind names of features: a minus before a name turns it round, and `votes` is no column."""
    bare = [name.removeprefix("-") for name in features]
    return [f"{side}_{name}" for name in bare if name != "votes" for side in ("a", "b")]


def votes(keys: Keys, judge_keys: Sequence[str], of: Sequence[str] | None, needs: Sequence[str] = ()) -> Relation:
    """One row per vote: id, row (of the pair), prompt_id, a_id, b_id, annotator_id, annotator_kind, choice, strength, `needs`.

    Args:
        needs: further columns of a pair.
        judge_keys: which runs of machine judges count; empty: the newest of each judge.
        of: annotator ids or kinds to count, or with a minus before them not to count; None: all.
    """
    own = ("prompt_id", "a_id", "b_id")
    pairs = relation("pair", (*own, *needs), keys)
    further = "".join(f", base.{quoted(name)}" for name in dict.fromkeys(needs) if name not in own)
    parameters: dict[str, Any] = dict(pairs.parameters)
    if judge_keys:
        parameters["judge_keys"] = list(judge_keys)
        machine = "v.key IS NULL OR v.key IN (SELECT unnest($judge_keys))"
    else:
        machine = """v.key IS NULL OR v.key IN (SELECT key FROM steps WHERE shelf = 'judges'
            QUALIFY row_number() OVER (PARTITION BY method ORDER BY used DESC) = 1)"""
    chosen = ""
    counted = {"of": [w for w in of or () if not w.startswith("-")], "not_of": [w[1:] for w in of or () if w.startswith("-")]}
    for name, listed in counted.items():
        if listed:
            parameters[name] = listed
            among = f"(v.annotator_id IN (SELECT unnest(${name})) OR v.annotator_kind IN (SELECT unnest(${name})))"
            chosen += f" AND {among}" if name == "of" else f" AND NOT {among}"
    sql = f"""WITH points AS ({_POINTS}), every AS ({_PAIR} UNION ALL {_POINT}), base AS ({pairs.sql})
        SELECT base.id, base.row, base.prompt_id, base.a_id, base.b_id,
            v.annotator_id, v.annotator_kind, v.choice, v.strength{further}
        FROM every v JOIN base ON base.id = v.pair_id WHERE ({machine}) {chosen}"""
    return Relation(sql, pairs.reads, parameters, tuple(dict.fromkeys((*pairs.grows, "annotations", *(() if judge_keys else ("judges",))))))


def pool(all_votes: Relation, keys: Keys, needs: Sequence[str]) -> Relation:
    """One row per pair, voted on or not (n = 0): id, row, `needs` (columns of a pair), n, n_a, n_b, n_tie, n_both_bad."""
    pairs, counted = relation("pair", needs, keys), counts(all_votes)
    columns = ", ".join(f"coalesce(c.{name}, 0) AS {name}" for name in COUNTS)
    sql = f"SELECT base.*, {columns} FROM ({pairs.sql}) base LEFT JOIN ({counted.sql}) c ON c.id = base.id"
    grows = tuple(dict.fromkeys((*pairs.grows, *counted.grows)))
    return Relation(sql, {**pairs.reads, **counted.reads}, {**pairs.parameters, **counted.parameters}, grows)


def counts(all_votes: Relation) -> Relation:
    """One row per pair with at least one vote: id, row, n, n_a, n_b, n_tie, n_both_bad."""
    sql = f"""SELECT id, row, count(*) AS n, count(*) FILTER (choice = 'a') AS n_a, count(*) FILTER (choice = 'b') AS n_b,
        count(*) FILTER (choice = 'tie') AS n_tie, count(*) FILTER (choice = 'both_bad') AS n_both_bad
        FROM ({all_votes.sql}) GROUP BY id, row"""
    return Relation(sql, all_votes.reads, all_votes.parameters, all_votes.grows)
