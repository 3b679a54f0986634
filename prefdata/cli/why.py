"""`prefdata why`: one pair's whole story."""

from __future__ import annotations

import json as jsons
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from prefdata.cli.options import AsJson, StoreFile, open_store
from prefdata.cli.show import Screen, cut

CUT = 600


def why(
    pair: Annotated[str, typer.Argument(metavar="PAIR", help="The pair's id, at least its first four digits, or source:item_id.")],
    full: Annotated[bool, typer.Option("--full", help="Do not cut long texts.")] = False,
    store: StoreFile = None,
    json: AsJson = False,
) -> None:
    """Tell a pair's whole story.

    Where it came from, who said what about it, its labels and signals, the rule that dropped it, the exports it is in.

    Example:  prefdata why 4f3a
    """
    from prefdata.core import queries

    screen = Screen(json)
    with open_store(store).read() as db:
        story = queries.story(db, queries.one_pair(db, pair))
    for export in story["exports"]:
        export["split"] = _split(Path(export["path"]), export.pop("files"), str(story["pair"]["id"]))
    if json:
        screen.data(story)
        return
    most = 10**9 if full else CUT
    _show_texts(story, screen, most)
    _show_judgements(story["judgements"], screen, most)
    _show_numbers(story, screen)
    _show_fate(story, screen)
    screen.next(_next(story, full))


def _next(story: Mapping[str, Any], full: bool) -> str:
    if not story["judgements"]:
        return "prefdata label"
    return "prefdata status" if full else f"prefdata why {str(story['pair']['id'])[:8]} --full"


def _show_texts(story: Mapping[str, Any], screen: Screen, most: int) -> None:
    pair = story["pair"]
    screen.line(f"pair {pair['id']}", "bold")
    screen.line(f"source {pair['source'] or 'unknown'}, made by {pair['strategy'] or 'unknown'}")
    for origin in story["origin"]:
        item = f", item {origin['item_id']}" if origin["item_id"] else ""
        screen.line(f"{origin['of']} came from {origin['file'] or 'a file'}, line {origin['line']}{item}")
    for message in pair["messages"]:
        content = message.get("content")
        text = content if isinstance(content, str) else jsons.dumps(content, ensure_ascii=False)
        _block(screen, f"prompt, {message.get('role')}", text, most)
    for side in ("a", "b"):
        made = ", ".join(str(v) for v in (pair[f"{side}_model"], pair[f"{side}_role"], pair[f"{side}_strategy"]) if v)
        _block(screen, f"response {side}" + (f" ({made})" if made else ""), pair[f"{side}_text"], most)


def _block(screen: Screen, title: str, text: str, most: int) -> None:
    screen.line()
    screen.line(title, "bold")
    screen.line(cut(text, most))


def _show_judgements(rows: list[dict[str, Any]], screen: Screen, most: int) -> None:
    screen.line()
    if not rows:
        screen.line("nobody has judged it")
        return
    names = ("choice", "strength", "score", "score_a", "score_b", "scores", "shown", "rationale")
    used = [name for name in names if any(row[name] is not None for row in rows)]
    shown = [{name: cut(row[name], most) if isinstance(row[name], str) else row[name] for name in used} for row in rows]
    cells = [{"of": row["of"], "who": _who(row), **said, "from": _place(row)} for row, said in zip(rows, shown, strict=True)]
    screen.table(cells, title="judgements")


def _who(row: Mapping[str, Any]) -> str:
    return f"{row['who']} ({row['kind']})" + (" taken back" if row["retracted"] else "")


def _place(row: Mapping[str, Any]) -> str:
    """Where a judgement was read, or the step that made it."""
    if row["file"]:
        return f"{row['file']}, line {row['line']}"
    return str(row["key"] or "").split("@")[0]


def _show_numbers(story: Mapping[str, Any], screen: Screen) -> None:
    if story["labels"]:
        screen.table([{**row, "winner": row["winner"] or "none"} for row in story["labels"]], title="labels")
    units = _units()
    signals = [
        {
            "of": row["of"],
            "signal": row["name"],
            "value": "undefined" if row["value"] is None else row["value"],
            "unit": units.get(row["name"]),
        }
        for row in story["signals"]
    ]
    trouble = [
        {"of": row["of"], "step": row["key"].split("@")[0], "ended": row["state"], "note": cut(row["note"] or "", 300)}
        for row in story["trouble"]
    ]
    waiting = [{"waits for": row["send_to"], "priority": row["priority"], "reason": row["reason"]} for row in story["queue"]]
    for title, rows in (("signals", signals), ("abstained and failed", trouble), ("queue", waiting)):
        if rows:
            screen.table(rows, title=title)


def _show_fate(story: Mapping[str, Any], screen: Screen) -> None:
    for row in story["decisions"]:
        name, rule = row["key"].split("@")[0], _rule(row)
        verdict = "kept" if row["reason"] is None else f"dropped as {row['reason']}"
        screen.line(f"{verdict} by {name}{rule}", None if row["reason"] is None else "yellow")
    if not story["decisions"]:
        screen.line("no filter has looked at it")
    for row in story["exports"]:
        where = f", split {row['split']}" if row["split"] else ""
        screen.line(f"in the {row['kind']} export {row['path']}{where}", "green")
    if not story["exports"]:
        screen.line("in no export")


def _rule(row: Mapping[str, Any]) -> str:
    """What the filter asked for: its parameters as in the recipe."""
    params = {k: v for k, v in jsons.loads(row["params"] or "{}").items() if k != "subject" and v is not None}
    return " " + jsons.dumps(params, ensure_ascii=False) if params else ""


def _units() -> dict[str, str]:
    from prefdata.core import catalogue

    return {name: unit for method in catalogue.shelf_methods("signals").values() for name, unit in method.header["gives"].items()}


def _split(folder: Path, files: list[str], pair: str) -> str | None:
    """The split whose file holds the pair; None where the files are gone or carry no pair_id."""
    import polars as pl

    for path in (folder / name for name in files):
        if path.suffix not in (".parquet", ".jsonl") or not path.is_file():
            continue
        with suppress(pl.exceptions.PolarsError, OSError):
            rows = pl.scan_parquet(path) if path.suffix == ".parquet" else pl.scan_ndjson(path)
            if rows.filter(pl.col("pair_id") == pair).select(pl.len()).collect().item():
                return path.stem.split("-")[0]
    return None
