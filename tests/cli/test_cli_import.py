"""`prefdata init` and `prefdata import`."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

from cli_tools import call, pairs, process, refused, write

from prefdata.core.places import bundled


def test_init_copies_what_ships_and_overwrites_nothing(here: Path) -> None:
    got = call("init", "demo")
    assert got.code == 0
    assert (here / "demo/sample_data/votes.jsonl").read_bytes() == (bundled("sample_data") / "votes.jsonl").read_bytes()
    assert got.last.startswith("next: cd demo && prefdata ")
    mine = here / "demo/sample_data/votes.jsonl"
    mine.write_text("mine")
    again = call("init", "demo", "--json").json
    assert again["made"] == []
    assert "demo/sample_data/votes.jsonl" in again["kept"]
    assert mine.read_text() == "mine"
    assert not list(here.rglob("*.part"))
    assert not list(here.rglob("__pycache__"))


def test_what_ships_is_found_in_a_wheel_and_never_in_a_strangers_folder(tmp_path: Path) -> None:
    """Beside an installed package, `app` may be somebody else's."""
    import shutil

    from cli_tools import ROOT

    installed = tmp_path / "site-packages"
    shutil.copytree(ROOT / "prefdata", installed / "prefdata", ignore=shutil.ignore_patterns("__pycache__"))
    (installed / "sample_data").mkdir()
    (installed / "sample_data" / "strangers.txt").write_text("x")
    (tmp_path / "w").mkdir()
    without = process("init", cwd=tmp_path / "w", PYTHONPATH=str(installed))
    assert without.returncode == 2
    assert "came without its folder" in without.stderr
    for name in ("pipelines", "sample_data"):
        (installed / "prefdata/_data" / name).mkdir(parents=True)
        (installed / "prefdata/_data" / name / "ours.txt").write_text("x")
    assert process("init", cwd=tmp_path / "w", PYTHONPATH=str(installed)).returncode == 0
    assert sorted(p.name for p in (tmp_path / "w").rglob("*.txt")) == ["ours.txt", "ours.txt"]


def test_import_says_shape_and_counts_and_a_second_one_adds_nothing(here: Path) -> None:
    write(here / "p.jsonl", pairs(4))
    got = call("import", "p.jsonl")
    assert got.code == 0
    assert "p.jsonl: pairs" in got.out
    assert "4 rows read: 4 stored, 0 known before, 0 refused" in got.out
    assert "new: prompts 4, responses 8, pairs 4, annotations 4, annotators 1" in got.out
    again = call("import", "p.jsonl", "--json").json["files"][0]
    assert (again["read"], again["stored"], again["known"], again["refused"]) == (4, 0, 4, 0)
    assert not any(again["new"].values())
    assert call("sql", "SELECT count(*) AS n FROM annotations", "--json").json == [{"n": 4}]


def test_refused_rows_are_named_by_line_and_kept_in_a_file(here: Path) -> None:
    rows = [json.dumps(row) for row in pairs(3)]
    (here / "p.jsonl").write_text("\n".join([rows[0], '{"prompt": ', rows[1], "[1]", rows[2]]) + "\n")
    got = call("import", "p.jsonl")
    assert got.code == 0
    assert "5 rows read: 3 stored, 0 known before, 2 refused" in got.out
    lines = [line.split() for line in got.out.splitlines()]
    assert [line[0] for line in lines if line and line[0] in ("2", "4")] == ["2", "4"]
    kept = [json.loads(line) for line in (here / "p.jsonl.rejects.jsonl").read_text().splitlines()]
    assert [(row["line"], bool(row["reason"])) for row in kept] == [(2, True), (4, True)]


def test_nothing_went_in_is_exit_2(here: Path) -> None:
    rows = [{"prompt": 1, "chosen": "a", "rejected": "b"}, {"prompt": None, "chosen": "a", "rejected": "b"}]
    write(here / "p.jsonl", rows)
    got = call("import", "p.jsonl")
    assert got.code == 2
    assert "2 rows read: 0 stored, 0 known before, 2 refused" in got.out
    assert "no row went in" in got.last
    machine = call("import", "p.jsonl", "--json")
    assert machine.code == 2
    assert machine.json["files"][0]["first_refused"][0]["line"] == 1


def test_columns_of_ones_own_and_a_source_name(here: Path) -> None:
    rows = [{"ask": f"q{n}", "good": f"a{n}", "worse": f"b{n}"} for n in range(3)]
    write(here / "p.jsonl", rows)
    said = refused("import", "p.jsonl")
    assert "ask, good, worse" in said
    assert not (here / "prefdata.duckdb").exists()
    args = ["--columns", "prompt=ask", "--columns", "chosen=good,rejected=worse", "--source", "mine"]
    assert call("import", "p.jsonl", *args).code == 0
    assert call("sql", "SELECT DISTINCT source FROM pairs", "--json").json == [{"source": "mine"}]
    assert "FIELD=COLUMN" in refused("import", "p.jsonl", "--columns", "prompt")
    assert "Did you mean 'prompt'" in refused("import", "p.jsonl", "--columns", "promt=ask")
    assert "Did you mean 'preference'" in refused("import", "p.jsonl", "--shape", "preferense")


def test_several_paths_go_in_by_what_they_hold(here: Path) -> None:
    """The votes are named first, and refer to the answers."""
    answers = [{"source": "s", "item_id": "1", "prompt": "q", "responses": [{"model": m, "text": f"by {m}"} for m in "xyz"]}]
    votes = [{"source": "s", "item_id": "1", "model_a": "x", "model_b": "y", "annotator_id": "me", "label": "a"}]
    write(here / "votes.jsonl", votes)
    with gzip.open(here / "answers.jsonl.gz", "wt") as file:
        file.write(json.dumps(answers[0]) + "\n")
    got = call("import", "votes.jsonl", "answers.jsonl.gz", "--json").json
    assert [one["kind"] for one in got["files"]] == ["responses", "annotations"]
    assert all(one["refused"] == 0 for one in got["files"])


def test_a_path_that_is_wrong_stops_all_before_any_is_stored(here: Path) -> None:
    write(here / "p.jsonl", pairs(2))
    assert "'nowhere.jsonl'" in refused("import", "p.jsonl", "nowhere.jsonl")
    assert not (here / "prefdata.duckdb").exists()


def test_an_import_into_a_pipe_logs_lines_and_no_bars(here: Path) -> None:
    write(here / "p.jsonl", pairs(2))
    got = process("import", "p.jsonl", cwd=here)
    assert got.returncode == 0
    assert "\x1b" not in got.stdout + got.stderr


def test_the_file_of_refused_rows_belongs_to_one_file_and_goes_when_that_is_mended(here: Path) -> None:
    for folder in ("x", "y"):
        (here / folder).mkdir()
        (here / folder / "p.jsonl").write_text(json.dumps(pairs(1)[0]) + f'\n{{"{folder}": \n')
    found = call("import", "x/p.jsonl", "y/p.jsonl", "--json").json["files"]
    assert [one["rejects_file"] for one in found] == ["p.jsonl.rejects.jsonl", "y-p.jsonl.rejects.jsonl"]
    assert all(one["file"] in (here / one["rejects_file"]).read_text() for one in ({**f, "file": f["path"]} for f in found))
    write(here / "x/p.jsonl", pairs(1))
    call("import", "x/p.jsonl")
    assert sorted(p.name for p in here.glob("*.rejects.jsonl")) == ["y-p.jsonl.rejects.jsonl"]
