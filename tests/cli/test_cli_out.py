"""What leaves the store: export, push, label; and the list of methods."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from cli_tools import ROOT, call, command, environment, process, refused

from prefdata.cli import methods as listing
from prefdata.core import catalogue


def rows_of(folder: Path) -> int:
    return sum(len(pl.read_parquet(path)) for path in (folder / "data").glob("*.parquet"))


def test_export_follows_the_newest_filters_sources_and_seed(filled: Path) -> None:
    got = call("export", "dpo", "--out", "again", "--test", "0.3", "--json").json
    assert got["filters"] == [row["key"] for row in call("status", "--json").json["funnel"]]
    same = [path.read_bytes() for path in sorted((filled / "out/dpo/data").iterdir())]
    assert [path.read_bytes() for path in sorted((filled / "again/data").iterdir())] == same
    assert call("export", "dpo", "--out", "again", "--test", "0.3", "--json").json["there_already"]
    assert call("export", "dpo", "--out", "later").code == 0, "an export is a run without filters and must not undo them"
    assert rows_of(filled / "later") == rows_of(filled / "again") == 10


def test_export_of_everything_labelled(filled: Path) -> None:
    got = call("export", "dpo", "--out", "all", "--unfiltered")
    assert got.code == 0
    assert rows_of(filled / "all") == 11
    assert "1 pairs without a winner left out" in got.out


def test_export_takes_the_parameters_of_its_method(filled: Path) -> None:
    for extra in (["--format=jsonl"], ["--format", "jsonl"]):
        assert call("export", "dpo", "--out", "x", *extra, "--test=0").code == 0
        assert [path.name for path in (filled / "x/data").iterdir()] == ["train-00000-of-00001.jsonl"]
    seeds = [call("export", "dpo", "--out", f"s{seed}", "--seed", seed, "--test=0.5", "--json").json["counts"] for seed in range(5)]
    assert len({json.dumps(counts) for counts in seeds}) > 1
    assert "Did you mean 'test'" in refused("export", "dpo", "--out", "x", "--tset=0.2")
    assert "Did you mean 'dpo'" in refused("export", "dop", "--out", "x")
    assert "format is 'xml'" in refused("export", "dpo", "--out", "x", "--format=xml")
    assert "--name=value" in refused("export", "dpo", "--out", "x", "stray")


def test_export_without_labels_says_what_is_missing(here: Path) -> None:
    (here / "p.jsonl").write_text('{"prompt": "q"}\n')
    call("import", "p.jsonl")
    assert "aggregate" in refused("export", "dpo", "--out", "x")


def test_export_never_replaces_a_strangers_folder(filled: Path) -> None:
    (filled / "mine").mkdir()
    (filled / "mine/thesis.txt").write_text("years of work")
    assert "no export of prefdata" in refused("export", "dpo", "--out", "mine")
    assert (filled / "mine/thesis.txt").exists()


def test_push_dry_run_lists_what_the_manifest_names(filled: Path) -> None:
    (filled / "out/dpo/secret.txt").write_text("not part of the export")
    got = call("push", "out/dpo", "me/prefs", "--dry-run", "--json").json
    assert not got["sent"]
    assert got["private"]
    assert "secret.txt" not in got["files"]
    assert {"README.md", "manifest.json"} < set(got["files"])


def test_push_refuses_what_is_no_export_or_was_changed(filled: Path) -> None:
    assert "no manifest.json" in refused("push", ".", "me/x", "--dry-run")
    assert "owner/name" in refused("push", "out/dpo", "x", "--dry-run")
    (filled / "out/dpo/README.md").write_text("changed")
    assert "changed since" in refused("push", "out/dpo", "me/x", "--dry-run")
    manifest = filled / "out/dpo/manifest.json"
    manifest.write_text(json.dumps({"files": {"../../prefdata.duckdb": "0"}}))
    assert "missing" in refused("push", "out/dpo", "me/x", "--dry-run")


class Hub:
    """What the Hub's client is asked to do."""

    private = True

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def create_repo(self, repo: str, **given: Any) -> None:
        self.calls.append(("create", {"repo": repo, **given}))

    def repo_info(self, repo: str, **given: Any) -> Any:
        return self

    def upload_folder(self, **given: Any) -> None:
        self.calls.append(("upload", given))


def test_push_is_private_and_sends_the_listed_files_only(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub()
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: hub)
    assert call("push", "out/dpo", "me/prefs").code == 0
    (_, created), (_, sent) = hub.calls
    assert (created["private"], created["repo_type"], sent["repo_type"]) == (True, "dataset", "dataset")
    assert sorted(sent["allow_patterns"]) == sorted(call("push", "out/dpo", "me/x", "--dry-run", "--json").json["files"])
    assert call("push", "out/dpo", "me/prefs", "--public").code == 0
    assert hub.calls[2][1]["private"] is False


def test_push_does_not_publish_by_accident(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dataset that is public already stays public, whatever create_repo was asked for."""
    hub = Hub()
    hub.private = False
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: hub)
    assert "add --public" in refused("push", "out/dpo", "me/prefs")
    assert [name for name, _ in hub.calls] == ["create"]


@pytest.fixture
def refusing_hub() -> Iterator[tuple[str, list[int]]]:
    """A server in the Hub's place that refuses everything with the status in the list."""
    status = [401]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status[0])
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        do_GET = do_POST

        def log_message(self, *given: Any) -> None:
            """Quiet."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", status
    server.shutdown()


@pytest.mark.parametrize(("code", "words"), [(401, "set HF_TOKEN"), (403, "may not write to me/x"), (429, None), (500, None)])
def test_push_errors_are_one_sentence(filled: Path, refusing_hub: tuple[str, list[int]], code: int, words: str | None) -> None:
    url, status = refusing_hub
    status[0] = code
    token = "hf_" + "x" * 34
    env = {"HF_ENDPOINT": url, "HF_TOKEN": token, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_TELEMETRY": "1"}
    got = process("push", "out/dpo", "me/x", cwd=filled, **env)
    assert got.returncode == 2
    assert "Traceback" not in got.stderr
    assert got.stderr.splitlines()[-1].startswith("error: ")
    assert (words or "Hub") in got.stderr
    assert token not in got.stdout + got.stderr


def test_push_without_a_network_is_one_sentence(filled: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        got = process(
            "push",
            "out/dpo",
            "me/x",
            cwd=filled,
            HF_ENDPOINT=f"http://127.0.0.1:{closed.getsockname()[1]}",
            HF_TOKEN="hf_x",
            HF_HUB_OFFLINE="0",
        )
    assert got.returncode == 2
    assert "cannot be reached" in got.stderr
    offline = process("push", "out/dpo", "me/x", cwd=filled, HF_HUB_OFFLINE="1", HF_TOKEN="hf_x")
    assert "cannot be reached" in offline.stderr


def test_label_serves_this_machine_only_until_ctrl_c(filled: Path) -> None:
    child = subprocess.Popen(
        command("label", "--json"), cwd=filled, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert child.stdout is not None
        said = ""
        while not said.rstrip().endswith("}"):
            said += child.stdout.readline()
        url = json.loads(said)["url"]
        assert url.startswith("http://127.0.0.1:")
        deadline = time.monotonic() + 30
        while True:
            try:
                with urllib.request.urlopen(f"{url}/_stcore/health", timeout=2) as answer:
                    assert answer.status == 200
                    break
            except OSError:
                assert time.monotonic() < deadline
                assert child.poll() is None
                time.sleep(0.2)
        child.send_signal(signal.SIGINT)
        assert child.wait(20) == 0
        with pytest.raises(OSError, match="refused"):
            urllib.request.urlopen(f"{url}/_stcore/health", timeout=2)
    finally:
        child.kill()


def test_label_needs_a_store_and_says_what_to_install(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no store" in refused("label")
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None)
    assert "pip install 'prefdata[app]'" in refused("label")


def test_label_starts_streamlit_quietly_and_bound_to_this_machine() -> None:
    from prefdata.cli.label import command as streamlit

    line = " ".join(streamlit(Path("/x/main.py"), 8600))
    for words in (
        "-m streamlit run /x/main.py",
        "server.address=127.0.0.1",
        "server.port=8600",
        "server.headless=true",
        "gatherUsageStats=false",
    ):
        assert words in line


def test_methods_lists_every_method_of_every_shelf() -> None:
    found = call("methods", "--json").json
    assert [(m["shelf"], m["name"]) for m in found] == [(m.shelf, m.name) for m in catalogue.everything()]
    out = call("methods").out
    assert all(m["name"] in out for m in found)
    assert {m["shelf"] for m in call("methods", "signal", "--json").json} == {"signals"}


@pytest.mark.parametrize("shelf", ["filters", "filter"])
def test_one_method_in_full(shelf: str) -> None:
    out = call("methods", shelf, "where").out
    for words in ("keep", "str", "required", "unknown", "- filter: {where: {keep: KEEP}}"):
        assert words in out
    assert "characters" in call("methods", "signals", "length_margin").out
    assert "out" in call("methods", "exports", "dpo").out
    assert "prefdata train dpo EXPORT" in call("methods", "losses", "dpo").out


def test_methods_of_a_paper() -> None:
    found = call("methods", "--paper", "2305.18290", "--json").json
    assert ("losses", "dpo") in {(m["shelf"], m["name"]) for m in found}
    assert "arXiv" in refused("methods", "--paper", "no such paper")


def test_methods_names_the_nearest() -> None:
    assert "Did you mean 'filters'" in refused("methods", "fitlers")
    assert "Did you mean 'where'" in refused("methods", "filters", "wheer")


@pytest.mark.parametrize("method", list(catalogue.everything()), ids=lambda m: f"{m.shelf}/{m.name}")
def test_every_method_has_a_page_and_a_line_to_copy(method: Any) -> None:
    import yaml

    out = call("methods", method.shelf, method.name).out
    line = listing.recipe_line(method)
    assert line in out
    if line.startswith("- "):
        ((step, given),) = yaml.safe_load(line)[0].items()
        assert catalogue.STEP_NAMES[step] == method.shelf
        assert list(given) == [method.name]


def test_methods_md_is_what_the_shelves_hold() -> None:
    path = ROOT / "METHODS.md"
    how = "write it again with  prefdata methods --markdown > METHODS.md"
    assert path.exists(), how
    assert path.read_text(encoding="utf-8") == call("methods", "--markdown").out, how
