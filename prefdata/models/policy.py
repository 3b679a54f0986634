"""A causal language model that scores given texts: log-probabilities, entropy, hidden states."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import polars as pl

from prefdata.core.errors import PrefdataError, Stopped
from prefdata.core.protocols import Logps, Messages
from prefdata.models.packing_engine import Engine, Group, Scored
from prefdata.models.packing_queue import Gathered
from prefdata.models.spec import Spec

log = logging.getLogger("prefdata.models")
WINDOW = 512
"""Groups of a table that are sorted by length together."""


class LocalPolicy:
    """A transformers model behind a queue; it is loaded when it is first needed.

    Attributes:
        counts: texts so far: scored, cut (to fit the limit), refused (too long, template, ...).
    """

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._loaded: Engine | None = None
        self._lock = threading.Lock()
        self._gathered: Gathered[Group, list[Logps]] = Gathered(spec.name, self._round)
        self.counts: Counter[str] = Counter()

    async def logps(self, messages: Messages, texts: Sequence[str]) -> list[Logps]:
        """One `Logps` (in truth a `Scored`) per text, as the next turn of `messages`.

        The next turn is the assistant's; after a turn of the assistant it is the user's, whose words are summed without
        any end of turn, since no model says it.

        Raises:
            CallFailed: the template refuses the conversation, or a text is too long and the recipe says to refuse those.
        """
        return await self._gathered((messages, list(texts))) if texts else []

    def score(self, groups: Iterable[Group], *, states: bool = False) -> pl.DataFrame:
        """A whole table at once: one row per text, in order.

        Args:
            groups: a conversation and its responses each.
            states: also compute what CHES and its kin need.

        Returns:
            group, text (numbers), logp (nats, summed), tokens, eos, cut, entropy (nats, mean over tokens), note (why there
            are no numbers, else null). With `states` also state_rows, and two lists with an entry for each text of the
            group: inner (of the summed states with those of each) and last_inner (of the last states). `states_of_pairs` makes
            numbers of pairs from them.
        """
        frames, rest, start = [], iter(groups), 0
        with self._lock:
            while window := list(islice(rest, WINDOW)):
                results: list[list[Scored | PrefdataError]] = [[] for _ in window]
                for number, result in self._engine().score(window, self.counts, states=states):
                    results[number] = result
                frames.append(_frame(results, start, states))
                start += len(window)
        return pl.concat(frames) if frames else _frame([], 0, states)

    async def close(self) -> None:
        """End the thread, and say what was cut or refused."""
        await self._gathered.close()
        if self.counts["cut"] or self.counts["refused"]:
            told = ", ".join(f"{self.counts[name]} {name}" for name in ("scored", "cut", "refused"))
            log.warning("model %s: texts %s (limit of length: see truncation and max_length)", self._spec.name, told)

    def _round(self, groups: Sequence[Group]) -> Iterator[tuple[int, list[Logps] | Exception]]:
        with self._lock:
            for number, found in self._engine().score(groups, self.counts):
                bad = next((one for one in found if isinstance(one, PrefdataError)), None)
                yield number, bad or [one for one in found if isinstance(one, Scored)]

    def _engine(self) -> Engine:
        if self._loaded is None:
            try:
                self._loaded = Engine(self._spec)
            except PrefdataError as error:
                raise Stopped(f"stopped: model {self._spec.name!r} cannot be used: {error}") from None
        return self._loaded


def _frame(results: Sequence[Sequence[Scored | PrefdataError]], start: int, states: bool) -> pl.DataFrame:
    schema = {name: dtype for name, dtype in _SCHEMA.items() if states or name not in _STATES}
    rows: list[dict[str, Any]] = []
    for number, found in enumerate(results):
        inner = _products(found) if states else []
        for place, one in enumerate(found):
            row: dict[str, Any] = {"group": start + number, "text": place}
            if isinstance(one, PrefdataError):
                rows.append({**row, "note": str(one)})
                continue
            row |= {"logp": one.total, "tokens": one.tokens, "eos": one.eos, "cut": one.cut, "entropy": one.entropy}
            if states:
                row |= {"state_rows": one.rows, "inner": inner[place][0], "last_inner": inner[place][1]}
            rows.append(row)
    return pl.DataFrame([{name: row.get(name) for name in schema} for row in rows], schema=schema)


_STATES = {"state_rows": pl.Int64, "inner": pl.List(pl.Float64), "last_inner": pl.List(pl.Float64)}
_SCHEMA: dict[str, Any] = {
    "group": pl.UInt32, "text": pl.UInt32, "logp": pl.Float64, "tokens": pl.Int64, "eos": pl.Boolean, "cut": pl.Boolean,
    "entropy": pl.Float64, **_STATES, "note": pl.String,
}  # fmt: skip


def _products(found: Sequence[Scored | PrefdataError]) -> list[tuple[list[float | None], list[float | None]]]:
    """Inner products of each text's summed (and last) states with those of every text of its group."""

    def listed(name: str) -> list[list[float | None]]:
        vectors = [getattr(one, name) if isinstance(one, Scored) else None for one in found]
        return [[None if v is None or u is None else float(v @ u) for u in vectors] for v in vectors]

    return list(zip(listed("total_state"), listed("last_state"), strict=True))


def states_of_pairs(scored: pl.DataFrame) -> pl.DataFrame:
    """What the hidden states say about each ordered pair of a group's texts, the first taken as chosen.

    With s the summed states and r their number (Razin et al., "Unintentional Unalignment", arXiv:2410.08847):

    - ches = <s_w, s_l> - ||s_w||^2. Higher: more alike, so the chosen one is more likely displaced. Neither symmetric nor
      bounded, and of no meaning across models.
    - ln_ches = <s_w, s_l> / (r_w r_l) - ||s_w||^2 / r_w^2, the same of mean states.
    - last_inner, last_cosine: inner product and cosine of the last states.

    Args:
        scored: what `LocalPolicy.score(..., states=True)` gave.

    Returns:
        group, w, l, ches, ln_ches, last_inner, last_cosine; null where a text has no numbers.
    """
    sides = scored.select("group", "text", "state_rows", "inner", "last_inner")
    pairs = sides.join(sides, on="group", suffix="_l", maintain_order="left_right").filter(pl.col("text") != pl.col("text_l"))
    own, other, last = (pl.col(c).list.get(pl.col(i)) for c, i in (("inner", "text"), ("inner", "text_l"), ("last_inner", "text_l")))
    norms = pl.col("last_inner").list.get(pl.col("text")) * pl.col("last_inner_l").list.get(pl.col("text_l"))
    rows, rows_l = pl.col("state_rows"), pl.col("state_rows_l")
    return pairs.select(
        "group", pl.col("text").alias("w"), pl.col("text_l").alias("l"), (other - own).alias("ches"),
        (other / (rows * rows_l) - own / rows**2).alias("ln_ches"), last.alias("last_inner"),
        pl.when(norms > 0).then(last / norms.sqrt()).alias("last_cosine"),
    )  # fmt: skip
