"""What judges of pairs are worth: how often they are right, how far they follow the order in which they are shown two
responses, and what they cost.

Everything follows from one small table of counts for each judge: what it said with a shown first, what with b shown first,
what it said in all, and the gold label. a and b are those of the imported file, which the store may hold the other way
round (`items.swapped`).
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal

import duckdb
import numpy as np

from prefdata.core import queries, stats
from prefdata.core.errors import BadValue, UnknownName
from prefdata.core.queries import Row
from prefdata.core.store import Store

CAME_WITH = "gold"
"""The gold that needs no name: labels of kind gold, and people's labels that came with the pairs of an import."""
PARTS = ("subset", "source")
UNREADABLE = "unreadable"
"""The choice of a reply that nobody could read, and of a call that failed."""
_READ = ("a", "b", "tie", "both_bad")
_WITHHELD = "the order decided: "
"""How the note of a judge begins that abstained because its verdict changed side with the order (`verdicts.both`)."""
_PEOPLE = "('human', 'gold', 'imported')"
_PART = {None: "NULL", "subset": "coalesce(n.subset, i.subset, h.subset)", "source": "coalesce(i.source, p.source)"}
_HOME_PART = {None: "NULL", "subset": "h.subset", "source": "p.source"}
_UNREAD = "json_extract_string(x.scores, '$.unreadable') IS NOT NULL OR (x.choice IS NULL AND x.score_a IS NULL)"
_ORDERS = "json_extract_string(x.scores, '$.orders.{}')"

_JUDGES = f"""
    WITH said AS (SELECT key, annotator_id AS judge, any_value(annotator_kind) AS kind, bool_or(kind = 'pair') AS pairs,
            count(*) FILTER (kind = 'pair' AND ({_UNREAD})) AS unread,
            count(*) FILTER (kind = 'pair' AND choice = 'abstain' AND NOT ({_UNREAD})) AS abstain
        FROM live_annotations x WHERE annotator_kind NOT IN {_PEOPLE} AND (kind = 'pair' OR score IS NOT NULL) GROUP BY ALL),
    ends AS (SELECT key, count(*) FILTER (state = 'abstained') AS abstained, count(*) FILTER (state = 'failed') AS failed,
        sum(cost) AS cost FROM outcomes GROUP BY key)
    SELECT coalesce(d.judge, s.method) AS judge, d.kind, s.method, s.key, s.used,
        coalesce(d.pairs, json_extract_string(s.params, '$.subject') = 'pair') AS pairs,
        coalesce(e.abstained, 0) + coalesce(d.abstain, 0) AS abstained, coalesce(e.failed, 0) + coalesce(d.unread, 0) AS failed,
        coalesce(e.cost, 0.0) AS cost, greatest(1, count(d.judge) OVER (PARTITION BY s.key)) AS jurors
    FROM steps s LEFT JOIN said d ON d.key = s.key LEFT JOIN ends e ON e.key = s.key
    WHERE s.shelf = 'judges' AND (d.key IS NOT NULL OR e.key IS NOT NULL)
    UNION ALL SELECT judge, kind, NULL, NULL, NULL, pairs, abstain, unread, 0.0, 1 FROM said WHERE key IS NULL"""

_SAID = f"""
    home AS (SELECT DISTINCT ON (subject) subject AS pair, swapped, subset FROM items WHERE kind = 'pair' ORDER BY subject, file, line),
    rows AS (SELECT DISTINCT ON (subject, source, swapped) subject AS pair, source, swapped, subset FROM items
        WHERE kind = 'pair' ORDER BY subject, source, swapped, file, line),
    said AS (SELECT x.id, x.annotator_id AS judge, x.key, x.subject AS pair, i.source, {{part}} AS part,
            coalesce(i.swapped, h.swapped, false) AS swapped, {_ORDERS.format("ab")} AS ab, {_ORDERS.format("ba")} AS ba,
            CASE WHEN {_UNREAD} THEN $unreadable ELSE x.choice END AS said,
            CASE WHEN ab IS NULL AND ba IS NULL AND x.shown IN ('ab', 'ba') THEN x.shown END AS alone
        FROM live_annotations x JOIN pairs p ON p.id = x.subject LEFT JOIN items i ON i.id = x.id LEFT JOIN home h ON h.pair = p.id
        LEFT JOIN rows n ON n.pair = p.id AND n.source = i.source AND n.swapped = i.swapped
        WHERE x.kind = 'pair' AND x.annotator_kind NOT IN {_PEOPLE} AND (x.choice IS NOT NULL OR x.score_a IS NULL)),
    numbered AS (SELECT *, CASE WHEN alone IS NULL THEN id::VARCHAR
        ELSE row_number() OVER (PARTITION BY judge, key, pair, source, swapped, alone ORDER BY id)::VARCHAR END AS slot FROM said),
    verdicts AS (SELECT judge, key, pair, source, part, swapped,
            any_value(CASE WHEN alone IS NULL THEN ab WHEN alone = 'ab' THEN said END) AS ab,
            any_value(CASE WHEN alone IS NULL THEN ba WHEN alone = 'ba' THEN said END) AS ba,
            any_value(CASE WHEN alone IS NULL THEN said END) AS both
        FROM numbered GROUP BY judge, key, pair, source, part, swapped, slot)"""
"""One row per judgement of a pair; two that show it in one order each are one, the k-th of either order with each other."""

_ENDED = """
    whose AS (SELECT DISTINCT key, annotator_id AS judge FROM live_annotations WHERE key IS NOT NULL),
    jurors AS (SELECT key, count(*) AS n FROM whose GROUP BY key),
    touched AS (SELECT id AS pair, unnest([id, a, b, prompt_id]) AS subject FROM pairs),
    ended AS (SELECT DISTINCT coalesce(w.judge, s.method) AS judge, o.key, t.pair, o.state = 'failed' AS failed,
            starts_with(o.note, $withheld || 'a where a') AS first
        FROM outcomes o JOIN steps s ON s.key = o.key AND s.shelf = 'judges' LEFT JOIN whose w ON w.key = o.key
        LEFT JOIN jurors j ON j.key = o.key JOIN touched t ON t.subject = o.subject
        WHERE o.state = 'failed' OR (o.state = 'abstained' AND starts_with(o.note, $withheld) AND coalesce(j.n, 1) = 1))"""
"""Pairs without a verdict because a reply could not be read, or because the order decided, which the note then tells."""

_POINTS = f"""
    points AS (SELECT subject, annotator_id AS judge, key, avg(score) AS score FROM live_annotations
        WHERE kind = 'response' AND score IS NOT NULL AND annotator_kind NOT IN {_PEOPLE} GROUP BY ALL)"""

_JOINT = """
    WITH {said}, {ended}, {points}, {gold},
    every AS (SELECT * FROM verdicts
        UNION ALL SELECT e.judge, e.key, e.pair, NULL, {home_part}, coalesce(h.swapped, false),
            CASE WHEN e.failed THEN $unreadable WHEN e.first THEN 'a' ELSE 'b' END,
            CASE WHEN e.failed THEN $unreadable WHEN e.first THEN 'b' ELSE 'a' END,
            CASE WHEN e.failed THEN $unreadable ELSE 'abstain' END
        FROM ended e JOIN pairs p ON p.id = e.pair LEFT JOIN home h ON h.pair = e.pair
        UNION ALL SELECT x.judge, x.key, p.id, NULL, {home_part}, coalesce(h.swapped, false), NULL, NULL,
            CASE WHEN x.score > y.score THEN 'a' WHEN x.score < y.score THEN 'b' ELSE 'tie' END
        FROM pairs p JOIN points x ON x.subject = p.a JOIN points y ON y.subject = p.b AND y.judge = x.judge
            AND y.key IS NOT DISTINCT FROM x.key LEFT JOIN home h ON h.pair = p.id)
    SELECT v.judge, v.key, v.part, {ab} AS ab, {ba} AS ba, {both} AS both, {gold_choice} AS gold, count(*) AS n
    FROM every v LEFT JOIN gold_row g ON g.pair = v.pair AND g.source = v.source AND g.swapped = v.swapped
    LEFT JOIN gold_pair q ON q.pair = v.pair GROUP BY ALL"""

_GOLD = """
    truth AS (SELECT x.subject AS pair, i.source, i.swapped, x.choice FROM live_annotations x LEFT JOIN items i ON i.id = x.id
        WHERE x.kind = 'pair' AND x.choice IN ('a', 'b', 'tie', 'both_bad') AND ({who})),
    gold_row AS (SELECT pair, source, swapped, CASE WHEN count(*) = 1 THEN any_value(choice) END AS choice FROM (
        SELECT pair, source, swapped, choice FROM truth WHERE swapped IS NOT NULL GROUP BY pair, source, swapped, choice
        QUALIFY rank() OVER (PARTITION BY pair, source, swapped ORDER BY count(*) DESC) = 1) GROUP BY ALL),
    gold_pair AS (SELECT pair, CASE WHEN count(*) = 1 THEN any_value(choice) END AS choice FROM (
        SELECT pair, choice FROM truth GROUP BY pair, choice
        QUALIFY rank() OVER (PARTITION BY pair ORDER BY count(*) DESC) = 1) GROUP BY pair)"""
"""What most of them said, of an imported row and of a pair; null where as many said something else."""
_NAMED = "x.annotator_id = $gold OR x.annotator_kind = $gold"
_CAME_WITH = "x.annotator_kind = 'gold' OR (x.annotator_kind = 'human' AND i.kind = 'pair')"

Joint = Counter[tuple[str | None, str | None, str | None, str | None]]
"""(with a shown first, with b shown first, in all, gold) -> how many; None: not asked, or no gold."""
Table = Counter[tuple[str | None, str | None]]
"""Two things that were said of the same pair -> how often."""
Unreadable = Literal["leave_out", "wrong", "tie"]


def judge_figures(
    store: Store,
    *,
    gold: str | None = CAME_WITH,
    by: Literal["subset", "source"] | None = None,
    unreadable: Unreadable = "leave_out",
    every: bool = False,
) -> list[Row]:
    """Per machine judge: how often it is right, how often the order of the two responses decided, what became of its rows.

    A judge that was run here counts with a and b of the imported row of its pair, or else of the pair itself. An imported
    judgement counts with those of the row it names: a pair that a file holds twice, with a and b exchanged, is two. Scores of
    single responses are verdicts by their order.

    Args:
        gold: whose label is right. `gold`: labels of kind gold and people's labels that came with imported pairs. Else the id
            or the kind of annotators, and of several what most of them said; where as many said something else there is none.
        by: one row for each part: the subset or the source of an imported row.
        unreadable: what a reply that nobody could read counts as in the accuracy: nothing, a mistake, or a tie. Abstentions
            never count.
        every: all parameters a judge was ever run with, one row each; else only those it was run with last.

    Returns:
        judge (annotator id), kind, method, key, and the part under the name `by`.
        verdicts, a, b, ties, both_bad: what was said; where a judge showed both orders and came to one verdict, that one.
        accuracy: verdict (all verdicts together), ab (a shown first), ba, mean (of both orders) and both (right in either order),
            each {right, of, share, interval, kappa} or None. `of` counts what has a gold label. The interval is Wilson's at 95 %;
            that of the mean takes the two verdicts on a pair for one. kappa is Cohen's over everything that was said, ties
            included; there is none of both.
        confusion: verdict, ab and ba -> gold -> said (`unreadable`, too) -> count; orders: said with a first -> said with b first -> count.
        in_both: pairs read in both orders; agree, agreement and kappa_orders: the same choice in both; flips, flip_rate: a in
            one and b in the other. A flip that was withheld as an abstention counts just the same.
        sided: sides named, once for each order; first, first_share: the one shown first. 1/2 says nothing of a bias on its
            own, since a judge that guesses has it too.
        abstained, failed (replies that could not be read, calls that failed), cost (US dollars): the step's, shared by as
            many annotators as `jurors` says; failed is counted in pairs, and the others are None, where `by` is given.
        Shares, intervals and kappas are None where there is nothing to count. The judges with most verdicts come first.
    """
    if by not in _PART:
        raise BadValue("by", by, " or ".join(PARTS))
    with store.read() as db:
        if gold not in (None, CAME_WITH):
            _known(db, gold)
        joint = _joint(db, gold, by)
        judges = queries.rows(db, _JUDGES)
    newest: dict[str, Any] = {}
    for row in judges:
        if row["key"] is not None and (row["judge"] not in newest or (row["used"], row["key"]) > newest[row["judge"]]):
            newest[row["judge"]] = (row["used"], row["key"])
    kept = [row for row in judges if every or row["key"] is None or newest[row["judge"]][1] == row["key"]]
    out = []
    for row in kept:
        if row["judge"] == gold:
            continue
        parts = [part for judge, key, part in joint if (judge, key) == (row["judge"], row["key"])] if by else [None]
        out += [_row(row, joint.get((row["judge"], row["key"], part), Counter()), by, part, unreadable) for part in parts]
    return sorted(out, key=lambda row: (-row["verdicts"], row["judge"], row["key"] or "", row[by] or "" if by else ""))


def order_bias(store: Store, *, every: bool = False) -> list[Row]:
    """`judge_figures` of the judges of pairs, without gold: those of single responses follow no order."""
    return [row for row in judge_figures(store, gold=None, every=every) if row["of_pairs"]]


def _known(db: duckdb.DuckDBPyConnection, gold: str | None) -> None:
    """Refuse a gold that nobody gave."""
    found = queries.rows(db, "SELECT DISTINCT annotator_id AS id, annotator_kind AS kind FROM live_annotations WHERE kind = 'pair'")
    known = {name for row in found for name in (row["id"], row["kind"])}
    if gold not in known:
        raise UnknownName("annotator", str(gold), sorted({CAME_WITH, *known}), " with verdicts on pairs")


def _joint(db: duckdb.DuckDBPyConnection, gold: str | None, by: str | None) -> dict[tuple[str, str | None, str | None], Joint]:
    """(judge, key, part) -> counts."""
    parameters: dict[str, Any] = {"unreadable": UNREADABLE, "withheld": _WITHHELD}
    who = "false" if gold is None else _CAME_WITH if gold == CAME_WITH else _NAMED
    if who == _NAMED:
        parameters["gold"] = gold
    sql = _JOINT.format(
        said=_SAID.format(part=_PART[by]),
        ended=_ENDED,
        points=_POINTS,
        gold=_GOLD.format(who=who),
        home_part=_HOME_PART[by],
        ab=f"CASE WHEN v.swapped THEN {_turned('v.ba')} ELSE v.ab END",
        ba=f"CASE WHEN v.swapped THEN {_turned('v.ab')} ELSE v.ba END",
        both=f"CASE WHEN v.swapped THEN {_turned('v.both')} ELSE v.both END",
        gold_choice=f"CASE WHEN v.swapped THEN {_turned(_TRUTH)} ELSE {_TRUTH} END",
    )
    out: dict[tuple[str, str | None, str | None], Joint] = {}
    for row in queries.rows(db, sql, parameters):
        counts = out.setdefault((row["judge"], row["key"], row["part"]), Counter())
        counts[row["ab"], row["ba"], row["both"], row["gold"]] += row["n"]
    return out


_TRUTH = "CASE WHEN g.pair IS NOT NULL THEN g.choice ELSE q.choice END"


def _turned(column: str) -> str:
    """SQL: the same choice with a and b exchanged."""
    return f"CASE {column} WHEN 'a' THEN 'b' WHEN 'b' THEN 'a' ELSE {column} END"


def _row(judge: Row, joint: Joint, by: str | None, part: str | None, unreadable: Unreadable) -> Row:
    """The figures of one judge, or of a part of what it judged."""
    asked = [any(said[place] not in (None, UNREADABLE) for said in joint) for place in (0, 1)]
    said: dict[str, Table] = {"verdict": Counter(), "ab": Counter(), "ba": Counter()}
    twice: Table = Counter()
    for (ab, ba, both, truth), n in joint.items():
        for one in (both,) if both is not None else (ab, ba):
            if one is not None:
                said["verdict"][truth, one] += n
        for name, one, was_asked in (("ab", ab, asked[0]), ("ba", ba, asked[1])):
            if one is not None and was_asked:
                said[name][truth, one] += n
        if all(asked) and ab is not None and ba is not None:
            twice[truth, min((ab, ba), key=lambda one: (one in _READ, one == truth))] += n
    accuracy = {name: _accuracy(table, unreadable) for name, table in said.items()}
    both_right = _accuracy(twice, unreadable)
    count = {choice: sum(n for (_, one), n in said["verdict"].items() if one == choice) for choice in (*_READ, UNREADABLE)}
    ends = {name: judge[name] for name in ("abstained", "failed", "cost")}
    return {
        **{name: judge[name] for name in ("judge", "kind", "method", "key")},
        **({by: part} if by else {}),
        "of_pairs": judge["pairs"],
        "verdicts": sum(count[choice] for choice in _READ),
        "a": count["a"],
        "b": count["b"],
        "ties": count["tie"],
        "both_bad": count["both_bad"],
        "accuracy": {**accuracy, "mean": _mean(accuracy["ab"], accuracy["ba"]), "both": both_right and {**both_right, "kappa": None}},
        "confusion": {name: _nested(table) for name, table in said.items()},
        **_orders(joint if all(asked) else Counter()),
        **_first(said["ab"], said["ba"]),
        **(ends if by is None else {"abstained": None, "failed": count[UNREADABLE], "cost": None}),
        "jurors": judge["jurors"],
    }


def _accuracy(table: Table, unreadable: Unreadable) -> Row | None:
    """How many of the choices with a gold label are that label; `table` is (gold, said) -> count."""
    seen: Table = Counter()
    for (truth, said), n in table.items():
        if truth is None or said == "abstain" or (said == UNREADABLE and unreadable == "leave_out"):
            continue
        seen[truth, "tie" if said == UNREADABLE and unreadable == "tie" else said] += n
    of, right = seen.total(), sum(n for (truth, said), n in seen.items() if truth == said)
    if not of:
        return None
    return {"right": right, "of": of, "share": right / of, "interval": stats.wilson(right, of), "kappa": _kappa(seen)}


def _mean(ab: Row | None, ba: Row | None) -> Row | None:
    """Of both orders; the two verdicts on a pair are no two observations, so the interval is that of one order's number of pairs."""
    if ab is None or ba is None:
        return None
    share, of = (ab["share"] + ba["share"]) / 2, min(ab["of"], ba["of"])
    kappas = (ab["kappa"], ba["kappa"])
    return {
        "right": ab["right"] + ba["right"],
        "of": ab["of"] + ba["of"],
        "share": share,
        "interval": stats.wilson(share * of, of),
        "kappa": None if None in kappas else sum(kappas) / 2,
    }


def _orders(joint: Joint) -> Row:
    """What a judge said of the same pair in both orders."""
    table: Table = Counter()
    for (ab, ba, _, _), n in joint.items():
        if ab is not None and ba is not None:
            table[ab, ba] += n
    read: Table = Counter({both: n for both, n in table.items() if set(both) <= set(_READ)})
    in_both, agree = read.total(), sum(n for (ab, ba), n in read.items() if ab == ba)
    flips = read["a", "b"] + read["b", "a"]
    return {
        "orders": _nested(table),
        "in_both": in_both,
        "agree": agree,
        "agreement": agree / in_both if in_both else None,
        "agreement_interval": stats.wilson(agree, in_both),
        "kappa_orders": _kappa(read),
        "flips": flips,
        "flip_rate": flips / in_both if in_both else None,
        "flip_interval": stats.wilson(flips, in_both),
    }


def _first(ab: Table, ba: Table) -> Row:
    """How often the side that was named is the one that was shown first."""
    first = sum(n for (_, said), n in ab.items() if said == "a") + sum(n for (_, said), n in ba.items() if said == "b")
    sided = sum(n for table in (ab, ba) for (_, said), n in table.items() if said in ("a", "b"))
    return {
        "sided": sided,
        "first": first,
        "first_share": first / sided if sided else None,
        "first_interval": stats.wilson(first, sided),
    }


def _kappa(table: Table) -> float | None:
    """Cohen's kappa of a table of joint counts."""
    names = sorted({name for both in table for name in both if name is not None})
    return stats.cohen_kappa(np.array([[table[one, other] for other in names] for one in names], dtype=float)) if names else None


def _nested(table: Table) -> dict[str, dict[str, int]]:
    """The same counts as JSON can hold them, first -> second -> count, without those of pairs that have no gold label."""
    out: dict[str, dict[str, int]] = {}
    for (one, other), n in sorted((both, n) for both, n in table.items() if both[0] is not None):
        out.setdefault(str(one), {})[str(other)] = n
    return out
