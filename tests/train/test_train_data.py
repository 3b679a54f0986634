"""Reading exports and turning rows into tokens: what is used, what is cut, what is dropped and why, what is refused."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from train_toys import as_chat, make_tokenizer, toy_pairs, write_export

from prefdata.core.errors import PrefdataError
from prefdata.core.export_io import Export, load_export
from prefdata.models.packing_tokens import Encoder
from prefdata.train.columns import columns_used, is_chat
from prefdata.train.data import Limit, Plan, Rows, load_rows
from prefdata.train.objective import resolve

TOKENIZERS = {chat: make_tokenizer(chat) for chat in (True, False)}


def export_of(tmp_path: Path, rows: list[dict[str, Any]]) -> Export:
    return load_export(write_export(tmp_path / "export", train=rows))


def rows_of(
    export: Export,
    *,
    tokens: int | None = None,
    policy: Any = "refuse",
    objective: str = "dpo",
    use: Sequence[str] = (),
    ignore: Sequence[str] = (),
) -> Rows:
    bound = resolve(objective, {})
    used, _ = columns_used(export, bound, use, ignore)
    chat = is_chat(export)
    encoder = Encoder.make(TOKENIZERS[chat], chat=chat, whole_turn=False)
    return load_rows(export.splits["train"], "train", encoder, Limit(tokens, policy, None), used, Plan.of(export, bound, 4))


# Exports


def test_folder_with_manifest(tmp_path: Path) -> None:
    path = write_export(tmp_path / "e", train=toy_pairs(5), validation=toy_pairs(2))
    export = load_export(path)
    assert (export.kind, export.held_out) == ("dpo", "validation")
    assert {k: v.height for k, v in export.splits.items()} == {"train": 5, "validation": 2}
    assert export.manifest["counts"] == {"train": 5, "validation": 2}


def test_plain_folder_and_single_files(tmp_path: Path) -> None:
    rows = toy_pairs(4)
    (tmp_path / "plain").mkdir()
    pl.DataFrame(rows).write_ndjson(tmp_path / "plain" / "train.jsonl")
    pl.DataFrame(rows).write_ndjson(tmp_path / "plain" / "test.jsonl")
    pl.DataFrame(rows).write_parquet(tmp_path / "one.parquet")
    assert load_export(tmp_path / "plain").held_out == "test"
    assert load_export(tmp_path / "one.parquet").splits["train"].equals(load_export(tmp_path / "plain").splits["train"])


def test_shards_are_read_in_order(tmp_path: Path) -> None:
    rows = toy_pairs(6)
    for i in range(2):
        pl.DataFrame(rows[3 * i : 3 * i + 3]).write_parquet(tmp_path / f"train-0000{i}-of-00002.parquet")
    assert load_export(tmp_path).splits["train"]["pair_id"].to_list() == [r["pair_id"] for r in rows]
    (tmp_path / "train-00001-of-00002.parquet").unlink()
    with pytest.raises(PrefdataError, match="1 of 2 shards"):
        load_export(tmp_path)


def test_kto_is_recognised(tmp_path: Path) -> None:
    pl.DataFrame([{"prompt": "a", "completion": "b", "label": True}]).write_parquet(tmp_path / "k.parquet")
    assert load_export(tmp_path / "k.parquet").kind == "kto"


def test_changed_file_is_noticed(tmp_path: Path) -> None:
    path = write_export(tmp_path / "e", train=toy_pairs(5))
    pl.DataFrame(toy_pairs(4)).write_parquet(path / "data/train-00000-of-00001.parquet")
    with pytest.raises(PrefdataError, match=r"not the file its manifest\.json describes"):
        load_export(path)
    (path / "manifest.json").unlink()
    assert load_export(path).splits["train"].height == 4


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("none.jsonl", None, "does not exist"),
        ("empty.jsonl", b"", "is empty"),
        ("bad.jsonl", b'{"prompt": "a", "chosen": "b", "rejected": "c"}\nnot json\n', "line 2 is not JSON"),
        ("list.jsonl", b"[1]\n", "line 1 holds a list"),
        ("cp1252.jsonl", b'{"prompt": "\xe9", "chosen": "b", "rejected": "c"}\n', "line 1 is not JSON"),
        ("odd.csv", b"prompt,chosen,rejected\n", r"neither \.jsonl nor \.parquet"),
        ("broken.parquet", b"PAR1 no", "cannot be read"),
        ("columns.jsonl", b'{"question": "a", "answer": "b"}\n', "has the columns"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, name: str, content: bytes | None, says: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(PrefdataError, match=says) as caught:
        load_export(tmp_path / name)
    assert name in str(caught.value)


def test_folder_without_data(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl.gz").write_bytes(gzip.compress(b"{}"))
    with pytest.raises(PrefdataError, match="holds no data"):
        load_export(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(PrefdataError, match="is not JSON"):
        load_export(tmp_path)


# Rows


def test_chat_and_plain_rows(tmp_path: Path) -> None:
    for name, rows in (("plain", toy_pairs(3)), ("chat", as_chat(toy_pairs(3)))):
        got = rows_of(load_export(write_export(tmp_path / name, train=rows)))
        assert [r.id for r in got.rows] == [r["pair_id"] for r in rows]
        assert not got.dropped


def test_every_drop_has_its_reason(tmp_path: Path) -> None:
    good, *rest = toy_pairs(6)
    rest[0]["chosen"] = rest[0]["rejected"]
    rest[1]["chosen"] = None
    rest[2]["prompt"] = ""
    rest[3]["chosen"] *= 20
    got = rows_of(export_of(tmp_path, [good, *rest]), tokens=100)
    assert got.dropped == {"identical": 1, "no_text": 2, "too_long": 1}
    assert len(got.rows) == 2


def test_replies_that_are_not_one_message(tmp_path: Path) -> None:
    rows = as_chat(toy_pairs(3))
    rows[1]["chosen"] = [*rows[1]["chosen"], {"role": "user", "content": "And?"}]
    assert rows_of(export_of(tmp_path, rows)).dropped == {"not_one_reply": 1}


def test_empty_response_is_a_response(tmp_path: Path) -> None:
    """It is a bad answer, and its end-of-text token can be learnt from."""
    rows = toy_pairs(2)
    rows[0]["rejected"] = ""
    got = rows_of(export_of(tmp_path, rows))
    assert got.rows[0].responses[1].tolist() == [TOKENIZERS[False].eos_token_id]


@pytest.mark.parametrize("policy", ["refuse", "keep_start", "keep_end"])
def test_truncation_never_loses_a_response(tmp_path: Path, policy: str) -> None:
    rows = toy_pairs(12)
    export = export_of(tmp_path, rows)
    whole = rows_of(export)
    limit = sorted(row.longest for row in whole.rows)[6]
    got = rows_of(export, tokens=limit, policy=policy)
    assert all(row.longest <= limit and all(len(r) for r in row.responses) and len(row.prompt) for row in got.rows)
    assert len(got.rows) + sum(got.dropped.values()) == 12
    full = {row.id: row for row in whole.rows}
    for row in got.rows:
        before = full[row.id]
        if policy == "keep_end":
            assert row.prompt.tolist() == before.prompt.tolist()[len(before.prompt) - len(row.prompt) :]
            assert all(a.tolist() == b.tolist() for a, b in zip(row.responses, before.responses, strict=True))
        elif policy == "keep_start":
            assert row.prompt.tolist() == before.prompt.tolist()
            assert all(a.tolist() == b.tolist()[: len(a)] for a, b in zip(row.responses, before.responses, strict=True))
    assert (got.cut > 0) == (policy != "refuse")


def test_a_prompt_that_fills_the_limit_drops_the_pair(tmp_path: Path) -> None:
    export = export_of(tmp_path, toy_pairs(4))
    shortest = min(len(row.prompt) for row in rows_of(export).rows)
    assert rows_of(export, tokens=shortest, policy="keep_start").dropped == {"prompt_fills": 4}
    assert rows_of(export, tokens=5, policy="keep_end").dropped == {"response_fills": 4}


def test_keep_end_keeps_bos(tmp_path: Path) -> None:
    export = export_of(tmp_path, toy_pairs(1))
    row = rows_of(export).rows[0]
    encoder = Encoder.make(TOKENIZERS[False], chat=False, whole_turn=False)
    limit = Limit(row.longest - 2, "keep_end", int(row.prompt[0]))
    cut = load_rows(export.splits["train"], "train", encoder, limit, set()).rows[0]
    assert cut.prompt.tolist() == [row.prompt[0], *row.prompt.tolist()[3:]]


# Columns


def with_column(name: str, value: Any) -> list[dict[str, Any]]:
    return [{**row, name: value} for row in toy_pairs(3)]


@pytest.mark.parametrize(("column", "value"), [("margin", 0.5), ("p", 0.7)])
def test_a_column_is_read_where_it_was_asked_for(tmp_path: Path, column: str, value: float) -> None:
    """dpo cannot use it and says so; reward can, when told to; whoever leaves it unread is told."""
    export = export_of(tmp_path, with_column(column, value))
    with pytest.raises(PrefdataError, match=f"dpo cannot use the column '{column}', so it would have no effect.* reward"):
        rows_of(export, use=[column])
    assert getattr(rows_of(export, objective="reward", use=[column]).rows[0], column) == value
    for objective in ("dpo", "reward"):
        assert getattr(rows_of(export, objective=objective).rows[0], column) is None
        assert columns_used(export, resolve(objective, {}), (), ())[1] == [column]


@pytest.mark.parametrize(("column", "value"), [("margin", 0.0), ("p", 1.0), ("margin", None), ("p", None)])
def test_a_column_that_says_nothing_is_let_pass(tmp_path: Path, column: str, value: float | None) -> None:
    assert columns_used(export_of(tmp_path, with_column(column, value)), resolve("dpo", {}), (), ()) == (set(), [])


def test_soft_reads_p_unasked_and_needs_it(tmp_path: Path) -> None:
    assert rows_of(export_of(tmp_path, with_column("p", 0.7)), objective="soft").rows[0].p == 0.7
    with pytest.raises(PrefdataError, match="soft is to read the column 'p' and the export has none"):
        rows_of(load_export(write_export(tmp_path / "none", train=toy_pairs(2))), objective="soft")


@pytest.mark.parametrize(("column", "value"), [("weight", -1.0), ("p", 1.5), ("p", -0.1), ("weight", float("nan")), ("weight", "much")])
def test_bad_label_values_name_the_pair(tmp_path: Path, column: str, value: Any) -> None:
    use = [column] if column == "p" else []
    with pytest.raises(PrefdataError, match="pair-0000"):
        rows_of(export_of(tmp_path, with_column(column, value)), objective="reward", use=use)


def test_a_gap_in_a_column_is_refused(tmp_path: Path) -> None:
    rows = with_column("weight", 2.0)
    rows[1]["weight"] = None
    with pytest.raises(PrefdataError, match=r"pair-0001.*weight.*--ignore"):
        rows_of(export_of(tmp_path, rows))


def test_reference_over_other_tokens_is_refused(tmp_path: Path) -> None:
    rows = [{**row, "ref_logp_chosen": -9.0, "ref_logp_rejected": -8.0, "n_chosen": 3, "n_rejected": 3} for row in toy_pairs(2)]
    export = export_of(tmp_path, rows)
    with pytest.raises(PrefdataError, match=r"cover 3 tokens .* --ignore ref"):
        rows_of(export)
    assert rows_of(export, ignore=["ref"]).rows[0].ref is None


@pytest.mark.parametrize("lacking", ["prompt", "chosen", "rejected"])
def test_missing_columns_are_named(tmp_path: Path, lacking: str) -> None:
    path = write_export(tmp_path / "e", train=[{k: v for k, v in row.items() if k != lacking} for row in toy_pairs(2)])
    with pytest.raises(PrefdataError, match=f"lacks {lacking}"):
        rows_of(load_export(path))


def test_prompt_inside_the_responses(tmp_path: Path) -> None:
    """The rm export's shape: conversations are split at the last message, texts can be scored as they are."""
    chats = [{**r, "chosen": [*r["prompt"], *r["chosen"]], "rejected": [*r["prompt"], *r["rejected"]]} for r in as_chat(toy_pairs(3))]
    chats[2]["rejected"] = [{"role": "user", "content": "Another prompt"}, *chats[2]["rejected"][1:]]
    inside = write_export(tmp_path / "chat", train=[{k: v for k, v in r.items() if k != "prompt"} for r in chats])
    apart = rows_of(load_export(write_export(tmp_path / "apart", train=as_chat(toy_pairs(2)))))
    got = rows_of(load_export(inside))
    assert got.dropped == {"two_prompts": 1}
    for one, other in zip(got.rows, apart.rows, strict=True):
        assert one.prompt.tolist() == other.prompt.tolist()
        assert [r.tolist() for r in one.responses] == [r.tolist() for r in other.responses]
    whole = [{"chosen": r["prompt"] + r["chosen"], "rejected": r["prompt"] + r["rejected"]} for r in toy_pairs(2)]
    texts = rows_of(load_export(write_export(tmp_path / "text", train=whole)), objective="reward")
    assert [len(row.prompt) for row in texts.rows] == [0, 0]
    assert TOKENIZERS[False].decode(texts.rows[0].responses[0][:-1]) == whole[0]["chosen"]


def test_held_out_rows_must_look_like_the_training_rows(tmp_path: Path) -> None:
    mixed = write_export(tmp_path / "mixed", train=toy_pairs(2), validation=as_chat(toy_pairs(2)))
    with pytest.raises(PrefdataError, match="column prompt of the split validation"):
        rows_of(load_export(mixed))
    short = write_export(tmp_path / "short", train=toy_pairs(2), test=[{"prompt": "a", "chosen": "b"}])
    with pytest.raises(PrefdataError, match=r"split test.*lacks rejected"):
        rows_of(load_export(short))
    numbers = write_export(tmp_path / "numbers", train=[{"prompt": 1, "chosen": "b", "rejected": "c"}])
    with pytest.raises(PrefdataError, match="column prompt of the split train holds Int64"):
        rows_of(load_export(numbers))
