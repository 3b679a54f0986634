"""Dirty and hostile files: what cannot be read is refused by line, the rest goes in, and nothing takes much memory."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import zstandard
from source_helpers import plain, write

from prefdata.core.errors import BadValue, PrefdataError
from prefdata.core.ingest import ingest
from prefdata.core.reading import detect
from prefdata.core.reading.chat import chat
from prefdata.core.reading.columnar import csv_chunks, parquet_chunks
from prefdata.core.reading.meta import meta_json
from prefdata.core.reading.text import MAX_LINE, json_chunks
from prefdata.core.store import Store
from prefdata.sources.auto import auto
from prefdata.sources.csv import csv
from prefdata.sources.jsonl import jsonl
from prefdata.sources.parquet import parquet

GOOD = '{"prompt": "p", "chosen": "x", "rejected": "y"}'


def refusals(path: Path) -> list[tuple[int, str, str]]:
    return [(r["line"], r["field"], r["reason"]) for r in plain(auto(path)).get("rejects", [])]


@pytest.mark.parametrize(
    ("line", "field", "reason"),
    [
        ('{"prompt": "p", "chosen": "x", "rejected": "y"', "", "is not readable JSON at column 47: Expecting ',' delimiter"),
        ('{"prompt": "p", "chosen": "x', "", "is not readable JSON at column 27: Unterminated string starting at"),
        ('["p", "x", "y"]', "", "is a list, not a JSON object"),
        ("null", "", "is null, not a JSON object"),
        ("[" * 100_000, "", "is not readable JSON: maximum recursion depth exceeded"),
        ('{"prompt": "p", "chosen": 1' + "0" * 5000 + "}", "", "is not readable JSON: Exceeds the limit"),
        ('{"prompt": "p", "chosen": "\\ud800", "rejected": "y"}', "chosen", "holds a lone surrogate"),
        ('{"prompt": "p", "chosen": "x", "rejected": "y", "more": {"k": ["\\uDFFF"]}}', "more", "holds a lone surrogate"),
        ('{"prompt": "p", "chosen": {"text": "x"}, "rejected": "y"}', "chosen", "is an object, not text or a list of messages"),
        ('{"prompt": "p", "chosen": "x", "rejected": "y", "more": Infinity}', "more", "holds an infinite number"),
        ('{"prompt": "p", "chosen": "x", "rejected": "y", "score_chosen": -Infinity}', "score_chosen", "is infinite"),
        ('{"prompt": "p", "chosen": "x", "rejected": "y", "score_chosen": true}', "score_chosen", "is true, not a number"),
        ('{"prompt": "p", "chosen": "x", "rejected": "y", "id": [1]}', "id", "is a list, not a word"),
        ('{"prompt": [{"role": "user"}], "chosen": "x", "rejected": "y"}', "prompt", "has null as content of message 1, not text"),
        ('{"prompt": [7], "chosen": "x", "rejected": "y"}', "prompt", "has the number 7 as message 1"),
    ],
)
def test_a_bad_line_is_refused_and_the_others_go_in(line: str, field: str, reason: str, tmp_path: Path) -> None:
    file = write(tmp_path / "f.jsonl", [GOOD, "", line, GOOD])
    found = plain(jsonl(file))
    assert [row["line"] for row in found["pairs"]] == [1, 4]
    (refused,) = found["rejects"]
    assert (refused["line"], refused["field"]) == (3, field)
    assert refused["reason"].startswith(reason)


def test_endless_nesting_refuses_its_row() -> None:
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    unwritable: dict[int, str] = {}
    assert meta_json({"more": [1, deep]}, unwritable=unwritable).to_list() == ['{"more":1}', None]
    assert unwritable == {1: "more"}
    assert chat([[{"role": "user", "content": "p", "tool": deep}]], "prompt").wrong == {0: "is nested too deeply"}


def test_what_looks_odd_and_is_fine(tmp_path: Path) -> None:
    """Emoji as surrogate pairs, a byte order mark, Windows line ends, NaN as no score, NUL and other control characters."""
    odd = '{"prompt": "\\ud83d\\ude00", "chosen": "a\\u0000b\\u001f", "rejected": "\u2028", "score_chosen": NaN, "more": NaN}'
    file = tmp_path / "f.jsonl"
    file.write_bytes(b"\xef\xbb\xbf" + f"{GOOD}\r\n  \r\n{odd}".encode())
    store = Store(tmp_path / "s.duckdb")
    counts = ingest(store, jsonl(file))
    assert (counts.stored, counts.rejects) == (2, [])
    assert {row[0] for row in store.rows("SELECT text FROM responses")} == {"x", "y", "a\x00b\x1f", "\u2028"}
    assert store.rows("SELECT count(score_a), count(*) FROM annotations") == [(0, 2)]


def test_invalid_utf8_is_refused_with_its_byte(tmp_path: Path) -> None:
    file = tmp_path / "f.jsonl"
    file.write_bytes(GOOD.encode() + b'\n{"prompt": "\xff", "chosen": "x", "rejected": "y"}\n')
    assert refusals(file) == [(2, "", "is not valid UTF-8 at byte 13")]


def test_a_line_over_the_limit_is_skipped_in_small_steps(tmp_path: Path) -> None:
    file = tmp_path / "f.jsonl"
    with file.open("w", encoding="utf-8") as out:
        out.write(GOOD + "\n" + '{"prompt": "')
        for _ in range(120):
            out.write("x" * 2**20)
        out.write('"}\n' + GOOD)
    tracemalloc.start()
    found = plain(jsonl(file))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [row["line"] for row in found["pairs"]] == [1, 3]
    assert found["rejects"][0]["reason"].startswith("is 125,829,135 bytes long; the longest line that is read has 52,428,800")
    assert peak < 2.5 * MAX_LINE


def test_packed_files_read_as_plain_ones(tmp_path: Path) -> None:
    text = "\n".join([GOOD] * 3).encode()
    (tmp_path / "f.jsonl.gz").write_bytes(gzip.compress(text[:50]) + gzip.compress(text[50:]))
    (tmp_path / "f.jsonl.zst").write_bytes(zstandard.compress(text[:50]) + zstandard.compress(text[50:]))
    (tmp_path / "f.ndjson").write_bytes(text)
    (tmp_path / "f.csv.gz").write_bytes(gzip.compress(b"prompt,chosen,rejected\np,x,y\np,x,y\np,x,y"))
    for name in ("f.jsonl.gz", "f.jsonl.zst", "f.ndjson", "f.csv.gz"):
        assert len(plain(auto(tmp_path / name))["pairs"]) == 3, name


def test_a_packed_file_that_breaks_off_says_where(tmp_path: Path) -> None:
    rows = [json.dumps({"prompt": f"p{n}", "chosen": "x" * (n % 17), "rejected": f"y{n * n}"}) for n in range(5000)]
    for ending, packed in (("gz", gzip.compress("\n".join(rows).encode())), ("zst", zstandard.compress("\n".join(rows).encode()))):
        file = tmp_path / f"f.jsonl.{ending}"
        file.write_bytes(packed[: len(packed) // 2])
        found = plain(auto(file))
        last = found["rejects"][-1]
        assert 0 < len(found["pairs"]) < 5000
        assert last["line"] == max(row["line"] for row in [*found["pairs"], *found["rejects"][:-1]]) + 1
        assert "breaks off here" in last["reason"]
        assert "nothing after this was read" in last["reason"]
    (tmp_path / "g.jsonl.gz").write_bytes(b"no gzip")
    with pytest.raises(PrefdataError, match=r"cannot be unpacked .*check that the file is whole"):
        list(auto(tmp_path / "g.jsonl.gz"))


def test_json_arrays_values_and_lines(tmp_path: Path) -> None:
    row = {"prompt": 'a "b" [c] {d}', "chosen": "x\n", "rejected": "y"}
    file = tmp_path / "f.json"
    one = json.dumps(row)
    for text in (json.dumps([row, row]), json.dumps([row, row], indent=2), f"{one}\n{one}", json.dumps(row, indent=1) * 2):
        file.write_text(text)
        found = plain(auto(file))
        assert [(one["line"], one["prompt"]) for one in found["pairs"]] == [(1, row["prompt"]), (2, row["prompt"])]
    file.write_text(json.dumps([row, 5, row])[:-1])
    cut = "is missing: the array is never closed, so the file may be cut off"
    assert refusals(file) == [(2, "", "is the number 5, not a JSON object"), (4, "", cut)]
    file.write_text(json.dumps([row, row])[:-9])
    assert [line for line, _, reason in refusals(file) if "nothing after this was read" in reason] == [2]
    file.write_bytes(json.dumps([row, row]).encode().replace(b"[c]", b"[\xff]", 1))
    assert refusals(file) == [(1, "prompt", "holds a lone surrogate or invalid UTF-8, which cannot be stored as text")]


def test_json_arrays_are_read_piece_by_piece(tmp_path: Path) -> None:
    row = {"prompt": "p" * 700, "chosen": "x" * 700, "rejected": "y" * 600}
    file = tmp_path / "f.json"
    file.write_text("[" + ",".join([json.dumps(row)] * 20_000) + "]")
    tracemalloc.start()
    assert sum(chunk.height for chunk in json_chunks(file, look=True)) == 20_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < file.stat().st_size / 3


def test_csv_records(tmp_path: Path) -> None:
    file = tmp_path / "f.csv"
    file.write_bytes(
        b'\xef\xbb\xbfprompt,chosen,rejected\r\n"two\r\nlines","say ""x""",\r\np,x\r\n\r\n'
        b'p,\xff,y\r\n"p",",",";"\r\n,x,y\r\n"p,x,y\r\nnever closed\r\n'
    )
    found = plain(csv(file))
    assert [(row["line"], row["prompt"], row["response_a"], row["response_b"]) for row in found["pairs"]] == [
        (2, "two\r\nlines", 'say "x"', ""),
        (7, "p", ",", ";"),
    ]
    assert [(r["line"], r["field"]) for r in found["rejects"]] == [(4, ""), (6, ""), (9, ""), (8, "prompt")]
    assert found["rejects"][0]["reason"] == "has 2 fields where the header has 3"
    assert found["rejects"][1]["reason"] == "is not valid UTF-8 at byte 3"
    assert "a quote may never have been closed" in found["rejects"][2]["reason"]


def test_csv_delimiters(tmp_path: Path) -> None:
    file = tmp_path / "f.csv"
    for separator, name in ((";", "semicolon"), ("|", "pipe"), ("\t", "tab"), ("^", "^")):
        file.write_text("prompt,chosen,rejected\np,x,y\n".replace(",", separator))
        assert len(plain(csv(file, delimiter=name))["pairs"]) == 1
        if name != "^":
            assert len(plain(csv(file))["pairs"]) == 1
    with pytest.raises(BadValue, match="delimiter is 'dot'; allowed: auto, comma, semicolon, tab, pipe or one character"):
        list(csv(file, delimiter="dot"))
    file.write_text("prompt,chosen,chosen\np,x,y\n")
    with pytest.raises(PrefdataError, match="names a column twice"):
        list(csv(file))


def test_long_csv_lines_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "f.csv"
    file.write_text(f"prompt,chosen,rejected\np,{'x' * 500},y\np,x,y\n")
    (chunk,) = csv_chunks(file, limit=300)
    assert (chunk.height, chunk.rejects[0].line) == (1, 2)
    assert chunk.rejects[0].reason.startswith("is 505 bytes long")


def test_parquet_types(tmp_path: Path) -> None:
    """Categories are words, numbers in a text column's place are refused, large row groups come in pieces."""
    file = tmp_path / "f.parquet"
    frame = pl.DataFrame({"prompt": ["p", "p", None], "chosen": ["x", "y", "z"], "rejected": ["a", "b", "c"]})
    frame = frame.with_columns(when=pl.lit("2024-01-01"), blob=pl.lit(b"\x00"))
    frame.with_columns(pl.col("chosen").cast(pl.Categorical), pl.col("when").str.to_date()).write_parquet(file)
    found = plain(parquet(file))
    when = {"when": "2024-01-01"}
    assert [(row["line"], row["response_a"], row["meta"]) for row in found["pairs"]] == [(1, "x", when), (2, "y", when)]
    assert (found["rejects"][0]["line"], found["rejects"][0]["field"]) == (3, "prompt")
    frame.with_columns(chosen=pl.Series([1, 2, None])).write_parquet(file)
    assert [(r["line"], r["reason"]) for r in plain(parquet(file))["rejects"]][:2] == [
        (1, "is the number 1, not text or a list of messages"),
        (2, "is the number 2, not text or a list of messages"),
    ]
    file.write_bytes(b"PAR1 not really")
    with pytest.raises(PrefdataError, match="cannot be read as Parquet"):
        list(parquet(file))


def test_parquet_frames_stay_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = 3000
    frame = pl.DataFrame({"prompt": [f"p{n} " + "x" * 200 for n in range(rows)], "chosen": ["x"] * rows, "rejected": ["y"] * rows})
    file = tmp_path / "f.parquet"
    frame.write_parquet(file, row_group_size=1000)
    monkeypatch.setattr("prefdata.core.reading.columnar.CHUNK_BYTES", 50_000)
    small = [chunk.height for chunk in parquet_chunks(file)]
    assert max(small) < 1000
    monkeypatch.setattr("prefdata.core.reading.columnar._WHOLE_GROUP", 1)
    streamed = list(parquet_chunks(file))
    assert max(chunk.height for chunk in streamed) < 1000
    assert [line for chunk in streamed for line in chunk.lines] == list(range(1, rows + 1))
    assert pl.concat([chunk.frame for chunk in streamed if chunk.frame is not None]).equals(frame)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("f.jsonl", b"", "holds no rows; check that it is the right file"),
        ("f.jsonl", b"\n \n", "holds no rows"),
        ("f.json", b"[]", "holds no rows"),
        ("f.csv", b"", "holds no rows"),
        ("f.csv", b"prompt,chosen,rejected\n", "holds no rows"),
        ("f.jsonl", b"prompt,chosen\np,x\n", r"no row that can be read \(2 refused; line 1 is not readable JSON .*check that"),
        ("f.jsonl", b"\xff\xfe{\x00", "line 1 is not valid UTF-8 at byte 1"),
        ("f.txt", b"x", r"ends in '.txt'; read are .jsonl, .*Rename the file, or name its source"),
        ("f", b"x", "ends in 'nothing'"),
    ],
)
def test_files_with_nothing_in_them(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    for act in (lambda: list(auto(file)), lambda: detect(file)):
        with pytest.raises(PrefdataError, match=message) as caught:
            act()
        assert str(file) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_missing_files_offer_what_is_there(tmp_path: Path) -> None:
    write(tmp_path / "pairs.jsonl", [GOOD])
    with pytest.raises(PrefdataError, match=r"no file .*pair.jsonl'; did you mean .*pairs.jsonl"):
        list(auto(tmp_path / "pair.jsonl"))
    with pytest.raises(PrefdataError, match="not even its folder"):
        list(jsonl(tmp_path / "nowhere" / "f.jsonl"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(PrefdataError, match=r"holds no data files; read are \.jsonl"):
        list(auto(tmp_path / "empty"))
    for source in (jsonl, parquet, csv):
        with pytest.raises(PrefdataError, match="is a folder; give a file, or import the folder with the source auto"):
            list(source(tmp_path))


def test_a_file_of_refusals_only_after_its_first_row_still_counts(tmp_path: Path) -> None:
    counts = ingest(Store(tmp_path / "s.duckdb"), jsonl(write(tmp_path / "f.jsonl", ["oops", GOOD, "oops", '{"prompt": 5}'])))
    assert (counts.read, counts.stored, len(counts.rejects)) == (4, 1, 3)
