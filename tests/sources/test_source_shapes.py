"""Every shape has a golden file; what a file was taken for is said; unknown ones are refused in one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from source_helpers import plain, write

from prefdata.core import catalogue
from prefdata.core.errors import PrefdataError, UnknownName
from prefdata.core.ingest import ingest
from prefdata.core.reading import SHAPES, detect, detect_all
from prefdata.core.reading.shapes import ATTRIBUTES
from prefdata.core.store import Store
from prefdata.sources.auto import auto
from prefdata.sources.csv import csv
from prefdata.sources.jsonl import jsonl
from prefdata.sources.parquet import parquet

GOLDEN = Path(__file__).parents[1] / "golden" / "sources"
CASES = sorted(GOLDEN.glob("*.jsonl"))
WANTED = {path.stem: json.loads(path.with_suffix(".json").read_text(encoding="utf-8")) for path in CASES}


def rows_of(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_every_shape_has_a_golden_file() -> None:
    assert {wanted["shape"] for wanted in WANTED.values()} == set(SHAPES)


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_golden(path: Path, tmp_path: Path) -> None:
    wanted = dict(WANTED[path.stem])
    assert detect(path).shape == wanted.pop("shape")
    assert plain(jsonl(path)) == wanted
    counts = ingest(Store(tmp_path / "s.duckdb"), jsonl(path))
    assert counts.read == counts.stored + counts.known + len(counts.rejects) == sum(map(len, wanted.values()))


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_parquet_gives_what_json_lines_give(path: Path, tmp_path: Path) -> None:
    """The same rows with typed columns take the vectorised way; both ways must agree."""
    kinds = {kind: rows for kind, rows in WANTED[path.stem].items() if kind not in ("shape", "rejects")}
    lines = {row["line"] for rows in kinds.values() for row in rows} - {row["line"] for row in WANTED[path.stem].get("rejects", ())}
    rows = [row for line, row in enumerate(rows_of(path), 1) if line in lines]
    groups: dict[str, list[Any]] = {}
    for row in rows:  # one Parquet file per combination of types, which is what typed columns allow
        row = {name: value for name, value in row.items() if value != {}}
        if any(isinstance(value, list) and len({type(part) for part in value}) > 1 for value in row.values()):
            continue
        groups.setdefault(json.dumps({name: str(_type(value)) for name, value in row.items()}, sort_keys=True), []).append(row)
    for number, group in enumerate(groups.values()):
        typed = tmp_path / f"{number}.parquet"
        pl.DataFrame(group, strict=False).write_parquet(typed)
        text = write(tmp_path / f"{number}.jsonl", group)
        options = {"shape": detect(path).shape}
        assert plain(parquet(typed, **options)) == plain(jsonl(text, **options))


def _type(value: Any) -> Any:
    if isinstance(value, list):
        return [_type(part) for part in value]
    return {name: _type(part) for name, part in value.items()} if isinstance(value, dict) else type(value).__name__


@pytest.mark.parametrize("name", ["preference", "pairs", "unpaired", "annotations", "judgments", "prompts", "candidates", "messages"])
def test_csv_gives_what_json_lines_give(name: str, tmp_path: Path) -> None:
    """Plain texts, and lists as JSON text in the columns that hold lists."""
    rows = {
        "preference": [{"prompt": 'a, "b"\nc', "chosen": " x ", "rejected": "", "score_chosen": "1.5"}],
        "pairs": [{"prompt": "p", "response_a": "x", "response_b": "y", "label": "tie", "model_a": "m"}],
        "unpaired": [{"prompt": "p", "completion": "x", "label": "True"}, {"prompt": "p", "completion": "y", "label": "0"}],
        "annotations": [{"item_id": "1", "annotator_id": "w", "label": "A"}],
        "judgments": [{"item_id": "1", "judge": "g", "label": "b", "order": "ba"}],
        "prompts": [{"question": "q", "answer": "4"}],
        "candidates": [{"prompt": "p", "responses": [{"model": "m", "text": "x"}, {"model": "n", "text": "y"}]}],
        "messages": [{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]}],
    }[name]
    cells = [{key: json.dumps(value) if isinstance(value, list) else value for key, value in row.items()} for row in rows]
    for separator, ending in ((",", "csv"), ("\t", "tsv")):
        file = tmp_path / f"f.{ending}"
        pl.DataFrame(cells).write_csv(file, separator=separator)
        found, wanted = plain(csv(file)), plain(jsonl(write(tmp_path / "f.jsonl", rows)))
        for kind in wanted:
            assert [{k: v for k, v in row.items() if k != "line"} for row in found[kind]] == [
                {k: v for k, v in row.items() if k != "line"} for row in wanted[kind]
            ]


def test_detect_says_what_was_read_and_why(tmp_path: Path) -> None:
    found = detect(write(tmp_path / "f.jsonl", [{"question": "q", "chosen": "x", "rejected": "y", "chosen_rating": 5, "topic": "t"}]))
    assert (found.shape, found.kind, found.meta) == ("preference", "pairs", ("topic",))
    assert found.columns == {"prompt": "question", "chosen": "chosen", "rejected": "rejected", "score_a": "chosen_rating"}
    assert "question as prompt" in found.why
    assert "kept as meta: topic" in found.why


def test_columns_and_shape_can_be_given(tmp_path: Path) -> None:
    file = write(tmp_path / "f.jsonl", [{"ask": "q", "good": "x", "bad": "y", "prompt": "not this"}])
    names = {"prompt": "ask", "chosen": "good", "rejected": "bad"}
    row = plain(auto(file, columns=names, source="mine"))["pairs"][0]
    assert (row["prompt"], row["response_a"], row["response_b"], row["source"]) == ("q", "x", "y", "mine")
    assert row["meta"] == {"prompt": "not this"}
    assert plain(jsonl(file, shape="prompts"))["prompts"][0]["prompt"] == "not this"
    with pytest.raises(UnknownName, match=r"unknown field 'promt' in columns=. Did you mean 'prompt'"):
        list(jsonl(file, columns={"promt": "ask"}))
    with pytest.raises(UnknownName, match=r"unknown column 'aks' .*Did you mean 'ask'"):
        list(jsonl(file, columns={"prompt": "aks"}))
    with pytest.raises(UnknownName, match=r"unknown shape 'preferences'. Did you mean 'preference'"):
        list(jsonl(file, shape="preferences"))


def test_an_unknown_shape_names_its_columns_and_the_nearest_shape(tmp_path: Path) -> None:
    file = write(tmp_path / "f.jsonl", [{"prompt_text": "q", "chosen": "x"}])
    with pytest.raises(PrefdataError, match=r"columns prompt_text, chosen, .*nearest shape hh .* lacks: rejected.*columns=") as caught:
        list(jsonl(file))
    assert "\n" not in str(caught.value)
    with pytest.raises(PrefdataError, match=r"do not make the shape 'pairs'.*lacks: prompt, response_a, response_b"):
        list(jsonl(file, shape="pairs"))
    with pytest.raises(PrefdataError, match="make none of the known shapes"):
        list(jsonl(write(tmp_path / "g.jsonl", [{"x": 1}])))


def test_rows_without_prompt_can_be_given_one(tmp_path: Path) -> None:
    file = write(tmp_path / "f.jsonl", [{"prompt": None, "response_a": "x", "response_b": "y", "label": "a"}])
    assert "no_prompt=" in plain(jsonl(file))["rejects"][0]["reason"]
    assert plain(jsonl(file, no_prompt=""))["pairs"][0]["prompt"] == ""
    texts = write(tmp_path / "g.jsonl", [{"chosen": "A b", "rejected": "A c"}])
    assert plain(jsonl(texts, no_prompt="Say."))["pairs"][0]["response_a"] == "A b"


def test_optional_columns_may_turn_up_late(tmp_path: Path) -> None:
    rows = [{"prompt": f"p{n}", "chosen": "x", "rejected": "y"} for n in range(300)]
    rows[250] |= {"score_chosen": 9, "topic": "late"}
    found = plain(jsonl(write(tmp_path / "f.jsonl", rows)))["pairs"]
    assert len(found) == 300
    assert (found[250]["score_a"], found[250]["meta"]) == (9.0, {"topic": "late"})


def test_a_messages_column_that_repeats_chosen_is_not_kept_twice(tmp_path: Path) -> None:
    said = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "x"}]
    other = [said[0], {"role": "assistant", "content": "y"}]
    rows = [{"prompt": "q", "chosen": said, "rejected": other, "messages": said}]
    assert "meta" not in plain(jsonl(write(tmp_path / "f.jsonl", rows)))["pairs"][0]
    rows[0]["messages"] = other
    assert plain(jsonl(write(tmp_path / "f.jsonl", rows)))["pairs"][0]["meta"] == {"messages": other}


def test_a_folder_goes_in_by_what_its_files_hold(tmp_path: Path) -> None:
    write(tmp_path / "a_votes.jsonl", [{"item_id": "1", "annotator_id": "w", "label": "a"}])
    write(tmp_path / "b_pairs.jsonl", [{"item_id": "1", "prompt": "p", "response_a": "x", "response_b": "y"}])
    write(tmp_path / "b.rejects.jsonl", [{"line": 1}])
    (tmp_path / "notes.txt").write_text("not data")
    assert [Path(found.file).name for found in detect_all(tmp_path)] == ["a_votes.jsonl", "b_pairs.jsonl"]
    counts = ingest(Store(tmp_path / "s.duckdb"), auto(tmp_path))
    assert (counts.stored, counts.rejects) == (2, [])


def test_samples_go_in_and_votes_find_their_candidates(tmp_path: Path) -> None:
    samples = Path(__file__).parents[2] / "sample_data"
    store = Store(tmp_path / "s.duckdb")
    first = ingest(store, auto(samples / "candidates.jsonl"))
    votes = ingest(store, auto(samples / "votes.jsonl"))
    assert (first.rejects, votes.rejects) == ([], [])
    assert store.value("SELECT count(*) FROM prompts WHERE meta->>'category' IS NULL") == 0
    assert store.value("SELECT count(*) FROM annotations WHERE choice IN ('a', 'b') AND (strength > 0) <> (choice = 'a')") == 0
    again = ingest(store, auto(samples / "votes.jsonl"))
    assert (again.stored, sum(again.added.values())) == (0, 0)


def test_the_shelf_can_be_listed_without_importing_it() -> None:
    methods = catalogue.shelf_methods("sources")
    assert set(methods) == {"auto", "csv", "hub", "jsonl", "parquet"}
    for method in methods.values():
        assert method.handed == ("path",)
        assert all(param.doc for param in method.params.values()), method.name
        assert method.bind({})["shape"] == "auto"


def _talk(prompt: str, reply: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": reply}]


def _candidate(text: str, rating: str, why: str, seed: int) -> list[Any]:
    return [{"text": text, "model": "m", "score": seed, "annotations": {"honesty": {"Rating": rating, "Rationale": why}}, "seed": seed}]


NUMBERS = {"score_a", "score_b", "margin", "seconds", "sample", "score", *ATTRIBUTES}
TWO: dict[str, tuple[Any, Any]] = {
    # column: two values it may have
    "label": ("a", "b"), "winner": ("a", "tie"), "strength": (0.5, 0.75), "order": ("ab", "ba"), "preference_strength": (-1, 2),
    "extra": ({"own": 1}, {"own": 2}), "scores": ({"clarity": 1}, {"clarity": 2}), "messages": (_talk("p", "x"), _talk("p", "y")),
    "conversation_a": (_talk("p", "x"), _talk("p", "z")), "conversation_b": (_talk("p", "y"), _talk("p", "z")),
    "accept": ("2024-01-01 00:00:00", "2024-01-01 00:00:07"), "submit": ("2024-01-01 00:01:00", "2024-01-01 00:01:01"),
    "responses": (_candidate("x", "1", "w", 1), _candidate("x", "1", "v", 1)), "nested": ({"deep": ["1"]}, {"deep": ["2"]}),
}  # fmt: skip
SIDES: dict[str, dict[str, tuple[Any, Any]]] = {
    "hh": {side: tuple(f"\n\nHuman: p\n\nAssistant: {side} {n}" for n in (1, 2)) for side in ("chosen", "rejected")},  # type: ignore[misc]
    "implicit": {side: (f"p: {side} 1", f"p: {side} 2") for side in ("chosen", "rejected")},
    "unpaired": {"label": (True, False)},
}


@pytest.mark.parametrize("name", SHAPES)
def test_no_column_is_lost(name: str, tmp_path: Path) -> None:
    """Change any one column of a row that has them all, also those nobody knows, and what is stored changes."""
    fields = {**SHAPES[name].needs, **SHAPES[name].may}
    columns = {allowed[0]: field for field, allowed in reversed(fields.items())} | {"unknown": "unknown", "nested": "nested"}
    two = {
        column: SIDES.get(name, {}).get(column) or TWO.get(column) or ((3, 4) if field in NUMBERS else (f"{column} 1", f"{column} 2"))
        for column, field in columns.items()
    }
    row = {column: values[0] for column, values in two.items()}

    def stored(row: dict[str, Any]) -> dict[str, Any]:
        found = plain(jsonl(write(tmp_path / "f.jsonl", [row]), shape=name))
        assert "rejects" not in found, found
        return found

    base = stored(row)
    for column, values in two.items():
        assert stored({**row, column: values[1]}) != base, column


def test_no_part_of_a_candidate_is_lost(tmp_path: Path) -> None:
    def stored(*parts: Any) -> dict[str, Any]:
        return plain(jsonl(write(tmp_path / "f.jsonl", [{"prompt": "p", "responses": _candidate(*parts)}])))

    base = stored("x", "1", "w", 1)
    assert all(stored(*parts) != base for parts in (("y", "1", "w", 1), ("x", "2", "w", 1), ("x", "1", "v", 1), ("x", "1", "w", 2)))
