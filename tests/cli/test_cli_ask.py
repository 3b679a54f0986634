"""Asking the store: status, why, sql, audit, snapshot, doctor."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_tools import call, pairs, process, refused, write

from prefdata.cli import doctor


def test_status_counts_and_tells_the_funnel(filled: Path) -> None:
    """12 pairs: one tie, one whose responses differ too much in length, one export of the other ten."""
    found = call("status", "--json").json
    assert {name: found["tables"][name] for name in ("prompts", "responses", "pairs", "annotations", "labels")} == {
        "prompts": 12, "responses": 24, "pairs": 12, "annotations": 12, "labels": 12,
    }  # fmt: skip
    assert [(step["filter"], step["met"], step["kept"], step["dropped"]) for step in found["funnel"]] == [
        ("no_ties", 12, 11, {"tie": 1}),
        ("where", 11, 10, {"far_apart": 1}),
    ]
    assert found["annotators"][0] | {"kind": "human", "judgements": 12, "tie": 1} == found["annotators"][0]
    assert sum(found["exports"][0][split] for split in ("train", "validation", "test")) == found["funnel"][1]["kept"]
    said = call("status").out
    for words in ("sources", "who judged", "labels (newest first)", "last runs", "prefdata run recipe.yaml", "out/dpo", "far_apart"):
        assert words in said


def test_status_of_an_empty_store_names_the_first_step(here: Path) -> None:
    (here / "r.yaml").write_text("steps:\n  - aggregate: {majority: {}}\n")
    assert call("run", "r.yaml").code == 0
    assert call("status").last == "next: prefdata import FILE"


def test_why_tells_the_whole_story(filled: Path, one_id: Callable[[str], str]) -> None:
    out = call("why", one_id("item/1")[:8]).out
    for words in (
        "question 1?", "response a", "response b", "pairs.jsonl, line 2, item item/1", "ann (human)", "aggregate/majority@1#",
        "length_margin", "characters", "kept by filters/no_ties", "dropped as far_apart by filters/where", "length_ratio < 3",
        "in no export",
    ):  # fmt: skip
        assert words in out
    kept = call("why", "toys:item/5").out
    assert "kept by filters/where" in kept
    assert "in the dpo export out/dpo, split t" in kept
    tie = call("why", "item/2").out
    assert "dropped as tie by filters/no_ties" in tie


def test_why_cuts_long_texts_unless_asked(here: Path) -> None:
    rows = pairs(1)
    rows[0]["response_a"] = "x" * 5000
    write(here / "p.jsonl", rows)
    call("import", "p.jsonl")
    assert "x" * 5000 not in call("why", "toys:item/0").out.replace("\n", "")
    assert "x" * 5000 in call("why", "toys:item/0", "--full").out


def test_why_finds_an_id_with_and_without_dashes_and_by_its_start(filled: Path, one_id: Callable[[str], str]) -> None:
    whole = one_id("item/4")
    for name in (whole, whole.replace("-", ""), whole[:12], whole[:10].upper(), "toys:item/4"):
        assert call("why", name, "--json").json["pair"]["id"] == whole


def test_why_says_which_pairs_a_name_fits(here: Path) -> None:
    answers = [{"source": "s", "item_id": "1", "prompt": "q", "responses": [{"model": m, "text": f"by {m}"} for m in "xyz"]}]
    write(here / "a.jsonl", answers)
    (here / "r.yaml").write_text("steps:\n  - pairing: {all_pairs: {}}\n")
    call("import", "a.jsonl")
    call("run", "r.yaml")
    ids = sorted(row["id"] for row in call("sql", "SELECT id FROM pairs", "--json").json)
    said = refused("why", "s:1")
    assert "fits 3 pairs" in said
    assert all(i in said for i in ids)
    assert "at least four" in refused("why", "ab")
    assert "no pair is called" in refused("why", "ffffffffffff")


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("DELETE FROM pairs", "not one reading statement"),
        ("WITH x AS (SELECT 1) INSERT INTO queue SELECT NULL", "not one reading statement"),
        ("COPY pairs TO 'stolen.csv'", "not one reading statement"),
        ("ATTACH 'other.duckdb'", "not one reading statement"),
        ("SET enable_external_access=true", "not one reading statement"),
        ("INSTALL httpfs", "not one reading statement"),
        ("SELECT 1; SELECT 2", "not one reading statement"),
        ("", "not one reading statement"),
        ("SELECT * FROM read_csv('pairs.jsonl')", "no other file"),
        ("SELECT * FROM read_text('/etc/passwd')", "no other file"),
        ("SELECT * FROM glob('/*')", "no other file"),
        ("EXPLAIN ANALYZE COPY pairs TO 'stolen.csv'", "no other file"),
        ("SELECT * FROM screen", "unknown table 'screen'"),
        ("SELECT * FROM pair", "Did you mean 'pairs'?"),
        ("SELECT txt FROM responses", "Did you mean 'text'?"),
        ("SELECT r.txt FROM responses r", "Did you mean 'text'?"),
        ("SELEC 1", "syntax error"),
        ("SELECT CAST('x' AS INTEGER)", "Could not convert"),
    ],
)  # fmt: skip
def test_sql_only_reads_and_only_the_store(filled: Path, query: str, words: str) -> None:
    before = call("status", "--json").json["tables"]
    assert words in refused("sql", query)
    assert call("status", "--json").json["tables"] == before
    assert not (filled / "stolen.csv").exists()


@pytest.mark.parametrize(
    "query",
    ["SHOW TABLES", "DESCRIBE pairs", "SUMMARIZE pairs", "EXPLAIN SELECT 1", "FROM pairs", "WITH x AS (SELECT 1) FROM x", "VALUES (1)"],
)
def test_sql_that_reads(filled: Path, query: str) -> None:
    assert call("sql", query).code == 0


def test_sql_shows_a_part_and_says_so(filled: Path) -> None:
    got = call("sql", "SELECT range AS n FROM range(60)")
    assert "49" in got.out
    assert "\n50" not in got.out
    assert "the first 50 rows" in got.err
    assert len(call("sql", "SELECT range AS n FROM range(60)", "--json").json) == 60
    assert len(call("sql", "SELECT range AS n FROM range(60)", "--csv").out.splitlines()) == 61
    assert "first 50" not in call("sql", "SELECT range AS n FROM range(50)").err


def test_sql_values_of_every_kind_have_json(filled: Path) -> None:
    query = """SELECT 'nan'::DOUBLE AS nan, [1, 2] AS list, {'a': 1} AS struct, 12345678901234567890::HUGEINT AS huge,
        1.50::DECIMAL(5, 2) AS dec,
        TIMESTAMPTZ '2026-01-02 03:04:05+00' AS zoned, DATE '2026-01-02' AS day, 'a'::BLOB AS blob, NULL AS none, 1 AS x, 2 AS x -- twice
    ;"""
    (row,) = call("sql", query, "--json").json
    assert row["zoned"].startswith("2026-01-02")
    assert {k: row[k] for k in ("nan", "list", "struct", "huge", "dec", "day", "none")} == {
        "nan": None, "list": [1, 2], "struct": {"a": 1}, "huge": 12345678901234567890, "dec": "1.50", "day": "2026-01-02", "none": None,
    }  # fmt: skip
    assert sorted(v for k, v in row.items() if k.startswith("x")) == [1, 2]


def test_sql_from_stdin(filled: Path) -> None:
    from typer.testing import CliRunner

    from prefdata.cli.main import app

    assert CliRunner().invoke(app, ["sql", "-", "--csv"], input="SELECT 7 AS n\n").stdout == "n\n7\n"


def test_audit_of_a_file_leaves_no_store_behind(here: Path) -> None:
    write(here / "p.jsonl", pairs(5))
    got = call("audit", "p.jsonl")
    assert got.code == 0
    assert "sources" in got.out
    assert got.last == "next: prefdata import p.jsonl"
    assert sorted(p.name for p in here.iterdir()) == ["p.jsonl"]


def test_audit_of_a_store_is_that_of_its_file(filled: Path) -> None:
    of_store = call("audit", "prefdata.duckdb", "--json").json["audits"]["summary"]
    of_file = call("audit", "pairs.jsonl", "--json").json["audits"]["summary"]
    assert of_store["lengths"] == of_file["lengths"]
    assert call("audit", "prefdata.duckdb").last == "next: prefdata status"


def test_audit_says_what_it_could_not_read(here: Path) -> None:
    write(here / "p.jsonl", [{"prompt": 1, "chosen": "a", "rejected": "b"}])
    assert "line 1" in refused("audit", "p.jsonl")
    write(here / "q.jsonl", [{"prompt": 1, "chosen": "a", "rejected": "b"}, {"prompt": "x", "chosen": "a", "rejected": "b"}])
    assert "1 of 2 rows were refused" in call("audit", "q.jsonl").err
    assert "unknown method 'sumary' on the shelf audits. Did you mean 'summary'?" in refused("audit", "q.jsonl", "--of", "sumary")


def test_snapshot_is_a_store_and_is_never_overwritten(filled: Path) -> None:
    assert call("snapshot", "copy.duckdb").code == 0
    assert call("status", "--store", "copy.duckdb", "--json").json["tables"] == call("status", "--json").json["tables"]
    assert "exists already" in refused("snapshot", "copy.duckdb")
    assert "no store" in refused("snapshot", "x.duckdb", "--store", "nowhere.duckdb")


def test_doctor_finds_nothing_wrong_here(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "sk-very-secret")
    got = call("doctor", "--json")
    checks = {check["what"]: check for check in got.json["checks"]}
    assert got.code == 0
    assert checks["store"]["state"] == checks["lock"]["state"] == "ok"
    assert "SOME_API_KEY" in checks["keys"]["text"]
    assert "sk-very-secret" not in got.out + call("doctor").out


def test_doctor_reports_a_broken_store_and_exits_with_1(here: Path) -> None:
    (here / "prefdata.duckdb").write_text("not a store at all, whatever its name is" * 100)
    got = call("doctor")
    assert got.code == 1
    assert "bad   store" in got.out


def test_doctor_without_a_store_has_no_complaint(here: Path) -> None:
    assert call("doctor").code == 0


def test_doctor_knows_network_file_systems_and_duckdb_versions() -> None:
    mounts = "/dev/vda / ext4 rw 0 0\nserver:/x /data nfs4 rw 0 0\nnone /data/my\\040disk fuse.sshfs rw 0 0\n"
    assert doctor.file_system(Path("/home/me"), mounts) == ("ext4", "/")
    assert doctor.file_system(Path("/data/set"), mounts) == ("nfs4", "/data")
    assert doctor.file_system(Path("/database"), mounts) == ("ext4", "/")
    assert doctor.file_system(Path("/data/my disk/x"), mounts) == ("fuse.sshfs", "/data/my disk")
    assert {"nfs4", "fuse.sshfs", "cifs", "9p"} <= set(doctor.NETWORK)
    assert doctor.duckdb_advice("1.5.5").state == "ok"
    assert "loses" in doctor.duckdb_advice("2.0.0").text
    assert "1.5.5" in doctor.duckdb_advice("1.4.0").text


def test_a_store_that_many_read_serves_them_all(filled: Path) -> None:
    import subprocess

    from cli_tools import command, environment

    children = [subprocess.Popen(command("status", "--json"), cwd=filled, env=environment(), stdout=subprocess.DEVNULL) for _ in range(4)]
    assert [child.wait(60) for child in children] == [0, 0, 0, 0]
    shutil.rmtree(filled / "out")
    assert "in the dpo export out/dpo" in process("why", "toys:item/5", cwd=filled).stdout


def test_who_waits_for_a_busy_store_is_told_for_whom(filled: Path) -> None:
    import os
    import select
    import subprocess

    from cli_tools import command, environment

    from prefdata.core import lock

    with lock.hold(filled / "prefdata.duckdb", exclusive=True):
        child = subprocess.Popen(
            command("status", "--json"), cwd=filled, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert child.stderr
        ready, _, _ = select.select([child.stderr], [], [], 60)  # the sentence comes while the store is still busy
        assert ready
        assert child.poll() is None
    out, err = child.communicate(timeout=60)
    assert child.returncode == 0
    assert out.startswith("{")
    assert err.startswith(f"waiting for process {os.getpid()} (")
