"""Review: pairs on which people differ or that somebody flagged, with their votes, and the final word."""

from __future__ import annotations

import streamlit as st

from app.parts import keys, state
from app.parts.pair import conversation, responses
from app.parts.text import literal
from prefdata.core import screens
from prefdata.core.errors import PrefdataError
from prefdata.core.labelling import LabelTask, Seen, fetch, record
from prefdata.core.queries import Row
from prefdata.core.screens import Which

LISTS: dict[Which, str] = {"open": "To decide", "decided": "Decided", "all": "All"}
WORDS: tuple[tuple[str, str, Seen], ...] = (
    ("A", "A is better", "left"),
    ("T", "Tie", "tie"),
    ("B", "B is better", "right"),
    ("X", "Both bad", "both_bad"),
)


def show() -> None:
    with state.guarded():
        name = state.annotator()
        which: Which = st.session_state.get("review-list") or "open"
        found = screens.disputes(state.store(), which)
    place = _header(found)
    keys.listen(str(found[place]["pair_id"]) if found else "")
    if not found:
        _empty(which)
        return
    row = found[place]
    with state.guarded():
        tasks = fetch(state.store(), name, [(str(row["pair_id"]), None)])
        votes = screens.votes(state.store(), str(row["pair_id"]))
    task = tasks[0]
    with st.bottom:
        _last_word(name, task)
    conversation(task.messages, most=180)
    responses(task.left, task.right, most=330)
    st.subheader("What was said", anchor=False)
    for vote in votes:
        _vote(task, vote)


def _header(found: list[Row]) -> int:
    """The list's choice and the place in it."""
    held = st.session_state
    place = min(held.get("review-place", 0), max(0, len(found) - 1))
    held["review-place"] = place
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.segmented_control(
            "Which pairs",
            list(LISTS),
            key="review-list",
            default="open",
            required=True,
            format_func=lambda which: LISTS[which],
            label_visibility="collapsed",
            on_change=_move,
            args=(0,),
        )
        st.markdown(f"**{place + 1}** of {len(found)}" if found else "None", width="stretch")
        st.button("Back", key="back", shortcut="Left", disabled=place == 0, on_click=_move, args=(place - 1,))
        st.button("Next", key="next", shortcut="Right", disabled=place + 1 >= len(found), on_click=_move, args=(place + 1,))
    error = held.pop("trouble", None)
    if error is not None:
        state.say(error)
    return int(place)


def _move(place: int) -> None:
    st.session_state["review-place"] = max(0, place)


def _empty(which: Which) -> None:
    if which == "decided":
        st.info("Nothing has been decided here yet.", icon=":material/inbox:")
        return
    st.info("People agree on every pair that more than one of them judged, and nothing is flagged.", icon=":material/done_all:")
    st.write("To have pairs judged by more than one person, open the app for several:")
    st.code("PREFDATA_OVERLAP=2 prefdata label", language="bash")


def _vote(task: LabelTask, vote: Row) -> None:
    """One person's judgement, in the letters of this screen."""
    left = task.shown[0]
    said = {left: "A", "tie": "tie", "both_bad": "both bad", "abstain": "skipped", None: "scores only"}.get(vote["choice"], "B")
    strength = f" · strength {abs(vote['strength']):.2g}" if vote["strength"] else ""
    marks = (" · :material/flag: flagged" if vote["flag"] else "") + (" · :material/gavel: final word" if vote["role"] == "review" else "")
    time = f" · {vote['seconds']:.0f} s" if vote["seconds"] else ""
    aspects = ", ".join(
        f"{literal(str(name))}: {'same' if not side else 'A' if (side > 0) == (left == 'a') else 'B'}"
        for name, side in vote["aspects"].items()
    )
    with st.container(border=True, gap="small"):
        reason = f"  \n{literal(vote['rationale'])}" if vote["rationale"] else ""
        st.markdown(f"**{said}** · {literal(vote['who'])}{strength}{time}{marks}{reason}")
        if aspects:
            st.caption(aspects)


def _last_word(name: str, task: LabelTask) -> None:
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        with st.container(key="comment"):
            st.text_input(
                "Reason",
                key=f"reason-{task.pair_id}",
                placeholder="Final word: why? (N writes here, Enter leaves)",
                label_visibility="collapsed",
                on_change="ignore",
            )
        for key, label, choice in WORDS:
            st.button(label, key=f"{key}-{task.pair_id}", shortcut=key, type="primary", on_click=_decide, args=(name, task, choice))


def _decide(name: str, task: LabelTask, choice: Seen) -> None:
    try:
        record(state.store(), name, task, choice, rationale=st.session_state.get(f"reason-{task.pair_id}"), review=True)
    except PrefdataError as error:
        st.session_state["trouble"] = error
    else:
        st.toast(f"Decided: {choice.replace('_', ' ')}. It is under Decided and can be changed there.", icon=":material/gavel:")


show()
