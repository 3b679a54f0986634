"""One self-contained HTML page about a store: what is in it, what the last run did, and how the kept pairs look."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from prefdata.core import svg
from prefdata.core.columns import Keys, relation
from prefdata.core.store import Store

_STYLE = """
:root{--ink:#1d2733;--paper:#fff;--soft:#5d6b7a;--line:#d9dfe6;--one:#3b6ea8;--two:#d08a3e;--three:#5b9a6b}
@media(prefers-color-scheme:dark){:root{--ink:#e4e9ef;--paper:#15191f;--soft:#9aa7b5;--line:#2f3844;--one:#6fa3dc;--two:#e3a866;--three:#7fc093}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:1040px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin-bottom:.2rem}h2{font-size:1.1rem;margin:2rem 0 .5rem;border-bottom:1px solid var(--line)}
h3{font-size:.95rem;margin:.8rem 0 .3rem;color:var(--soft);font-weight:600}
table{border-collapse:collapse;font-size:.88rem}td,th{padding:.2rem .8rem .2rem 0;text-align:left;border-bottom:1px solid var(--line)}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}.grid{display:flex;flex-wrap:wrap;gap:1.5rem}
svg{font:11px system-ui,sans-serif;fill:var(--ink);max-width:100%}.axis{stroke:var(--line)}.soft,.none{color:var(--soft)}
"""
_COUNTS = ("prompts", "responses", "pairs", "annotations", "labels", "signals", "decisions")


def build(store: Store, trainings: Sequence[Path] = ()) -> str:
    """The page; `trainings` are folders with a trainer's metrics.jsonl."""
    keys = Keys.newest(store)
    sections = [
        _section("In the store", _table(("table", "rows"), [(t, store.value(f"SELECT count(*) FROM {t}")) for t in _COUNTS])),
        _section("The last run", _last_run(store)),
        _section("Who judged", _judges(store)),
        _section("Labelled pairs", _pairs(store, keys)) if keys.labels else "",
        *(_section(f"Training: {folder.name}", _training(folder)) for folder in trainings if (folder / "metrics.jsonl").exists()),
    ]
    meta = "<meta charset=utf-8><meta name=viewport content='width=device-width'>"
    head = f"<!doctype html><html lang=en>{meta}<title>prefdata</title><style>{_STYLE}</style>"
    return f"{head}<h1>Preference data</h1><p class=soft>{html.escape(store.path.name)}</p>{''.join(sections)}</html>\n"


def _last_run(store: Store) -> str:
    wanted = "state = 'done' AND json_array_length(report->'steps') > 0"
    found = store.rows(f"SELECT report FROM runs WHERE {wanted} ORDER BY started DESC LIMIT 1")
    if not found:
        return "<p class=none>no run yet</p>"
    steps = json.loads(found[0][0])["steps"]
    rows = [(s["step"], s["rows_in"], s["had"], s["done"], s["abstained"], s["failed"], round(s["seconds"], 1)) for s in steps]
    table = _table(("step", "rows in", "already there", "done", "abstained", "failed", "seconds"), rows)
    funnel: dict[str, float] = {}
    for step in steps:
        for reason, count in step["detail"].get("dropped", {}).items():
            funnel[f"dropped: {reason}"] = count
        if "kept" in step["detail"]:
            funnel[f"kept by {step['step'].removeprefix('filter ')}"] = step["detail"]["kept"]
    return table + (f"<h3>What the filters did</h3>{svg.bars(funnel)}" if funnel else "")


def _judges(store: Store) -> str:
    rows = store.rows(
        "SELECT annotator_id, annotator_kind, kind, count(*), count(choice) FILTER (choice = 'a'), count(choice) FILTER (choice = 'b'), "
        "count(choice) FILTER (choice IN ('tie', 'both_bad')), round(avg(score), 2) FROM live_annotations GROUP BY ALL "
        "ORDER BY 4 DESC LIMIT 30"
    )
    return _table(("who", "kind", "judged", "judgements", "a", "b", "ties", "mean score"), rows)


def _pairs(store: Store, keys: Keys) -> str:
    """Labels and lengths; every number is counted inside the store."""
    winners = "SELECT coalesce(winner, 'nobody'), count(*)::DOUBLE FROM labels WHERE key = ? GROUP BY 1 ORDER BY 2 DESC"
    plots = [
        ("Winners", svg.bars(dict(store.rows(winners, [keys.labels])))),
        ("Label margin", _binned(store, keys, {"margin": "margin"}, 0.0, 1.0, "")),
        ("Length", _binned(store, keys, {"chosen": "chosen_chars", "rejected": "rejected_chars"}, 0.0, None, "characters")),
    ]
    plots += [
        (name, _binned(store, keys, {name: name}, None, None, "")) for name, (_, kind) in sorted(keys.signals.items()) if kind == "pair"
    ]
    return "<div class=grid>" + "".join(f"<div><h3>{html.escape(title)}</h3>{plot}</div>" for title, plot in plots) + "</div>"


def _binned(store: Store, keys: Keys, columns: dict[str, str], low: float | None, high: float | None, unit: str, bins: int = 20) -> str:
    rel = relation("pair", columns.values(), keys)
    values = " UNION ALL ".join(f"SELECT '{title}' AS series, \"{column}\"::DOUBLE AS v FROM base" for title, column in columns.items())
    # The upper end is the 99th percentile: one giant must not flatten everybody else.
    sql = f"""WITH base AS ({rel.sql}), long AS (SELECT * FROM ({values}) WHERE v IS NOT NULL),
        ends AS (SELECT coalesce($low, quantile_cont(v, 0.005)) AS lo, coalesce($high, quantile_cont(v, 0.99)) AS hi FROM long)
        SELECT series, least(greatest(floor((v - lo) / nullif(hi - lo, 0) * {bins}), 0), {bins - 1})::INTEGER AS bin, count(*),
            any_value(lo), any_value(hi)
        FROM long, ends GROUP BY ALL ORDER BY series, bin"""
    rows = store.rows(sql, {**rel.parameters, "low": low, "high": high})
    if not rows:
        return "<p class=none>nothing to show</p>"
    counts = {title: [0.0] * bins for title in columns}
    for series, place, count, *_ in rows:
        counts[series][place or 0] = count
    first, last = rows[0][3], rows[0][4]
    return svg.histogram(counts, [first + (last - first) * k / bins for k in range(bins + 1)], unit)


def _training(folder: Path) -> str:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines() if line.strip()]
    plots = []
    for name in ("loss", "accuracy", "margin", "chosen_shift", "rejected_shift"):
        line = [(float(r["step"]), float(r[name])) for r in rows if isinstance(r.get(name), int | float) and "step" in r]
        if len(line) > 1:
            plots.append(f"<div><h3>{name}</h3>{svg.lines({name: line}, 'steps')}</div>")
    return f"<div class=grid>{''.join(plots)}</div>" if plots else "<p class=none>no metrics</p>"


def _section(title: str, inside: str) -> str:
    return f"<h2>{html.escape(title)}</h2>{inside}"


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    def cell(value: Any, tag: str) -> str:
        number = isinstance(value, int | float)
        text = f"{value:,}" if number else "" if value is None else html.escape(str(value))
        return f"<{tag}{' class=n' if number else ''}>{text}</{tag}>"

    body = "".join("<tr>" + "".join(cell(v, "td") for v in row) + "</tr>" for row in rows)
    return f"<table><tr>{''.join(cell(h, 'th') for h in head)}</tr>{body}</table>"
