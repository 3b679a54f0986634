"""The app in a real Chromium, by keyboard, as an annotator uses it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from app_helpers import HOSTILE, MAIN, ROOT, make_store

from prefdata.core.labelling import fetch, record, side
from prefdata.core.store import Store

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
pytestmark = pytest.mark.browser


def _missing() -> str:
    if not Path(CHROMIUM).exists() and not shutil.which(CHROMIUM):
        return f"no Chromium at {CHROMIUM}: apt-get install chromium, or name another in CHROMIUM"
    try:
        import playwright  # noqa: F401
    except ImportError:
        return "playwright is not installed: pip install 'prefdata[dev]'"
    return ""


@pytest.fixture(autouse=True)
def _needs_a_browser() -> None:
    why = _missing()
    if why and os.environ.get("CI", "").lower() == "true":
        pytest.fail(why)
    if why:
        pytest.skip(why)


@contextmanager
def serving(store: Path, **environment: str) -> Iterator[str]:
    """The app on a free port of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PREFDATA_", "STREAMLIT_"))}
    command = [sys.executable, "-m", "streamlit", "run", str(MAIN), f"--server.port={port}"]
    child = subprocess.Popen(command, cwd=ROOT, env={**inherited, "PREFDATA_STORE": str(store), **environment}, stdout=subprocess.DEVNULL)
    try:
        for _ in range(200):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=1)
                break
            except OSError:
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        child.terminate()
        child.wait(timeout=20)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page that notes every request to another machine under `page.strangers`."""
    opened = browser.new_page(viewport={"width": 1400, "height": 900})
    opened.strangers = []
    opened.on("request", lambda r: None if r.url.startswith(("http://127.0.0.1", "data:", "blob:")) else opened.strangers.append(r.url))
    yield opened
    opened.close()


def visit(page: Any, address: str) -> None:
    """Open a page and wait until its keys work and its parts are loaded."""
    page.goto(address)
    settle(page)


def settle(page: Any) -> None:
    page.locator("html[data-keys=ready]").wait_for(state="attached")
    page.locator(".st-key-comment input").wait_for()
    page.get_by_role("button", name="Both bad").wait_for()


def left(page: Any) -> str:
    return str(page.locator(".st-key-left").inner_text())


def press(page: Any, key: str) -> None:
    """Press a key and wait for the pair after this one."""
    before = left(page)
    page.keyboard.press(key)
    page.wait_for_function("before => document.querySelector('.st-key-left')?.innerText !== before", arg=before)


def votes(store: Store) -> list[tuple[Any, ...]]:
    return store.rows("SELECT subject::VARCHAR, choice, strength, shown, rationale, scores FROM live_annotations ORDER BY created")


def test_label_by_keyboard(page: Any, store: Store) -> None:
    """Five answers, a comment, a flag, one taken back; a held key answers once; a reloaded page goes on where it was."""
    with serving(store.path) as address:
        page.goto(address)
        page.get_by_label("Your name").fill("anna")
        page.keyboard.press("Enter")
        settle(page)
        assert "annotator=anna" in page.url
        press(page, "a")
        press(page, "5")
        page.keyboard.press("n")
        page.keyboard.type("both are fine, a tie")
        page.keyboard.press("Enter")
        page.keyboard.press("f")
        page.get_by_role("button", name="Flagged").wait_for()
        press(page, "t")
        press(page, "x")
        page.keyboard.down("2")
        for _ in range(8):
            page.wait_for_timeout(120)
            page.keyboard.down("2")
        page.keyboard.up("2")
        page.get_by_text("5 today").wait_for()
        page.wait_for_timeout(600)
        assert [row[1] for row in votes(store)][2:4] == ["tie", "both_bad"]
        assert len(votes(store)) == 5
        press(page, "u")
        page.get_by_text("4 today").wait_for()
        assert len(votes(store)) == 4
        shown = left(page)
        page.reload()
        settle(page)
        page.wait_for_selector(".st-key-left")
        assert left(page) == shown
        press(page, "1")
    order = [str(row[0]) for row in store.rows("SELECT id FROM pairs ORDER BY rowid LIMIT 5")]
    found = votes(store)
    assert [row[0] for row in found] == order
    assert [row[3] for row in found] == [side("anna", pair) for pair in order]
    said = [{row[3][0]: "left", row[3][1]: "right"}.get(row[1], row[1]) for row in found]
    assert said == ["left", "right", "tie", "both_bad", "left"]
    assert [abs(row[2]) if row[2] else None for row in found] == [None, 1.0, None, None, 1.0]
    assert found[2][4] == "both are fine, a tie"
    assert json.loads(found[2][5]) == {"flag": True}
    assert store.rows("SELECT count(*), count(retracts), count(DISTINCT annotator_id) FROM annotations") == [(7, 1, 1)]
    assert page.strangers == []


def test_hostile_text_takes_nothing_over_and_loads_nothing(page: Any, tmp_path: Path) -> None:
    store = make_store(tmp_path / "s.duckdb", len(HOSTILE), HOSTILE)
    with serving(store.path, PREFDATA_ANNOTATOR="anna") as address:
        visit(page, address)
        page.wait_for_selector(".st-key-left")
        for number in range(len(HOSTILE)):
            for look in "mdp":
                page.keyboard.press(look)
                page.wait_for_timeout(150)
            page.keyboard.press("m")
            page.wait_for_timeout(150)
            panels = page.locator(".st-key-left, .st-key-right, .st-key-conversation")
            assert panels.locator("img, script, iframe, svg[id^=mermaid], a[href^=javascript]").count() == 0
            if number + 1 < len(HOSTILE):
                press(page, "t")
        page.keyboard.press("t")
        page.get_by_text("Nothing is left for you").wait_for()
        assert page.title() != "taken over"
    assert page.strangers == []
    assert len(votes(store)) == len(HOSTILE)


def test_marks_of_streamlit_show_as_written_and_keys_rest_behind_a_dialog(page: Any, tmp_path: Path) -> None:
    text = "a -> b, :red[no] :smile: std::vector $5 <b>bold</b> 10:30 :material/home: -- (c)"
    store = make_store(tmp_path / "s.duckdb", 3, (text,))
    with serving(store.path, PREFDATA_ANNOTATOR="anna") as address:
        visit(page, address)
        page.get_by_text("first 0").wait_for()
        for look in "mdp":
            page.keyboard.press(look)
            page.wait_for_timeout(700)
            assert text in left(page).replace("\u2060", ""), look
        page.keyboard.press("h")
        page.get_by_text("No answers yet.").wait_for()
        page.keyboard.press("a")
        page.wait_for_timeout(700)
        assert page.get_by_text("No answers yet.").count() == 1
        page.keyboard.press("Escape")
        page.get_by_test_id("stDialog").wait_for(state="detached")
        press(page, "a")
    assert len(votes(store)) == 1


def test_adjudicate_by_keyboard(page: Any, store: Store) -> None:
    pair = str(store.value("SELECT id FROM pairs LIMIT 1"))
    for who, choice in (("ben", "left"), ("carla", "tie")):
        record(store, who, fetch(store, who, [(pair, None)])[0], choice, rationale=f"{who} has a reason")  # type: ignore[arg-type]
    with serving(store.path, PREFDATA_ANNOTATOR="lea") as address:
        visit(page, f"{address}/review")
        page.get_by_text("carla has a reason").wait_for()
        page.keyboard.press("n")
        page.keyboard.type("b it is")
        page.keyboard.press("Escape")
        page.keyboard.press("b")
        page.get_by_text("People agree on every pair").wait_for()
    final = store.rows("SELECT choice, shown, scores, rationale FROM live_annotations WHERE annotator_id = 'lea'")
    shown = side("lea", pair)
    assert final == [(shown[1], shown, '{"role": "review"}', "b it is")]
