"""The labelling app: `streamlit run app/main.py`, with the store's path in PREFDATA_STORE. `prefdata label` does it."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import streamlit as st

HERE = Path(__file__).resolve().parent
if str(HERE.parent) not in sys.path:
    sys.path.insert(0, str(HERE.parent))


@st.cache_resource
def settle() -> None:
    """Once per server: what is loaded by now is no garbage.

    Streamlit collects garbage after every run and holds up the last messages of the page meanwhile: 50 ms per answer
    when all imported modules are walked, 2 ms when they are left out.
    """
    gc.collect()
    gc.freeze()


st.set_page_config(page_title="prefdata", page_icon=str(HERE / "icon.svg"), layout="wide", initial_sidebar_state="collapsed")
page = st.navigation(
    [
        st.Page(HERE / "views" / "label.py", title="Label", icon=":material/thumbs_up_down:", default=True),
        st.Page(HERE / "views" / "review.py", title="Review", icon=":material/gavel:"),
        st.Page(HERE / "views" / "dashboard.py", title="Dashboard", icon=":material/monitoring:"),
        st.Page(HERE / "views" / "explore.py", title="Explore", icon=":material/search:"),
        st.Page(HERE / "views" / "runs.py", title="Runs", icon=":material/history:"),
    ],
    position="top",
)
page.run()
settle()
