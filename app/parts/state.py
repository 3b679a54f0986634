"""Which store and which person this session is about; trouble with either becomes a sentence and the next command."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import streamlit as st

from app.parts.text import literal
from prefdata.core.errors import Busy, PrefdataError, StoreError
from prefdata.core.store import DEFAULT, Store

NAME = re.compile(r"[\w][\w .@-]{0,59}")
ASPECTS = ("Helpful", "Correct", "Clear", "Harmless")


def store() -> Store:
    """This session's handle on the store that `PREFDATA_STORE` names."""
    opened: Store | None = st.session_state.get("store")
    if opened is None or str(opened.path) != str(Store().path):
        opened = st.session_state["store"] = Store(create=False)
    return opened


def overlap() -> int:
    """How many people may answer one pair: `PREFDATA_OVERLAP`, else 1."""
    given = os.environ.get("PREFDATA_OVERLAP", "1")
    if not given.isdigit() or int(given) < 1:
        raise PrefdataError(f"PREFDATA_OVERLAP is {given!r}; allowed: 1 or more people per pair.")
    return int(given)


def aspects() -> list[str]:
    """What may be rated beside the choice: `PREFDATA_ASPECTS`, names with commas between them."""
    given = os.environ.get("PREFDATA_ASPECTS")
    return list(ASPECTS) if given is None else [name.strip() for name in given.split(",") if name.strip()]


def annotator() -> str:
    """Who answers: `PREFDATA_ANNOTATOR`, else the name in the address, else asked once. Stops the script while unknown."""
    name = os.environ.get("PREFDATA_ANNOTATOR") or st.session_state.get("annotator") or st.query_params.get("annotator", "")
    if not NAME.fullmatch(name):
        _ask_name()
        st.stop()
    st.session_state["annotator"] = name
    if "PREFDATA_ANNOTATOR" not in os.environ and st.query_params.get("annotator") != name:
        st.query_params["annotator"] = name
    return name


def _ask_name() -> None:
    st.title("Who is labelling?")
    st.write("Your answers are stored under this name. It stays in the address of the page: keep a bookmark.")
    with st.form("who", border=False):
        name = st.text_input("Your name", key="typed_name", max_chars=60, placeholder="anna").strip()
        if st.form_submit_button("Start", type="primary"):
            if NAME.fullmatch(name):
                st.session_state["annotator"] = name
                st.rerun()
            st.error("Give a name of letters, digits, spaces, dots or dashes that begins with a letter or a digit.")


@contextmanager
def guarded() -> Iterator[None]:
    """What the user can mend, said on the page with the next step; the script stops there."""
    try:
        yield
    except PrefdataError as error:
        say(error)
        st.stop()


def say(error: PrefdataError) -> None:
    """One sentence, and what to do about it."""
    if isinstance(error, Busy):
        st.warning(f"Your work is safe. {sentence(error)}", icon=":material/hourglass_empty:")
        st.button("Try again", type="primary")
    elif isinstance(error, StoreError) and not store().exists:
        st.info(f"There is no store at `{store().path}` yet.", icon=":material/database_off:")
        st.write("Make one from your own file, or from the samples that come with prefdata, then reload this page:")
        command("prefdata import FILE", "prefdata init")
    else:
        st.error(sentence(error), icon=":material/error:")


def sentence(error: PrefdataError) -> str:
    """The error's text, fit to begin a line."""
    text = str(error)
    return literal(text[:1].upper() + text[1:])


def command(*lines: str) -> None:
    """Commands to copy into a shell, on this store."""
    path = store().path
    option = "" if path.resolve() == Path(DEFAULT).resolve() else f" --store {shlex.quote(str(path))}"
    st.code("\n".join(line if "--store" in line else line + option for line in lines), language="bash")
