"""What Streamlit's button shortcuts leave open, as one small listener in the page, and less empty space around the page.

The listener moves into the comment (N) and out of it (Enter, Esc), lets a key that is held down answer once, keeps
shortcuts from answering behind an open dialog, and scrolls a new pair to its top. It reads no text of the page.
"""

from __future__ import annotations

import streamlit as st

_LISTENER = """
const typing = (target) => target && (target.tagName === "INPUT" || target.tagName === "TEXTAREA" || target.isContentEditable);
const stop = (event) => { event.stopImmediatePropagation(); event.preventDefault(); };

function onKey(event) {
  if (typing(event.target)) {
    if ((event.key === "Enter" || event.key === "Escape") && event.target.closest(".st-key-comment")) {
      stop(event);
      event.target.blur();
    }
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || event.key.length !== 1) return;
  if (event.repeat || document.querySelector('[data-testid="stDialog"]')) { stop(event); return; }
  if (event.key.toLowerCase() === "n") {
    const field = document.querySelector(".st-key-comment input, .st-key-comment textarea");
    if (field) { stop(event); field.focus(); }
  }
}

export default function () {
  document.querySelectorAll(".st-key-conversation, .st-key-left, .st-key-right").forEach((panel) => {
    [panel, ...panel.querySelectorAll("*")].forEach((box) => { if (box.scrollTop) box.scrollTop = 0; });
  });
  if (!document.documentElement.dataset.keys) {  // once per page: no key press may fall between two mounts
    document.documentElement.dataset.keys = "ready";
    window.addEventListener("keydown", onKey, true);
  }
}
"""
_SPACE = """
.stMainBlockContainer { padding-top: 4rem; padding-bottom: 1rem; }
.stBottomBlockContainer { padding-top: 0.5rem; padding-bottom: 1.2rem; }
.st-key-keys { position: absolute; }
"""
_listen = st.components.v2.component("prefdata_keys", js=_LISTENER, css=_SPACE, isolate_styles=False)


def listen(shown: str = "") -> None:
    """Mount the listener; when something else is `shown` than before, its texts start at their top."""
    with st.container(key="keys"):
        _listen(key="listener", data={"shown": shown}, height=1)
