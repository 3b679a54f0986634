"""Untrusted text stays text: what becomes of it before Streamlit sees it."""

from __future__ import annotations

import re
import time

import pytest

from app.parts.text import JOINER, LONG, differences, literal, safe_markdown


def visible(markdown: str) -> str:
    return markdown.replace(JOINER, "")


@pytest.mark.parametrize(
    "text",
    [
        "![x](http://192.0.2.1/p.png)",
        "`![x](http://192.0.2.1/p.png)`",
        "\\`![x](http://192.0.2.1/p.png)\\`",
        "$![x](http://192.0.2.1/p.png)$",
        "\\(![x](http://192.0.2.1/p.png)\\)",
        "```\n![x](http://192.0.2.1/p.png)",
        "> ![x][r]\n\n[r]: http://192.0.2.1/p.png",
    ],
)
def test_no_image_markdown_survives(text: str) -> None:
    assert "![" not in safe_markdown(text)


def test_tags_diagrams_and_streamlit_s_own_marks_lose_their_meaning() -> None:
    made = safe_markdown("<script>x</script> a < b\n~~~ mermaid\ngraph\n~~~\n:red[x] :smile: :streamlit: std::vector a -> b")
    assert not re.search(r"<[a-z/]|~~~ mermaid|(?<!\\):red|:smile|:streamlit|(?<!\S)->(?!\S)", made)
    assert visible(made) == "<script>x</script> a < b\n~~~ mermaid\ngraph\n~~~\n\\:red[x] :smile: :streamlit: std::vector a -> b"


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("$e^{i\\pi}$ and \\(x_1\\)", "$e^{i\\pi}$ and $x_1$"),
        ("\\[ a\n  = b \\]", "$$a = b$$"),
        ("$5 or $10", "\\$5 or \\$10"),
        ("\\$5", "\\$5"),
        ("**bold** and [link](https://example.org/a)", "**bold** and [link](https://example.org/a)"),
        ("```python\nif a<b: return '$x$'\n```", "```python\nif a<b: return '$x$'\n```"),
        ("`a<b> :x:`", "`a<b> :x:`"),
    ],
)
def test_markdown_code_and_formulas_go_through(text: str, made: str) -> None:
    assert safe_markdown(text) == made


def test_literal_text_keeps_every_character_and_line() -> None:
    text = "# 1. *a* <b> $c$ `d` :e:\n    ![f](g)\n\n- h"
    made = literal(text)
    assert visible(made).replace("\\", "").replace("\u00a0", " ").replace("  \n", "\n") == text
    assert not re.search(r"(?<!\\)[#*<$`:!\-\[]", made)


def test_differences_mark_only_what_differs() -> None:
    left, right = differences("The cat sat\non the mat.", "The dog sat\non the mat.")
    assert visible(left) == "The :blue-background[cat] sat  \non the mat\\."
    assert visible(right) == "The :blue-background[dog] sat  \non the mat\\."
    assert differences("same", "same") == ("same", "same")


def test_marked_text_cannot_end_its_mark() -> None:
    left, _ = differences("a] :red[b", "c")
    assert len(re.findall(r"(?<!\\)\]", left)) == left.count(":blue-background[")


@pytest.mark.parametrize(
    "text", ["`" * LONG, "$x" * (LONG // 2), "\\[ x" * (LONG // 4), "![" * (LONG // 2), "\n```" * (LONG // 4), "``` " * (LONG // 4)]
)
def test_texts_made_to_be_slow_are_not(text: str) -> None:
    start = time.process_time()
    safe_markdown(text)
    assert time.process_time() - start < 8
