"""The dataset card of an export: README.md with the front matter that the Hub reads, from what the store knows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from prefdata.core.columns import Keys
from prefdata.core.store import Store

NEEDS = ("source", "chosen_chars", "rejected_chars", "prompt_chars", "margin", "votes", "p_row")
"""Columns of a pair that `write` reads; `p_row` tells prompts apart."""
_READERS = {
    "dpo": ("DPO and its relatives", "prefdata train dpo EXPORT --model MODEL --out DIR", "trl.DPOTrainer"),
    "rm": ("reward models", "prefdata train reward EXPORT --model MODEL --out DIR", "trl.RewardTrainer"),
    "kto": ("unpaired objectives", "load_dataset(EXPORT)", "trl.experimental.kto.KTOTrainer"),
}
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"), (10_000_000, "1M<n<10M"))


def write(store: Store, folder: Path, manifest: dict[str, Any], keys: Keys, kept: pl.DataFrame, licences: dict[str, str]) -> None:
    """Write `folder/README.md`: counts, sources and licences, where labels come from, lengths, known limits.

    Args:
        kept: one row per exported pair, with `id` and `NEEDS`.
    """
    facts = _facts(store, kept)
    parts = [
        _front_matter(folder, manifest, facts, licences),
        _intro(manifest, facts),
        _sources(facts, licences),
        _labels(facts, keys),
        _lengths(facts),
        _filters(store, keys, manifest),
        _limits(facts, licences),
    ]
    (folder / "README.md").write_text("\n".join(parts), encoding="utf-8")


def _facts(store: Store, kept: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """Small tables about the exported pairs; texts are not read."""
    sources = kept.group_by(pl.col("source").fill_null("unknown")).agg(pairs=pl.len(), prompts=pl.col("p_row").n_unique()).sort("source")
    lengths = [
        kept.select(
            pl.lit(part).alias("part"),
            pl.col(f"{part}_chars").quantile(0.5, "lower").cast(pl.Int64).alias("median"),
            pl.col(f"{part}_chars").mean().round(1).alias("mean"),
            pl.col(f"{part}_chars").max().alias("longest"),
        )
        for part in ("prompt", "chosen", "rejected")
    ]
    return {
        "sources": sources,
        "annotators": _annotators(store, kept.select("id")),
        "lengths": pl.concat(lengths),
        "longer": kept.select(share=(100 * (pl.col("chosen_chars") > pl.col("rejected_chars")).mean()).round(1)),
        "votes": kept.select(
            least=pl.col("votes").min().fill_null(0),
            mean=pl.col("votes").mean().fill_null(0).round(2),
            margin=pl.col("margin").mean().fill_null(0).round(3),
        ),
    }


def _annotators(store: Store, kept: pl.DataFrame) -> pl.DataFrame:
    """Who judged the kept pairs, or their responses where responses were scored."""
    judged = "SELECT id::UUID AS id FROM kept"
    if store.value("SELECT count(*) FROM annotations WHERE kind = 'response'"):
        judged += " UNION ALL SELECT unnest([a, b]) FROM pairs SEMI JOIN (SELECT id::UUID AS id FROM kept) USING (id)"
    return store.frame(
        f"""SELECT annotator_kind AS kind, count(DISTINCT annotator_id) AS annotators, count(*) AS judgements,
        count(DISTINCT subject) AS judged FROM live_annotations SEMI JOIN ({judged}) judged ON judged.id = subject
        GROUP BY 1 ORDER BY 1""",
        kept=kept,
    )


def _front_matter(folder: Path, manifest: dict[str, Any], facts: dict[str, pl.DataFrame], licences: dict[str, str]) -> str:
    total = sum(manifest["counts"].values())
    used = {licences.get(source, "unknown") for source in facts["sources"]["source"]}
    licence = used.pop() if len(used) == 1 else "other"
    suffix = next((p.suffix for p in sorted((folder / "data").iterdir())), ".parquet") if (folder / "data").exists() else ".parquet"
    files = [{"split": split, "path": f"data/{split}-*{suffix}"} for split in manifest["counts"]]
    matter = {
        "license": licence if licence != "unknown" else "other",
        "task_categories": ["reinforcement-learning", "text-generation"],
        "tags": ["preference", manifest["kind"], "prefdata"],
        "size_categories": [next((name for limit, name in _SIZES if total < limit), "n>10M")],
        "configs": [{"config_name": "default", "data_files": files}],
    }
    return "---\n" + yaml.safe_dump(matter, sort_keys=False, allow_unicode=True) + "---\n"


def _intro(manifest: dict[str, Any], facts: dict[str, pl.DataFrame]) -> str:
    what, command, trainer = _READERS.get(manifest["kind"], ("preference learning", "load_dataset(EXPORT)", "any"))
    counts = ", ".join(f"{n:,} {split}" for split, n in manifest["counts"].items()) or "no rows"
    return (
        f"# Preference data ({manifest['kind']})\n\nRows: {counts}. Made for {what}; read by `{trainer}` and by `{command}`.\n"
        "`manifest.json` holds the recipe, the key of every step and the SHA-256 of every file. Prompts never stand in two splits.\n"
    )


def _sources(facts: dict[str, pl.DataFrame], licences: dict[str, str]) -> str:
    rows = [(source, pairs, prompts, licences.get(source, "not recorded")) for source, pairs, prompts in facts["sources"].iter_rows()]
    return "## Sources\n\n" + _table(("source", "pairs", "prompts", "licence"), rows)


def _labels(facts: dict[str, pl.DataFrame], keys: Keys) -> str:
    rows = [tuple(r) for r in facts["annotators"].iter_rows()]
    least, mean, margin = facts["votes"].row(0)
    return (
        "## Where the labels come from\n\n"
        + _table(("kind", "annotators", "judgements", "judged rows"), rows)
        + f"\nAggregated by `{keys.labels}`: at least {least} votes a pair, {mean} on average; mean margin {margin}.\n"
    )


def _lengths(facts: dict[str, pl.DataFrame]) -> str:
    rows = [tuple(r) for r in facts["lengths"].iter_rows()]
    return "## Lengths (characters)\n\n" + _table(("part", "median", "mean", "longest"), rows)


def _filters(store: Store, keys: Keys, manifest: dict[str, Any]) -> str:
    rows = []
    for key in keys.filters:
        counted = store.rows("SELECT coalesce(reason, 'kept'), count(*) FROM decisions WHERE key = ? GROUP BY 1 ORDER BY 1", [key])
        rows += [(f"`{key}`", reason, count) for reason, count in counted]
    return "## What the filters did\n\n" + (_table(("step", "outcome", "pairs"), rows) if rows else "No filter was used.\n")


def _limits(facts: dict[str, pl.DataFrame], licences: dict[str, str]) -> str:
    share = facts["longer"]["share"][0]
    lines = [f"- The chosen response is the longer one in {share} % of the pairs." if share is not None else "- There are no pairs."]
    kinds = set(facts["annotators"]["kind"])
    if "human" not in kinds:
        lines.append("- No human vote stands behind these labels.")
    if kinds & {"llm", "reward_model"}:
        lines.append("- Machine judges share biases (length, position, style) that this card does not correct for.")
    if any(source not in licences for source in facts["sources"]["source"]):
        lines.append("- Some sources have no recorded licence: check them before publishing.")
    return "## Known limits\n\n" + "\n".join(lines) + "\n"


def _table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    """Untrusted names stay one cell of one line."""
    text = f"{value:,}" if isinstance(value, int) else json.dumps(value, ensure_ascii=False)[1:-1] if isinstance(value, str) else str(value)
    return text.replace("|", "\\|").replace("<", "&lt;")
