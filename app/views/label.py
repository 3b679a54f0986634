"""Label: one pair at a time, blind, by keyboard. The next pair shows when the answer is on disk."""

from __future__ import annotations

import time
from typing import Any

import streamlit as st

from app.parts import keys, state
from app.parts.pair import VIEWS, View, body, conversation, responses
from app.parts.text import literal
from prefdata.core import screens
from prefdata.core.desk import Desk
from prefdata.core.errors import PrefdataError
from prefdata.core.labelling import LEASE, LabelTask, Seat, Seen

SAID = {"left": "A", "right": "B", "tie": "tie", "both_bad": "both bad", "abstain": "skipped"}
SCALE: tuple[tuple[str, str, Seen, float | None], ...] = (
    ("1", "A much better", "left", 1.0),
    ("2", "A a little better", "left", 0.5),
    ("3", "Same", "tie", None),
    ("4", "B a little better", "right", 0.5),
    ("5", "B much better", "right", 1.0),
    ("X", "Both bad", "both_bad", None),
)


def show() -> None:
    with state.guarded():
        name = state.annotator()
        desk = _desk(name)
        task = desk.current()
    keys.listen(task.id if task else "")
    _header(desk, name)
    _trouble()
    if task is None:
        _nothing_left(desk)
        return
    if st.session_state.get("on_screen") != task.id:
        st.session_state["on_screen"], st.session_state["since"] = task.id, time.monotonic()
    view: View = st.session_state.setdefault("view", "formatted")
    with st.bottom:  # first: whoever sees the texts finds buttons and comment ready for them
        _answers(desk, task)
    conversation(task.messages, view=view)
    responses(task.left, task.right, view=view)


def _desk(name: str) -> Desk:
    """This tab's pairs; the tab's name stays in the address, so that reloading the page finds them again."""
    desk: Desk | None = st.session_state.get("desk")
    store = state.store()
    if desk is None or desk.seat.annotator != name or desk.store is not store:
        tab = st.query_params.get("tab") or st.session_state.setdefault("tab", f"{time.time_ns():x}"[-8:])
        st.session_state["tab"] = tab
        desk = st.session_state["desk"] = Desk(store, Seat(name, state.overlap(), tab))
    if st.query_params.get("tab") != desk.seat.desk:
        st.query_params["tab"] = desk.seat.desk
    return desk


def _header(desk: Desk, name: str) -> None:
    done = desk.done
    pace = f" · {done.seconds:.0f} s each" if done.seconds else ""
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        every = done.answered + done.skipped + desk.left
        words = f"**{literal(name)}** · {done.today} today · {done.answered} in all{pace} · {desk.left:,} left"
        st.progress((done.answered + done.skipped) / every if every else 0.0, text=words)
        for view, label in VIEWS.items():
            chosen = st.session_state.get("view", "formatted") == view
            key = {"formatted": "M", "plain": "P", "differences": "D"}[view]
            st.button(label, key=f"view-{view}", shortcut=key, type="primary" if chosen else "secondary", on_click=_look, args=(view,))
        _guidelines(desk)
        if st.button("My answers", key="history", shortcut="H", icon=":material/history:"):
            _history(desk)


def _guidelines(desk: Desk) -> None:
    path = desk.store.path.parent / "guidelines.md"
    with st.popover("Guidelines", icon=":material/menu_book:", width="content"):
        if path.is_file():
            body(path.read_text(encoding="utf-8", errors="replace"))
        else:
            st.write(f"No guidelines yet: write them to `{path}` and they show here.")


def _look(view: View) -> None:
    st.session_state["view"] = view


def _answers(desk: Desk, task: LabelTask) -> None:
    """All buttons; their keys hold the task, so that a late press cannot answer the pair after it."""
    plain: list[tuple[str, str, Seen]] = [("A", "A is better", "left"), ("T", "Tie", "tie"), ("B", "B is better", "right")]
    for column, (key, label, choice) in zip(st.columns(3), plain, strict=True):
        with column:
            _button(desk, task, key, label, choice, kind="primary")
    for column, (key, label, choice, strength) in zip(st.columns(6), SCALE, strict=True):
        with column:
            _button(desk, task, key, label, choice, strength)
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        with st.container(key="comment"):
            st.text_input(
                "Comment",
                key=f"comment-{task.id}",
                placeholder="Why? (N writes here, Enter leaves)",
                label_visibility="collapsed",
                on_change="ignore",
            )
        _aspects(task)
        flagged = st.session_state.get("flagged") == task.id
        st.button(
            "Flagged" if flagged else "Flag",
            key=f"flag-{task.id}",
            shortcut="F",
            icon=":material/flag:",
            type="primary" if flagged else "secondary",
            on_click=_flag,
            args=(task,),
            help="Marks this pair for review; then answer or skip it.",
        )
        _button(desk, task, "S", "Skip", "abstain", wide=False)
        st.button("Undo", key=f"undo-{task.id}", shortcut="U", icon=":material/undo:", on_click=_undo, args=(desk,))


def _button(desk: Desk, task: LabelTask, key: str, label: str, choice: Seen, strength: float | None = None, *,
            kind: Any = "secondary", wide: bool = True) -> None:  # fmt: skip
    st.button(
        label,
        key=f"{key}-{task.id}",
        shortcut=key,
        type=kind,
        width="stretch" if wide else "content",
        on_click=_press,
        args=(desk, task, choice, strength),
    )


def _aspects(task: LabelTask) -> None:
    names = state.aspects()
    if not names:
        return
    with st.popover("Aspects", icon=":material/tune:", width="content"):
        for name in names:
            st.segmented_control(
                literal(name),
                ("left", "tie", "right"),
                key=f"aspect-{name}-{task.id}",
                format_func={"left": "A", "tie": "same", "right": "B"}.get,
                on_change="ignore",
            )


def _press(desk: Desk, task: LabelTask, choice: Seen, strength: float | None) -> None:
    held = st.session_state
    rated = {name: held[key] for name in state.aspects() if held.get(key := f"aspect-{name}-{task.id}")}
    seconds = time.monotonic() - held["since"] if held.get("on_screen") == task.id else None
    try:
        stored = desk.answer(
            task,
            choice,
            strength=strength,
            aspects=rated,
            rationale=held.get(f"comment-{task.id}"),
            seconds=seconds,
            flag=held.get("flagged") == task.id,
        )
    except PrefdataError as error:
        held["trouble"] = error
        return
    if not stored:
        held["notice"] = "That pair was answered already, here or in another tab; the first answer stands."


def _flag(task: LabelTask) -> None:
    held = st.session_state
    held["flagged"] = None if held.get("flagged") == task.id else task.id


def _undo(desk: Desk, annotation: str | None = None) -> None:
    try:
        if not desk.undo(annotation):
            st.session_state["notice"] = "There is no answer to take back."
    except PrefdataError as error:
        st.session_state["trouble"] = error


def _trouble() -> None:
    """What the last key press met: an answer that could not be stored, or nothing to do."""
    error = st.session_state.pop("trouble", None)
    if error is not None:
        st.error(
            f"That did not reach the store, and the pair is still here: answer again. {state.sentence(error)}", icon=":material/error:"
        )
    notice = st.session_state.pop("notice", None)
    if notice is not None:
        st.toast(notice)


def _nothing_left(desk: Desk) -> None:
    with state.guarded():
        found = screens.counts(desk.store)
    if not found["pairs"]:
        st.info("The store has no pairs to label yet.", icon=":material/inbox:")
        st.write("Import responses or pairs, or run a recipe with a pairing step, then reload this page:")
        state.command("prefdata import FILE", "prefdata run RECIPE")
        return
    st.success(f"Nothing is left for you: you have answered {desk.done.answered} pairs. Thank you.", icon=":material/done_all:")
    if found["held"]:
        st.caption(
            f"{found['held']} pairs are in other hands right now; those that stay unanswered come back within {LEASE / 60:.0f} minutes."
        )
    with st.container(horizontal=True):
        if desk.done.answered + desk.done.skipped:
            st.button("Undo the last answer", key="undo-last", shortcut="U", icon=":material/undo:", on_click=_undo, args=(desk,))
        st.button("Look again", key="again", icon=":material/refresh:")
        if found["queued"] and not desk.seat.beyond:
            st.button("Go on with pairs nobody asked for", key="beyond", on_click=_go_beyond, args=(desk,))
    st.write("What to do with the answers:")
    state.command("prefdata run RECIPE", "prefdata status")


def _go_beyond(desk: Desk) -> None:
    seat = desk.seat
    st.session_state["desk"] = Desk(desk.store, Seat(seat.annotator, seat.overlap, seat.desk, beyond=True))


@st.dialog("My answers", width="large")
def _history(desk: Desk) -> None:
    with state.guarded():
        rows = screens.history(desk.store, desk.seat.annotator)
    if not rows:
        st.write("No answers yet.")
    for row in rows:
        with st.container(horizontal=True, vertical_alignment="center", border=True):
            said = SAID[row["choice"]] + (" · flagged" if row["flag"] else "")
            st.markdown(f"**{said}** · {row['created']:%d %b %H:%M}  \n{literal(_short(row['prompt']))}", width="stretch")
            why = "Takes this answer back and shows the pair again."
            if st.button("Change", key=f"change-{row['id']}", help=why, on_click=_undo, args=(desk, str(row["id"]))):
                st.rerun()


def _short(text: str | None) -> str:
    line = " ".join((text or "").split())
    return line if len(line) <= 110 else line[:109] + "…"


show()
