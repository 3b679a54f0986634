"""Real stores for the app's tests, and the app itself as Streamlit's test runner sees it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from app_helpers import MAIN, make_store
from streamlit import config
from streamlit.testing.v1 import AppTest

from prefdata.core.store import Store

config.set_option("runner.magicEnabled", False)  # as in app/.streamlit/config.toml, which the test runner does not read


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return make_store(tmp_path / "s.duckdb", 10)


@pytest.fixture
def open_app(monkeypatch: pytest.MonkeyPatch) -> Callable[..., AppTest]:
    """The app on a store, at a view, as a person."""

    def opened(path: Path, view: str = "label", who: str | None = "anna") -> AppTest:
        monkeypatch.setenv("PREFDATA_STORE", str(path))
        monkeypatch.delenv("PREFDATA_ANNOTATOR", raising=False)
        if who:
            monkeypatch.setenv("PREFDATA_ANNOTATOR", who)
        app = AppTest.from_file(str(MAIN), default_timeout=30).run()
        if view != "label":
            app.switch_page(f"views/{view}.py").run()
        assert not app.exception, app.exception
        return app

    return opened
