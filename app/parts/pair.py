"""A conversation and two responses side by side, from untrusted text."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import streamlit as st

from app.parts.text import LONG, differences, literal, safe_markdown

View = Literal["formatted", "plain", "differences"]
VIEWS: dict[View, str] = {"formatted": "Formatted", "plain": "As written", "differences": "Differences"}
ROLES = {"user": ":material/person:", "assistant": ":material/smart_toy:", "system": ":material/settings:", "tool": ":material/build:"}
PICTURES = ("data:image/png;base64,", "data:image/jpeg;base64,", "data:image/gif;base64,", "data:image/webp;base64,")
WIDE = 110
"""Characters that fit on a line over both columns; half of it in one column. An estimate, to size panels by."""


def conversation(messages: Sequence[Mapping[str, Any]], *, view: View = "formatted", most: int = 230) -> None:
    """The messages up to the responses; more than `most` pixels of them scroll."""
    tall = sum(40 + _height(_text(message.get("content")), WIDE) for message in messages)
    tall += 200 * sum(1 for message in messages if not isinstance(message.get("content"), str))
    with st.container(key="conversation", border=True, height=most if tall > most else "content"):
        for message in messages:
            role = str(message.get("role", ""))
            with st.container(horizontal=True, gap="small", vertical_alignment="top"):
                st.caption(f"{ROLES.get(role, ':material/chat:')} {literal(role)}", width=90)
                with st.container(gap="small"):
                    _content(message.get("content"), "plain" if view == "plain" else "formatted")


def responses(left: str, right: str, *, view: View = "formatted", most: int = 420, titles: tuple[str, str] = ("A", "B")) -> None:
    """Two texts in panels of one height; longer ones scroll."""
    tall = max(_height(text, WIDE // 2) for text in (left, right)) + 50
    height = most if tall > most else max(160, tall)
    marked = differences(left, right) if view == "differences" else ("", "")
    for column, key, title, text, shown in zip(st.columns(2), ("left", "right"), titles, (left, right), marked, strict=True):
        with column, st.container(key=key, border=True, height=height, gap="small"):
            st.caption(f"**{literal(title)}**")
            if view == "differences":
                st.markdown(shown)
            else:
                body(text, view)


def body(text: str, view: View = "formatted") -> None:
    """One text as Markdown, or as it was written."""
    if not text.strip():
        st.caption("(nothing: this text is empty)")
    elif view == "plain" or len(text) > LONG:
        st.code(text, language=None, wrap_lines=True)
    else:
        st.markdown(safe_markdown(text), anchors=False)


def _content(content: Any, view: View) -> None:
    if isinstance(content, str):
        body(content, view)
        return
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, Mapping) and "text" in part:
            body(str(part["text"]), view)
        elif isinstance(part, Mapping) and part.get("type") in ("image", "image_url"):
            _picture(part)
        else:
            body(str(part), "plain")


def _picture(part: Mapping[str, Any]) -> None:
    """An image that came inside the message; nothing is fetched from elsewhere."""
    where = part.get("image_url", part.get("image", part.get("url", "")))
    address = str(where.get("url", "") if isinstance(where, Mapping) else where)
    start = next((known for known in PICTURES if address.startswith(known)), None)
    if start is None:
        st.caption(f":material/hide_image: image not loaded: {literal(address[:200] or 'no address')}")
        return
    try:
        st.image(base64.b64decode(address[len(start) :], validate=True), width=320)
    except (binascii.Error, OSError, ValueError):
        st.caption(":material/broken_image: an image that cannot be read")


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    return "\n".join(str(part.get("text", "")) for part in parts if isinstance(part, Mapping))


def _height(text: str, wide: int) -> int:
    """Roughly how many pixels `text` takes with `wide` characters to a line."""
    return sum(25 * (1 + len(line) // wide) for line in text[:20_000].split("\n")) + 20
