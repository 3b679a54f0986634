"""Audit: what is in the store, and what catches the eye."""

from __future__ import annotations

from typing import Any

from prefdata.core import queries
from prefdata.core.method import method
from prefdata.core.stats import wilson


@method(version=1)
def summary(db: Any) -> dict[str, list[dict[str, Any]]]:
    """Rows per table, sources, who judged, who won, lengths, length bias, duplicates, contradictions, empty texts.

    Every value of the report is a table. Labels are those of the newest aggregate step; before there is one, `winners` and
    `longer_chosen` are empty. `longer_chosen` leaves out ties and pairs of equal length, and gives Wilson's 95 % interval.
    """
    report: dict[str, list[dict[str, Any]]] = {
        "tables": [{"table": name, "rows": count} for name, count in queries.table_counts(db).items()]
    }
    report["sources"] = queries.sources(db)
    report["judgements"] = queries.annotator_kinds(db)
    for name, sql in _TABLES.items():
        report[name] = queries.rows(db, sql)
    for row in report["longer_chosen"]:
        row["low"], row["high"] = wilson(row["longer"], row["pairs"]) or (None, None)
    return report


_SIDES = """newest_labels l JOIN pairs p ON p.id = l.pair_id JOIN responses ra ON ra.id = p.a JOIN responses rb ON rb.id = p.b"""
_TABLES = {
    "winners": "SELECT coalesce(winner, 'no winner') AS winner, count(*) AS pairs FROM newest_labels GROUP BY 1 ORDER BY pairs DESC, 1",
    "lengths": """
        SELECT part, count(*) AS rows, min(chars) AS least, quantile_disc(chars, 0.5) AS median, round(avg(chars), 1) AS mean,
               quantile_disc(chars, 0.95) AS p95, max(chars) AS most
        FROM (SELECT 'prompt' AS part, chars FROM prompts UNION ALL SELECT 'response', chars FROM responses) GROUP BY part ORDER BY part""",
    "longer_chosen": f"""
        SELECT CASE WHEN grouping(source) = 1 THEN 'all' ELSE coalesce(source, '') END AS source, count(*) AS pairs,
               count(*) FILTER (longer) AS longer, count(*) FILTER (longer) / count(*) AS share
        FROM (SELECT p.source, (ra.chars > rb.chars) = (winner = 'a') AS longer
              FROM {_SIDES} WHERE winner IN ('a', 'b') AND ra.chars <> rb.chars)
        GROUP BY GROUPING SETS ((source), ()) HAVING count(*) > 0 ORDER BY grouping(source) DESC, source""",
    "duplicates": """
        SELECT 'prompts that repeat another, but for case and outer space' AS what, (count(*) - count(DISTINCT twin))::BIGINT AS rows
        FROM prompts
        UNION ALL
        SELECT 'pairs of one text twice', count(*) FROM (
            SELECT p.a, p.b FROM pairs p JOIN responses x ON x.id = p.a JOIN responses y ON y.id = p.b WHERE x.chars = y.chars) same
        JOIN responses x ON x.id = same.a JOIN responses y ON y.id = same.b WHERE x.text = y.text""",
    "contradictions": """
        WITH imported AS (SELECT subject, annotator_id, annotator_kind, choice FROM live_annotations
                          WHERE kind = 'pair' AND key IS NULL AND choice IN ('a', 'b')),
             twice AS (SELECT subject, count(DISTINCT choice) AS n FROM imported GROUP BY subject, annotator_id),
             given AS (SELECT subject, count(DISTINCT choice) AS n FROM imported WHERE annotator_kind = 'imported' GROUP BY subject)
        SELECT 'pairs that one annotator judged both a and b' AS what, count(DISTINCT subject) AS pairs FROM twice WHERE n = 2
        UNION ALL SELECT 'pairs that came with labels a and b', count(*) FROM given WHERE n = 2""",
    "empty_texts": """
        SELECT 'prompts' AS what, count(*) AS rows FROM prompts WHERE chars = 0
        UNION ALL SELECT 'responses', count(*) FROM responses WHERE chars = 0 OR (chars < 100 AND regexp_full_match(text, '\\s*'))""",
}  # fmt: skip
