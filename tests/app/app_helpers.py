"""Stores to test the app on, and ways to read a page."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import Button

from prefdata.core.ingest import Batch, ingest
from prefdata.core.store import Store

ROOT = Path(__file__).resolve().parents[2]
MAIN = ROOT / "app" / "main.py"
HOSTILE = (
    "<script>document.title = 'taken over'</script>",
    "<img src=x onerror=\"document.title='taken over'\"> ![beacon](http://192.0.2.1/pixel.png)",
    "[click](javascript:document.title='taken-over') :red[no] :smile: :streamlit: ~~~~mermaid",
    "Euler: $e^{i\\pi} = -1$, \\(x^2\\), and it costs $5 or $10.\n\n```python\nif a < b:\n    print('![x](http://192.0.2.1/y.png)')\n```",
    "long " * 12_000,
    "",
)


def make_store(path: Path, count: int, texts: tuple[str, ...] = ()) -> Store:
    """A store of `count` pairs; `texts` fill the responses in turn."""
    answers = texts or tuple(f"answer {n}" for n in range(7))
    frame = pl.DataFrame(
        {
            "prompt": [f"Question {n}: {answers[n % len(answers)][:200]}" for n in range(count)],
            "response_a": [f"{answers[n % len(answers)]}\n\nfirst {n}" for n in range(count)],
            "response_b": [f"{answers[(n + 1) % len(answers)]}\n\nsecond {n}" for n in range(count)],
            "model_a": ["secret-model-one"] * count,
            "model_b": ["secret-model-two"] * count,
            "source": ["tests"] * count,
        }
    )
    store = Store(path)
    ingest(store, [Batch("pairs", frame)])
    return store


def button(app: AppTest, label: str) -> Button:
    found = [b for b in app.button if b.label == label]
    assert found, (label, [b.label for b in app.button])
    return found[0]


def words(app: AppTest) -> str:
    """All text on the page, without what keeps its characters from being Markdown."""
    kinds = ("markdown", "caption", "code", "info", "success", "warning", "error", "title", "subheader")
    found = "\n".join(str(element.value) for kind in kinds for element in app.get(kind) if hasattr(element, "value"))
    return re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", found.replace("\u2060", ""))
