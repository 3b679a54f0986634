"""Rows that are no plain pairs: single responses, ranked lists, rationales, joint texts, marked spans, ratings, annotators."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from train_toys import as_chat, make_tokenizer, rows_for, toy_pairs, write_export

from prefdata.core.errors import PrefdataError
from prefdata.core.export_io import load_export
from prefdata.models.packing_tokens import Encoder
from prefdata.train.columns import columns_used, is_chat, layout_of
from prefdata.train.data import Limit, Plan, Row, Rows, load_rows
from prefdata.train.objective import resolve
from prefdata.train.spans import weigh_tokens

TOKENIZERS = {chat: make_tokenizer(chat) for chat in (True, False)}


def read(
    tmp_path: Path, rows: list[dict[str, Any]], objective: str, use: Sequence[str] = (), limit: Limit | None = None, **params: Any
) -> Rows:
    export = load_export(write_export(tmp_path / f"export-{len(list(tmp_path.iterdir()))}", train=rows))
    bound = resolve(objective, params)
    used, _ = columns_used(export, bound, use, ())
    encoder = Encoder.make(TOKENIZERS[is_chat(export)], chat=is_chat(export), whole_turn=False)
    return load_rows(export.splits["train"], "train", encoder, limit or Limit(None, "refuse", None), used, Plan.of(export, bound, 4))


def text(row: Row, number: int = 0) -> str:
    return TOKENIZERS[False].decode(row.responses[number][:-1])


# Single responses


@pytest.mark.parametrize("chat", [False, True])
def test_single_responses(tmp_path: Path, chat: bool) -> None:
    pairs = as_chat(toy_pairs(4)) if chat else toy_pairs(4)
    rows = [{"prompt": r["prompt"], "completion": r["chosen"], "label": i % 2 == 0, "weight": 1.0 + i} for i, r in enumerate(pairs)]
    got = read(tmp_path, rows, "kto").rows
    assert [(row.good, row.weight, len(row.responses)) for row in got] == [(True, 1, 1), (False, 2, 1), (True, 3, 1), (False, 4, 1)]


def test_pairs_become_a_good_and_a_bad_row_side_by_side(tmp_path: Path) -> None:
    """Not all good ones first: a batch holds both kinds."""
    rows = [{**r, "ref_logp_chosen": -5.0, "ref_logp_rejected": -7.0} for r in toy_pairs(3)]
    got = read(tmp_path, rows, "bco").rows
    assert [row.good for row in got] == [True, False] * 3
    assert [row.id for row in got[:2]] == ["pair-0000:chosen", "pair-0000:rejected"]
    assert [row.ref for row in got[:2]] == [(-5.0,), (-7.0,)]
    assert text(got[0]) == rows[0]["chosen"]


def test_mismatched_responses_come_from_another_prompt_of_the_block(tmp_path: Path) -> None:
    """As in the given order's batches: over a block the mismatched responses are the matched ones."""
    singles = rows_for("kto", 4)[::2]
    for rows, blocks in ((singles, [{0, 1, 2, 3}]), (toy_pairs(4), [{0, 1, 2, 3}, {4, 5, 6, 7}])):
        got = read(tmp_path, rows, "kto").rows
        for number, row in enumerate(got):
            assert row.beside is not None
            assert row.beside[0].tolist() == row.prompt.tolist()
            partner = next(i for i, r in enumerate(got) if r.responses[0].tolist() == row.beside[1].tolist())
            assert got[partner].prompt.tolist() != row.prompt.tolist()
            assert any({number, partner} <= block for block in blocks)
    assert read(tmp_path, rows_for("npo", 4), "npo").rows[0].beside is None, "only who asks for them gets them"


def test_a_mismatched_response_fits_the_limit(tmp_path: Path) -> None:
    long = toy_pairs(3)
    long[0]["chosen"] += " and more" * 12
    whole = read(tmp_path, long, "kto").rows
    limit = max(len(r.prompt) + len(r.responses[0]) for r in whole)
    got = read(tmp_path, [*long, {**long[1], "prompt": long[1]["prompt"] * 3}], "kto", limit=Limit(limit, "refuse", None)).rows
    assert all(row.beside and sum(map(len, row.beside)) <= limit and len(row.beside[1]) for row in got)


def test_one_prompt_alone_has_no_mismatch(tmp_path: Path) -> None:
    rows = [{"prompt": "Same:", "completion": f" text {i}", "label": True} for i in range(3)]
    with pytest.raises(PrefdataError, match="all rows have one prompt"):
        read(tmp_path, rows, "kto")


@pytest.mark.parametrize("label", ["yes", None, 0.5])
def test_a_label_is_true_or_false(tmp_path: Path, label: Any) -> None:
    with pytest.raises(PrefdataError, match="a single response is good \\(true\\) or bad \\(false\\)"):
        read(tmp_path, [{"prompt": "a", "completion": "b", "label": label}], "bco")


def test_a_loss_for_pairs_does_not_take_single_responses(tmp_path: Path) -> None:
    with pytest.raises(PrefdataError, match=r"dpo needs the columns prompt, chosen and rejected.*lacks chosen, rejected"):
        read(tmp_path, rows_for("kto", 2), "dpo")
    with pytest.raises(PrefdataError, match="lacks label; write it with the kto export"):
        read(tmp_path, [{"prompt": "a", "completion": "b"}], "kto")


# Lists


def test_lists_are_sorted_by_their_scores(tmp_path: Path) -> None:
    rows = [{"prompt": "p:", "responses": [" b", " c", " a"], "scores": [2.0, 1.0, 3.0]}, {"prompt": "q:", "responses": [" x", " y"]}]
    got = read(tmp_path, rows, "plackett_luce").rows
    assert [text(got[0], i) for i in range(3)] == [" a", " b", " c"]
    assert got[0].scores == (3.0, 2.0, 1.0)
    assert ([text(got[1], i) for i in range(2)], got[1].scores) == ([" x", " y"], (1.0, 0.0)), "without scores the order is the ranking"


def test_pairs_are_lists_of_two(tmp_path: Path) -> None:
    got = read(tmp_path, toy_pairs(2), "plackett_luce").rows
    assert [row.scores for row in got] == [(1.0, 0.0)] * 2


def test_lists_that_teach_nothing_are_dropped(tmp_path: Path) -> None:
    rows = [
        {"prompt": "p", "responses": ["a", "b"], "scores": [1.0, 1.0]},
        {"prompt": "p", "responses": ["a"], "scores": [1.0]},
        {"prompt": "p", "responses": ["a", "a"], "scores": [2.0, 1.0]},
        {"prompt": "p", "responses": ["a", None], "scores": [2.0, 1.0]},
        {"prompt": "p", "responses": ["a", "b"], "scores": [2.0, 1.0]},
    ]
    got = read(tmp_path, rows, "pro")
    assert (len(got.rows), dict(got.dropped)) == (1, {"all_tied": 1, "one_response": 1, "identical": 1, "no_text": 1})


def test_scores_must_fit_the_list(tmp_path: Path) -> None:
    with pytest.raises(PrefdataError, match="has 2 responses and 3 scores"):
        read(tmp_path, [{"prompt": "p", "responses": ["a", "b"], "scores": [1.0, 2.0, 3.0]}], "pro")
    with pytest.raises(PrefdataError, match="has scores = nan"):
        read(tmp_path, [{"prompt": "p", "responses": ["a", "b"], "scores": [1.0, float("nan")]}], "pro")


# Rationales, joint texts, spans


@pytest.mark.parametrize("chat", [False, True])
def test_a_rationale_stands_behind_its_question(tmp_path: Path, chat: bool) -> None:
    pairs = [{**r, "rationale": "Because it answers."} for r in toy_pairs(2)]
    rows = as_chat(pairs) if chat else pairs
    got = read(tmp_path, rows, "rationale").rows
    for row, pair in zip(got, toy_pairs(2), strict=True):
        assert row.beside is not None
        asked, said = (TOKENIZERS[chat].decode(ids) for ids in row.beside)
        assert all(part.strip() in asked for part in (pair["prompt"], pair["chosen"], pair["rejected"], "rationale"))
        assert said.startswith("Because it answers.")
    own = read(tmp_path, [{**r, "rationale_prompt": "Why?"} for r in pairs], "rationale").rows[0]
    assert own.beside is not None
    assert TOKENIZERS[False].decode(own.beside[0]) == "Why?"


def test_a_row_without_a_rationale_is_dropped(tmp_path: Path) -> None:
    rows = [{**r, "rationale": said} for r, said in zip(toy_pairs(3), ("Fine.", " ", None), strict=True)]
    assert read(tmp_path, rows, "rationale").dropped == {"no_rationale": 2}
    with pytest.raises(PrefdataError, match=r"rationale needs the columns .* lacks rationale"):
        read(tmp_path, toy_pairs(2), "rationale")


def test_a_rationale_is_cut_like_a_response(tmp_path: Path) -> None:
    rows = [{**r, "rationale": "word " * 60, "rationale_prompt": "Why?"} for r in toy_pairs(2)]
    assert read(tmp_path, rows, "rationale", limit=Limit(60, "refuse", None)).dropped == {"too_long": 2}
    got = read(tmp_path, rows, "rationale", limit=Limit(60, "keep_start", None))
    assert [sum(map(len, row.beside or ())) for row in got.rows] == [60, 60]


def test_joint_texts_share_what_both_begin_with(tmp_path: Path) -> None:
    rows = rows_for("dove", 3)
    rows[0]["rejected_prompt"] = rows[0]["prompt"]
    rows[1]["rejected_prompt"] = rows[1]["prompt"][:12] + " something else:"
    got, plain = read(tmp_path, rows, "dove").rows, read(tmp_path, toy_pairs(3), "dpo").rows
    for row, pair, raw in zip(got, plain, rows, strict=True):
        whole = [row.prompt.tolist() + r.tolist() for r in row.responses]
        assert row.responses[0][0] != row.responses[1][0]
        tokenizer = TOKENIZERS[False]
        start = [] if whole[0][0] == pair.prompt[0] else [tokenizer.eos_token_id]
        assert whole[0] == [*start, *pair.prompt.tolist(), *pair.responses[0].tolist()]
        assert tokenizer.decode(whole[1], skip_special_tokens=True) == raw["rejected_prompt"] + raw["rejected"]
    assert got[0].prompt.tolist()[: len(plain[0].prompt)] == plain[0].prompt.tolist(), "one prompt: it is DPO's"
    assert got[2].prompt.tolist() == [TOKENIZERS[False].eos_token_id], "nothing in common: EOS stands before both"


def test_spans_weigh_the_tokens_they_touch() -> None:
    """Against the characters that each token decodes to."""
    for chat in (False, True):
        encoder = Encoder.make(TOKENIZERS[chat], chat=chat, whole_turn=False)
        for text_ in (" Gladly, here is what I know of tea in Bern.", "Straße – 漢字 and 🙂 emoji"):
            (ids,) = encoder.responses([text_])
            spans = [{"start": 3, "end": 9, "weight": 2.0}, {"start": 8, "end": 12, "weight": 0.0}]
            weights = weigh_tokens("p", encoder, text_, ids, spans)
            assert np.isnan(weights[-1]), "the end of the turn is in no span"
            place = 0
            for number, weight in enumerate(weights[:-1]):
                piece = TOKENIZERS[chat].decode(ids[: number + 1])
                if "\ufffd" in piece:
                    break  # from here on tokens are parts of a character
                low, place = place, len(piece)
                want = 0.0 if low < 12 and place > 8 else 2.0 if low < 9 and place > 3 else np.nan
                assert weight == want or (np.isnan(weight) and np.isnan(want)), (piece, weight, want)
            assert {2.0, 0.0} <= set(weights.tolist())


@pytest.mark.parametrize(
    "span", [{"start": 5, "end": 3, "weight": 1.0}, {"start": 0, "end": 999, "weight": 1.0}, {"start": 0, "end": 2, "weight": -1.0}]
)
def test_a_span_must_make_sense(tmp_path: Path, span: dict[str, Any]) -> None:
    rows = [{**row, "chosen_spans": [span]} for row in rows_for("token_weights", 2)]
    with pytest.raises(PrefdataError, match=r"pair-0000.*span"):
        read(tmp_path, rows, "token_weights")


def test_weights_are_cut_with_their_response(tmp_path: Path) -> None:
    rows = rows_for("token_weights", 2)
    whole = read(tmp_path, rows, "token_weights").rows
    limit = len(whole[0].prompt) + 3
    got = read(tmp_path, rows, "token_weights", limit=Limit(limit, "keep_start", None)).rows
    assert all(len(w) == len(r) for row in got for w, r in zip(row.token_weights or (), row.responses, strict=True))


# Ratings, annotators, ties


def test_ratings_of_pairs_and_of_single_responses(tmp_path: Path) -> None:
    attributes = ("good", "long")
    (row, _) = read(tmp_path, rows_for("regression", 2), "regression", attributes=attributes).rows
    assert row.wanted is not None
    assert row.wanted[1] == (1.0, 2.0)
    assert (row.wanted[0][0], np.isnan(row.wanted[0][1])) == (3.0, True)
    singles = [{"prompt": "p", "completion": "c", "good": 1, "long": None}, {"prompt": "q", "completion": "d", "good": None, "long": None}]
    got = read(tmp_path, singles, "regression", attributes=attributes)
    assert (len(got.rows), got.rows[0].good, dict(got.dropped)) == (1, None, {"not_rated": 1})
    with pytest.raises(PrefdataError, match="lacks chosen_helpfulness"):
        read(tmp_path, toy_pairs(2), "regression")


def test_everybody_has_a_name(tmp_path: Path) -> None:
    rows = [{**r, "annotator": name} for r, name in zip(toy_pairs(3), ("ann", "Zoë", "ann"), strict=True)]
    assert [row.annotator for row in read(tmp_path, rows, "lore").rows] == ["ann", "Zoë", "ann"]
    with pytest.raises(PrefdataError, match=r"pair-0001.*has no annotator"):
        read(tmp_path, [rows[0], {**rows[1], "annotator": None}], "lore")
    with pytest.raises(PrefdataError, match=r"mixture needs the columns .* lacks annotator"):
        read(tmp_path, toy_pairs(2), "mixture")


def test_ties_are_read_where_they_are_asked_for(tmp_path: Path) -> None:
    rows = [{**r, "tie": i == 1} for i, r in enumerate(toy_pairs(3))]
    assert [row.tie for row in read(tmp_path, rows, "todo", use=["tie"]).rows] == [0.0, 1.0, 0.0]
    assert [row.tie for row in read(tmp_path, rows, "ties").rows] == [0.0, 1.0, 0.0], "a head that is about ties needs no asking"
    assert read(tmp_path, rows, "todo").rows[0].tie is None
    export = load_export(write_export(tmp_path / "unread", train=rows))
    assert columns_used(export, resolve("todo", {}), (), ())[1] == ["tie"], "and whoever leaves them unread is told"
    with pytest.raises(PrefdataError, match=r"dpo cannot use the column 'tie'.*todo, ties"):
        read(tmp_path, rows, "dpo", use=["tie"])
    with pytest.raises(PrefdataError, match="tie true or false"):
        read(tmp_path, [{**r, "tie": 2} for r in toy_pairs(2)], "ties")


@pytest.mark.parametrize(
    ("objective", "column"), [("offset", "margin"), ("modpo", "margin"), ("rpo_reward_aware", "margin"), ("soft", "p")]
)
def test_a_loss_that_needs_a_column_reads_it_unasked(tmp_path: Path, objective: str, column: str) -> None:
    assert getattr(read(tmp_path, [{**r, column: 0.7} for r in toy_pairs(2)], objective).rows[0], column) == 0.7
    with pytest.raises(PrefdataError, match=f"{objective} is to read the column '{column}' and the export has none"):
        read(tmp_path, toy_pairs(2), objective)


def test_layouts(tmp_path: Path) -> None:
    pairs, singles, lists = toy_pairs(2), rows_for("kto", 2), rows_for("pro", 2)
    found = {}
    for name, rows in (("pairs", pairs), ("unpaired", singles), ("lists", lists)):
        export = load_export(write_export(tmp_path / name, train=rows))
        found[name] = [layout_of(export, resolve(objective, {})) for objective in ("dpo", "kto", "pro")]
    assert found["pairs"] == ["pairs"] * 3
    assert found["unpaired"][1] == "unpaired"
    assert found["lists"][2] == "lists"


def test_files_without_a_manifest_are_known_by_their_columns(tmp_path: Path) -> None:
    import polars as pl

    for kind, rows in (
        ("kto", rows_for("kto", 2)),
        ("lists", rows_for("pro", 2)),
        ("scored", [{"prompt": "p", "completion": "c", "good": 1}]),
    ):
        pl.DataFrame(rows).write_ndjson(tmp_path / f"{kind}.jsonl")
        assert load_export(tmp_path / f"{kind}.jsonl").kind == kind
