"""Dashboard: who answered how much, how they agree, whether a side draws them, and how fast they are."""

from __future__ import annotations

import statistics

import altair as alt
import polars as pl
import streamlit as st

from app.parts import keys, state
from prefdata.core import screens
from prefdata.core.labelling import MACHINES
from prefdata.core.queries import Row
from prefdata.core.screens import Agreement

SAID = {"a": "first", "b": "second", "tie": "tie", "both_bad": "both bad"}
SCALE = alt.Scale(domain=["first", "tie", "both bad", "second"], range=["#4c8bd6", "#c3ccd8", "#8d6a9f", "#e0a458"])
FEW_DAYS = 4
"""With votes on fewer days, the pace is drawn by the hour."""
NAMES = alt.Y("annotator:N", title=None, sort=None, axis=alt.Axis(labelOverlap=False))
ROW = 34
"""Pixels for one annotator in a plot."""


def show() -> None:
    keys.listen()
    with state.guarded():
        every = screens.annotator_kinds(state.store())
        kinds = _kinds(every)
        people = screens.people(state.store(), kinds)
        agreement = screens.agreement(state.store(), kinds)
        pace = screens.pace(state.store(), kinds)
        if pace["start"].n_unique() < FEW_DAYS:
            pace = screens.pace(state.store(), kinds, "hour")
        totals = screens.counts(state.store())
    if not every:
        st.info("Nobody has judged a pair yet.", icon=":material/inbox:")
        st.write("Answer some under Label, or import votes:")
        state.command("prefdata import VOTES.jsonl")
        return
    _totals(totals, people, agreement)
    left, right = st.columns(2)
    with left, st.container(border=True, height="stretch"):
        _choices(people)
    with right, st.container(border=True, height="stretch"):
        _sides(people)
    left, right = st.columns(2)
    with left, st.container(border=True, height="stretch"):
        _matrix(agreement)
    with right, st.container(border=True, height="stretch"):
        _pace(pace)
    with st.expander("All numbers", icon=":material/table:"):
        _table(people)


def _kinds(every: list[str]) -> list[str]:
    persons = [kind for kind in every if kind not in MACHINES] or every
    chosen = st.pills("Whose judgements", every, selection_mode="multi", default=persons, key="kinds", label_visibility="collapsed")
    return list(chosen) or persons


def _totals(totals: Row, people: list[Row], agreement: Agreement) -> None:
    votes = sum(row["votes"] for row in people)
    timed = [row["seconds"] for row in people if row["seconds"] is not None]
    seconds = statistics.median(timed) if timed else None
    cells = (
        ("Votes", f"{votes:,}", f"by {len(people)} annotators"),
        ("Pairs judged by people", f"{totals['voted']:,}", f"of {totals['pairs']:,} in the store"),
        ("Agreement", _percent(agreement.share), f"of two votes on one pair; {agreement.pairs:,} pairs have at least two"),
        ("Krippendorff's alpha", "–" if agreement.alpha is None else f"{agreement.alpha:z.2f}", "nominal; 1 is perfect, 0 is chance"),
        ("Median time", "–" if seconds is None else f"{seconds:.0f} s", "per answer, over annotators"),
    )
    for column, (name, value, note) in zip(st.columns(len(cells)), cells, strict=True):
        column.metric(name, value, border=True, help=note)


def _choices(people: list[Row]) -> None:
    st.markdown("**What they choose**", help="Shares of each answer. First and second are the pair's own order, not the order shown.")
    rows = [{"annotator": row["annotator"], "answer": SAID[c], "votes": row[c]} for row in people for c in SAID if row["votes"]]
    chart = (
        alt.Chart(pl.DataFrame(rows, schema={"annotator": pl.String, "answer": pl.String, "votes": pl.Int64}))
        .mark_bar()
        .encode(
            x=alt.X("votes:Q", stack="normalize", title="share of votes", axis=alt.Axis(format="%")),
            y=NAMES,
            color=alt.Color("answer:N", scale=SCALE, legend=alt.Legend(orient="top", title=None)),
            order=alt.Order("order:Q"),
            tooltip=["annotator", "answer", "votes"],
        )
        .transform_calculate(order="indexof(['first', 'tie', 'both bad', 'second'], datum.answer)")
    )
    st.altair_chart(chart.properties(height=max(140, ROW * len(people) + 70)), alt="Share of each answer per annotator")


def _sides(people: list[Row]) -> None:
    st.markdown("**Does a side draw them?**", help="Of the votes for one response, how many went to the one on the left; 95 % interval.")
    rows = [
        {"annotator": row["annotator"], "share": row["on_left"] / row["sided"], "low": row["interval"][0], "high": row["interval"][1],
         "votes": row["sided"], "drawn": not row["interval"][0] <= 0.5 <= row["interval"][1]}
        for row in people if row["sided"]
    ]  # fmt: skip
    if not rows:
        st.caption("No vote here says on which side each response stood.")
        return
    base = alt.Chart(pl.DataFrame(rows)).encode(y=NAMES)
    color = alt.condition("datum.drawn", alt.value("#d1495b"), alt.value("#4c8bd6"))
    axis = alt.Axis(format="%", values=[0, 0.25, 0.5, 0.75, 1])
    low = alt.X("low:Q", scale=alt.Scale(domain=[0, 1]), title="share of the left side", axis=axis)
    tips = [
        "annotator",
        alt.Tooltip("share:Q", format=".0%"),
        alt.Tooltip("low:Q", format=".0%"),
        alt.Tooltip("high:Q", format=".0%"),
        "votes",
    ]
    lines = base.mark_rule(strokeWidth=2).encode(x=low, x2="high:Q", color=color)
    points = base.mark_circle(size=90, opacity=1).encode(x="share:Q", color=color, tooltip=tips)
    middle = alt.Chart(pl.DataFrame({"x": [0.5]})).mark_rule(strokeDash=[4, 4], color="#8a94a3").encode(x="x:Q")
    st.altair_chart((middle + lines + points).properties(height=max(140, ROW * len(rows) + 70)), alt="Share of the left side per annotator")
    drawn = [row["annotator"] for row in rows if row["drawn"]]
    if drawn:
        st.caption(f"Red: the interval leaves out 50 % ({len(drawn)} of {len(rows)} annotators).")


def _matrix(agreement: Agreement) -> None:
    st.markdown("**Who agrees with whom**", help="Share of the pairs both judged on which they say the same.")
    if agreement.matrix.is_empty():
        st.caption("No pair has been judged by two people yet: run the app with PREFDATA_OVERLAP=2.")
        return
    table = agreement.matrix.with_columns(share=pl.col("same") / pl.col("common"))
    base = alt.Chart(table).encode(
        x=alt.X("first:N", title=None, axis=alt.Axis(labelAngle=0, labelLimit=90)), y=alt.Y("second:N", title=None)
    )
    color = alt.Color("share:Q", scale=alt.Scale(scheme="blues", domain=[0, 1]), legend=None)
    tips = ["first", "second", "common", alt.Tooltip("share:Q", format=".0%")]
    cells = base.mark_rect(cornerRadius=3).encode(color=color, tooltip=tips)
    ink = alt.condition("datum.share > 0.55", alt.value("white"), alt.value("#1f2933"))
    words = base.mark_text().encode(text=alt.Text("share:Q", format=".0%"), color=ink)
    size = table["first"].n_unique()
    st.altair_chart((cells + words).properties(height=max(180, ROW * size + 70)), alt="Agreement of each two annotators")


def _pace(pace: pl.DataFrame) -> None:
    st.markdown("**Pace**", help="Votes over time; the tooltip has the median seconds per answer.")
    if pace.is_empty():
        st.caption("No vote here says when it was given.")
        return
    chart = (
        alt.Chart(pace.with_columns(pl.col("start").cast(pl.String)))
        .mark_bar(size=24 if pace["start"].n_unique() < 20 else 6)
        .encode(
            x=alt.X("start:T", title=None),
            y=alt.Y("votes:Q", title="votes"),
            color=alt.Color("annotator:N", scale=alt.Scale(scheme="tableau10"), legend=alt.Legend(orient="top", title=None)),
            tooltip=["start", "annotator", "votes", alt.Tooltip("seconds:Q", format=".1f", title="median seconds")],
        )
    )
    st.altair_chart(chart.properties(height=240), alt="Votes over time per annotator")


def _table(people: list[Row]) -> None:
    rows = [{**{k: v for k, v in row.items() if k != "interval"}, "left": row["on_left"] / row["sided"] if row["sided"] else None}
            for row in people]  # fmt: skip
    config = {
        "left": st.column_config.NumberColumn("left side", format="percent"),
        "seconds": st.column_config.NumberColumn(format="%.1f s"),
    }
    shown = ["annotator", "kind", "votes", "a", "b", "tie", "both_bad", "skipped", "flags", "left", "seconds", "newest"]
    st.dataframe(rows, hide_index=True, column_config=config, column_order=shown)


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.0%}"


show()
