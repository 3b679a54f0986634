"""Explore: search and browse pairs with their labels, signals and fate; one pair's whole story."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import streamlit as st

from app.parts import keys, state
from app.parts.pair import VIEWS, View, conversation, responses
from prefdata.core import screens
from prefdata.core.queries import Row

PAGE = 25
ANY, KEPT = "any", "kept"
WINNERS = {ANY: "any label", "a": "a won", "b": "b won", "tie": "tie"}


def show() -> None:
    keys.listen()
    with state.guarded():
        reasons = screens.reasons(state.store())
        text, winner, reason, page = _search(reasons)
        picked = screens.named(state.store(), text)
        if picked is None:
            found = screens.browse(state.store(), text, winner, reason, most=PAGE + 1, skip=page * PAGE)
    if picked is None:
        if found.is_empty() and not page:
            _empty(bool(text or winner or reason))
            return
        picked = _table(found.head(PAGE))
        _pages(page, more=found.height > PAGE)
    if picked is None:
        st.caption("Choose a row to read the pair and why it is kept or dropped.")
        return
    with state.guarded():
        story = screens.why(state.store(), picked)
    _pair(story)
    _why(story)


def _search(reasons: list[str]) -> tuple[str, str, str, int]:
    words, label, fate = st.columns([3, 1, 1])
    first = {"on_change": _turn, "args": (0,)}
    text = words.text_input(
        "Search", key="words", placeholder="words in the prompt or a response, or a pair's id", icon=":material/search:", **first
    )
    winner = label.selectbox("Label", list(WINNERS), key="winner", format_func=lambda name: WINNERS[name], **first)
    names = {ANY: "kept or dropped", KEPT: "kept", **{reason: f"dropped: {reason}" for reason in reasons}}
    reason = fate.selectbox("Fate", list(names), key="fate", format_func=lambda name: names[name], disabled=not reasons, **first)
    return text, "" if winner == ANY else winner, "" if reason == ANY else reason, st.session_state.get("page", 0)


def _turn(page: int) -> None:
    st.session_state["page"] = page


def _empty(searched: bool) -> None:
    if searched:
        st.info("No pair fits; search for fewer words or take a filter off.", icon=":material/search_off:")
        return
    st.info("The store has no pairs yet.", icon=":material/inbox:")
    state.command("prefdata import FILE", "prefdata run RECIPE")


def _table(found: pl.DataFrame) -> str | None:
    """The page of pairs; the id of the chosen one."""
    shown = found.with_columns(pl.col("prompt").str.replace_all(r"\s+", " "), pl.col("winner", "dropped").fill_null(""))
    config: dict[str, Any] = {
        "pair_id": None,
        "prompt": st.column_config.TextColumn(width="large"),
        **{name: st.column_config.NumberColumn(format="%.3g") for name, kind in shown.schema.items() if kind.is_float()},
    }
    height = 38 + 35 * min(shown.height, 9)
    picked = st.dataframe(
        shown, hide_index=True, key="pairs", on_select="rerun", selection_mode="single-row", column_config=config, height=height
    )
    rows = picked.selection.rows
    return str(found["pair_id"][rows[0]]) if rows and rows[0] < found.height else None


def _pages(page: int, more: bool) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.button("Back", key="back", shortcut="Left", disabled=page == 0, on_click=_turn, args=(page - 1,))
        st.button("Next", key="next", shortcut="Right", disabled=not more, on_click=_turn, args=(page + 1,))
        st.caption(f"page {page + 1}, {PAGE} pairs each")


def _pair(story: dict[str, Any]) -> None:
    pair = story["pair"]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader("The pair", anchor=False, width="content")
        st.caption(f"`{pair['id']}`", width="stretch")
        st.segmented_control(
            "View",
            list(VIEWS),
            key="explore-view",
            default="formatted",
            required=True,
            format_func=lambda view: VIEWS[view],
            label_visibility="collapsed",
        )
    view: View = st.session_state.get("explore-view") or "formatted"
    conversation(pair["messages"], view=view)
    titles = tuple(f"{side} · {pair[f'{side}_model'] or 'unnamed'}" for side in ("a", "b"))
    responses(pair["a_text"], pair["b_text"], view=view, titles=(titles[0], titles[1]))


def _why(story: dict[str, Any]) -> None:
    """Where it came from, who said what, what was made of it."""
    st.subheader("Why", anchor=False)
    left, right = st.columns(2)
    with left:
        _rows("Where it came from", story["origin"], ["of", "source", "item_id", "file", "line"])
        _rows("Judgements", [_said(row) for row in story["judgements"]], ["of", "who", "kind", "said", "rationale", "shown", "taken back"])
        _rows("Asked for", story["queue"], ["send_to", "priority", "reason"])
    with right:
        _rows("Labels", story["labels"], ["newest", "winner", "p_a", "p_tie", "margin", "confidence", "votes", "key"])
        _rows("Decisions", [_decided(row) for row in story["decisions"]], ["filter", "verdict", "setting"])
        _rows("Signals", story["signals"], ["of", "name", "value"])
        _rows("Abstained or failed", story["trouble"], ["of", "key", "state", "note"])
        _rows("Exports", story["exports"], ["kind", "path", "created"])


def _rows(title: str, rows: list[Row], columns: list[str]) -> None:
    if not rows:
        st.caption(f"**{title}**: nothing")
        return
    st.caption(f"**{title}**")
    shown = [{name: row.get(name) for name in columns if any(other.get(name) is not None for other in rows)} for row in rows]
    st.dataframe([{k: str(v) if not isinstance(v, int | float | None) else v for k, v in row.items()} for row in shown], hide_index=True)


def _said(row: Row) -> Row:
    parts = [row["choice"]] if row["choice"] else []
    parts += [f"{name} {row[name]:.3g}" for name in ("strength", "score", "score_a", "score_b") if row[name] is not None]
    return {**row, "said": ", ".join(parts), "taken back": "yes" if row["retracted"] else None}


def _decided(row: Row) -> Row:
    setting = json.loads(row["params"] or "{}")
    return {"filter": row["method"] or row["key"], "verdict": row["reason"] or "kept",
            "setting": ", ".join(f"{k}={v}" for k, v in setting.items() if k != "subject")}  # fmt: skip


show()
