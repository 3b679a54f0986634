"""Bad input gets one sentence with the value, what is allowed and the next move; exit code 2; nothing is lost."""

from __future__ import annotations

import json
import os
import resource
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
from cli_tools import call, command, environment, pairs, process, refused, write

STEP = "steps:\n  - {}\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (STEP.format("signal: {lenght: {}}"), "Did you mean 'length'?"),
        (STEP.format("singal: {length: {}}"), "Did you mean 'signal'?"),
        (STEP.format("filter: {where: {kep: 'true'}}"), "Did you mean 'keep'?"),
        (STEP.format("filter: {where: {}}"), "needs a value for 'keep'"),
        (STEP.format("filter: {where: {keep: 3}}"), "filters/where: keep is 3"),
        (STEP.format("filter: {where: {keep: 'margn > 0.2'}}"), "Did you mean 'margin'?"),
        (STEP.format("filter: {where: {keep: 'lenght_ratio < 2'}}"), "Did you mean 'length_ratio'?"),
        (STEP.format("filter: {where: {keep: 'margin >'}}"), "is not SQL"),
        (STEP.format("filter: {where: {keep: '(SELECT true)'}}"), "subquery"),
        (STEP.format("""filter: {where: {keep: "read_text('/etc/passwd') = ''"}}"""), "reaches outside"),
        (STEP.format("export: {dpo: {out: x, tset: 0.1}}"), "Did you mean 'test'?"),
        (STEP.format("judge: {rules: {ask: gpt}}"), "unknown parameter 'ask'"),
        ("step: []\n", "Did you mean 'steps'?"),
        ("steps: nothing\n", "steps is 'nothing'"),
        ("- a\n- b\n", "holds a list"),
        ("", "holds nothing"),
        ("steps: [\n", "is not YAML"),
        ("\tsteps: x", "is not YAML"),
        ("just words", "holds a str"),
    ],
)
def test_a_recipe_that_is_wrong(filled: Path, text: str, words: str) -> None:
    (filled / "wrong.yaml").write_text(text)
    before = call("sql", "SELECT count(*) FROM decisions", "--json").json
    assert words in refused("run", "wrong.yaml")
    assert call("sql", "SELECT count(*) FROM decisions", "--json").json == before


def test_a_recipe_that_is_no_text(here: Path) -> None:
    (here / "wrong.yaml").write_bytes(b"\xff\xfe\x00s")
    assert "'wrong.yaml' cannot be read" in refused("run", "wrong.yaml")
    (here / "folder.yaml").mkdir()
    assert "'folder.yaml' cannot be read" in refused("run", "folder.yaml")


def sqlite_file(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE theirs (a)")


def foreign_duckdb(path: Path) -> None:
    with duckdb.connect(str(path)) as db:
        db.execute("CREATE TABLE theirs (a INTEGER)")


def text_file(path: Path) -> None:
    path.write_text("somebody's notes\n" * 500)


def short_file(path: Path) -> None:
    path.write_text("hi")


@pytest.mark.parametrize("make", [sqlite_file, foreign_duckdb, text_file, short_file])
@pytest.mark.parametrize(
    "args", [["status"], ["import", "p.jsonl"], ["run", "r.yaml"], ["sql", "SELECT 1"], ["snapshot", "x.duckdb"]], ids=lambda a: a[0]
)
def test_a_store_that_is_not_ours_is_left_alone(here: Path, make: Callable[[Path], None], args: list[str]) -> None:
    write(here / "p.jsonl", pairs(1))
    (here / "r.yaml").write_text(STEP.format("aggregate: {majority: {}}"))
    theirs = here / "theirs.db"
    make(theirs)
    before = theirs.read_bytes()
    said = refused(*args, "--store", "theirs.db")
    assert "'theirs.db' is" in said
    assert "--store FILE" in said
    assert theirs.read_bytes() == before


@pytest.mark.parametrize(
    "args", [["status"], ["import", "pairs.jsonl"], ["run", "recipe.yaml"], ["why", "abcd"], ["label"]], ids=lambda a: a[0]
)
def test_a_store_from_a_newer_version(filled: Path, args: list[str]) -> None:
    with duckdb.connect("prefdata.duckdb") as db:
        db.execute("UPDATE prefdata_migrations SET number = number + 1000")
    said = refused(*args)
    assert "newer prefdata" in said
    assert "pip install -U prefdata" in said


def test_a_store_that_is_a_folder_or_in_none(here: Path) -> None:
    write(here / "p.jsonl", pairs(1))
    assert "is a folder" in refused("import", "p.jsonl", "--store", ".")
    assert "'nowhere' does not exist" in refused("import", "p.jsonl", "--store", "nowhere/x.duckdb")
    assert not (here / "nowhere").exists()


def limited(*args: object, cwd: Path, limit: int) -> subprocess.CompletedProcess[str]:
    """The command where no file may grow beyond `limit` bytes: what a full disk looks like to a process."""
    set_limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))  # noqa: E731
    return subprocess.run(command(*args), cwd=cwd, env=environment(), capture_output=True, text=True, timeout=60, preexec_fn=set_limit)


def large(path: Path, count: int = 3000) -> Path:
    rows = [{"prompt": f"p{n}", "chosen": os.urandom(600).hex(), "rejected": "b"} for n in range(count)]
    return write(path, rows)


@pytest.mark.parametrize("limit", [100_000, 4_500_000])
def test_a_full_disk_while_importing(filled: Path, limit: int) -> None:
    large(filled / "large.jsonl")
    before = call("status", "--json").json["tables"]
    got = limited("import", "large.jsonl", cwd=filled, limit=limit)
    assert got.returncode == 2, got.stderr
    assert "Traceback" not in got.stderr
    assert "no space left to write 'prefdata.duckdb'" in got.stderr
    assert call("status", "--json").json["tables"] == before
    assert call("import", "large.jsonl", "--json").json["files"][0]["stored"] == 3000


def test_a_full_disk_at_the_very_first_write(here: Path) -> None:
    write(here / "p.jsonl", pairs(3))
    got = limited("import", "p.jsonl", cwd=here, limit=8192)
    assert got.returncode == 2, got.stderr
    assert "no space left" in got.stderr
    assert call("import", "p.jsonl").code == 0
    assert call("status", "--json").json["tables"]["pairs"] == 3


def test_a_full_disk_while_exporting_leaves_the_old_export(here: Path) -> None:
    large(here / "large.jsonl")
    (here / "r.yaml").write_text("steps:\n  - aggregate: {majority: {}}\n  - export: {dpo: {out: out/dpo}}\n")
    call("import", "large.jsonl")
    assert call("run", "r.yaml").code == 0
    before = sorted((p.name, p.stat().st_size) for p in (here / "out/dpo").rglob("*"))
    got = limited("run", "r.yaml", "seed=1", cwd=here, limit=1_500_000)
    assert got.returncode == 2, got.stderr
    assert "cannot write the export to 'out/dpo'" in got.stderr
    assert sorted((p.name, p.stat().st_size) for p in (here / "out/dpo").rglob("*")) == before
    assert [p.name for p in (here / "out").iterdir()] == ["dpo"]


def test_a_full_disk_while_copying_the_examples(here: Path) -> None:
    got = limited("init", "demo", cwd=here, limit=1000)
    assert got.returncode == 2
    assert "File too large: 'demo" in got.stderr
    assert not list(here.rglob("*.part"))


def test_a_folder_that_cannot_be_written_to(here: Path) -> None:
    """For root every folder is writable, but for those of the kernel."""
    write(here / "p.jsonl", pairs(2))
    folder = Path("/sys") if os.geteuid() == 0 else here / "locked"
    if folder != Path("/sys"):
        folder.mkdir(mode=0o555)
    for args in (["import", "p.jsonl"], ["--store", folder / "s.duckdb", "run", "r.yaml"]):
        (here / "r.yaml").write_text(STEP.format("aggregate: {majority: {}}"))
        said = refused(*args) if args[0] == "--store" else refused(*args, "--store", folder / "s.duckdb")
        assert f"cannot write in the folder '{folder}'" in said
        assert "--store FILE" in said
    assert str(folder) in refused("init", folder / "demo")
    got = call("doctor", "--store", folder / "s.duckdb")
    assert got.code == 1
    assert "cannot be written to" in got.out


def test_a_snapshot_or_an_export_where_nothing_can_be_written(filled: Path) -> None:
    said = refused("snapshot", "/proc/copy.duckdb")
    assert "'/proc' does not exist or takes no files" in said or "no permission to write '/proc/copy.duckdb'" in said
    assert "'nowhere' does not exist" in refused("snapshot", "nowhere/copy.duckdb")
    assert "cannot write the export" in refused("export", "dpo", "--out", "/proc/nowhere/x")


@pytest.mark.parametrize("content", [b"", b"\n\n  \n"])
@pytest.mark.parametrize("name", ["empty.jsonl", "empty.csv", "empty.json"])
def test_an_empty_file(here: Path, name: str, content: bytes) -> None:
    (here / name).write_bytes(content)
    said = refused("import", name)
    assert f"'{name}'" in said
    assert not (here / "prefdata.duckdb").exists()
    (here / "empty.parquet").touch()
    assert "'empty.parquet'" in refused("import", "empty.parquet")


def test_an_empty_store_file_is_no_store_yet(here: Path) -> None:
    (here / "prefdata.duckdb").touch()
    assert "no store at 'prefdata.duckdb'" in refused("status")
    write(here / "p.jsonl", pairs(1))
    assert call("import", "p.jsonl").code == 0


def test_a_line_of_50_mb(here: Path) -> None:
    good = [json.dumps(row) for row in pairs(2)]
    (here / "p.jsonl").write_text("\n".join([good[0], "x" * 50_000_000, good[1]]) + "\n")
    got = call("import", "p.jsonl", "--json")
    assert got.code == 0
    (one,) = got.json["files"]
    assert (one["read"], one["stored"], one["refused"]) == (3, 2, 1)
    assert one["first_refused"][0]["line"] == 2
    assert len(got.out) < 5000
    assert (here / "p.jsonl.rejects.jsonl").stat().st_size < 10_000


def test_invalid_utf_8(here: Path) -> None:
    good = [json.dumps(row).encode() for row in pairs(2)]
    (here / "p.jsonl").write_bytes(b"\n".join([good[0], b'{"prompt": "\xff\xfe", "response_a": "x"}', good[1]]) + b"\n")
    got = call("import", "p.jsonl")
    assert got.code == 0
    assert "3 rows read: 2 stored, 0 known before, 1 refused" in got.out
    assert "UTF-8" in got.out
    (here / "all.jsonl").write_bytes(b"\xff\xfe\xfd\n\xff\n")
    assert refused("import", "all.jsonl")


def test_a_file_that_is_no_data(here: Path) -> None:
    (here / "picture.png").write_bytes(b"\x89PNG\r\n")
    assert "'picture.png'" in refused("import", "picture.png")
    (here / "folder").mkdir()
    assert "folder" in refused("import", "folder")


def test_exit_codes_of_the_process_itself(here: Path) -> None:
    got = process("status", cwd=here)
    assert (got.returncode, got.stdout) == (2, "")
    assert got.stderr.count("\n") == 1
    machine = process("status", "--json", cwd=here)
    assert (machine.returncode, machine.stderr) == (2, "")
    assert set(json.loads(machine.stdout)) == {"error"}
