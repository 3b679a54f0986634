"""Runs: what was run, what each step did, and which rows failed for which reason."""

from __future__ import annotations

import json

import streamlit as st

from app.parts import keys, state
from prefdata.core import screens
from prefdata.core.queries import Row


def show() -> None:
    keys.listen()
    with state.guarded():
        runs = screens.runs(state.store())
        failures = screens.failures(state.store())
    if not runs:
        st.info("Nothing was run on this store yet.", icon=":material/inbox:")
        state.command("prefdata run RECIPE", "prefdata run RECIPE --plan")
        return
    st.subheader("Runs", anchor=False)
    run = runs[_pick(runs)]
    _steps(run)
    _failures(failures)
    if run["recipe"]:
        with st.expander("Recipe", icon=":material/receipt_long:"):
            st.code(json.dumps(run["recipe"], indent=2, ensure_ascii=False), language="json")
    st.write("Run it again: rows that are done are not computed again, and nothing is paid twice.")
    state.command(run["command"] or "prefdata run RECIPE", (run["command"] or "prefdata run RECIPE") + " --retry-failed")


def _pick(runs: list[Row]) -> int:
    """The runs, newest first; the chosen one."""
    shown = [
        {
            "started": run["started"],
            "command": run["command"],
            "state": run["state"],
            "seconds": run["seconds"],
            "steps": len(run["steps"]),
            "failed": sum(step["failed"] for step in run["steps"]),
            "cost": sum(step["cost"] for step in run["steps"]),
        }
        for run in runs
    ]
    config = {
        "command": st.column_config.TextColumn(width="large"),
        "seconds": st.column_config.NumberColumn(format="%.1f s"),
        "cost": st.column_config.NumberColumn(format="$%.4f"),
    }
    picked = st.dataframe(
        shown,
        hide_index=True,
        key="runs",
        on_select="rerun",
        selection_mode="single-row",
        column_config=config,
        height=38 + 35 * min(len(shown), 6),
    )
    rows = picked.selection.rows
    return rows[0] if rows and rows[0] < len(runs) else 0


def _steps(run: Row) -> None:
    started = f"{run['started']:%d %B %Y, %H:%M}"
    st.subheader(f"Steps of the run of {started}", anchor=False)
    if not run["steps"]:
        st.caption("This run has no report yet: it is still going, or it was killed. What it finished is stored.")
        return
    columns = ["step", "rows_in", "had", "done", "abstained", "failed", "seconds", "cost"]
    config = {
        "step": st.column_config.TextColumn(width="medium"),
        "rows_in": st.column_config.NumberColumn("rows in"),
        "had": st.column_config.NumberColumn("there before"),
        "seconds": st.column_config.NumberColumn(format="%.2f s"),
        "cost": st.column_config.NumberColumn(format="$%.4f"),
    }
    st.dataframe([{name: step.get(name) for name in columns} for step in run["steps"]], hide_index=True, column_config=config)


def _failures(failures: list[Row]) -> None:
    st.subheader("Rows without a result", anchor=False)
    if not failures:
        st.caption("None: every row of every step is done.")
        return
    st.dataframe(failures, hide_index=True, column_config={"reason": st.column_config.TextColumn(width="large")})


show()
