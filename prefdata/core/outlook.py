"""What a routing would do before it is done: who gets how many pairs, what that costs, and what it is expected to gain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from prefdata.core import catalogue, gains, hybrid, routing
from prefdata.core.allocating import HUMAN, LLM, STAY
from prefdata.core.columns import TEXTS, Keys
from prefdata.core.errors import PrefdataError
from prefdata.core.gains import Estimate
from prefdata.core.hybrid import Budget
from prefdata.core.labelling import MACHINES
from prefdata.core.method import Method
from prefdata.core.stats import Ints, Reals
from prefdata.core.store import Store

HYBRID = "hybrid_route"
TIMED, FITTED = 5, 30
"""Timed answers from which their median, and a line over the length of the texts, is taken."""
ASSUMED = 60.0
"""Seconds of a label where no answer was timed."""
_LISTED = 5


@dataclass(frozen=True)
class Costs:
    """What a label costs, and how that is known.

    Attributes:
        seconds, seconds_per_1000_chars: of a person's time.
        usd_each: dollars of an AI label; None: unknown.
        how: two sentences.
    """

    seconds: float
    seconds_per_1000_chars: float
    usd_each: float | None
    how: tuple[str, str]


@dataclass(frozen=True)
class Gain:
    """Right labels that are expected to come about, with a 95 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Outlook:
    """Where the pairs of a store would go.

    Attributes:
        pool: pairs in the store; to_human, to_llm: those that would be asked for; the rest stays as it is.
        minutes, usd: what they would cost.
        right_now: pairs that are expected to have the right label now, by people or else by the AI; None where nothing could be
            learned.
        gain, gain_human, gain_llm: right labels that would come about, in all and by who gives them.
        by_chance: the same for pairs drawn at random under the same budgets.
        bound: the sum of gains that no set within the budgets surpasses, as predicted pair by pair, and `predicted`, that of this
            set; for hybrid_route.
        how: how the gain was estimated, or why it was not.
        first: the rows of the queue that come first.
    """

    router: str
    params: Mapping[str, Any]
    pool: int
    to_human: int
    to_llm: int
    minutes: float
    usd: float
    right_now: float | None
    gain: Gain | None
    gain_human: Gain | None
    gain_llm: Gain | None
    by_chance: Gain | None
    predicted: float | None
    bound: float | None
    how: str
    first: list[dict[str, Any]]


def measured(store: Store) -> Costs:
    """Costs of labels by the answers and judgements that are in the store."""
    kinds = ", ".join(f"'{kind}'" for kind in MACHINES)
    timed = store.frame(
        f"""SELECT x.seconds, (coalesce(pr.chars, 0) + coalesce(a.chars, 0) + coalesce(b.chars, 0)) / 1000 AS length
        FROM live_annotations x JOIN pairs p ON p.id = x.subject JOIN prompts pr ON pr.id = p.prompt_id
        JOIN responses a ON a.id = p.a JOIN responses b ON b.id = p.b
        WHERE x.kind = 'pair' AND x.seconds > 0 AND x.annotator_kind NOT IN ({kinds})"""
    )
    paid = store.rows(
        """SELECT count(*), avg(o.cost) FROM outcomes o WHERE o.state = 'done' AND o.key IN (SELECT key FROM steps
        WHERE shelf = 'judges' QUALIFY row_number() OVER (PARTITION BY method ORDER BY used DESC) = 1)"""
    )[0]
    each, told = (
        (round(float(paid[1]), 6), f"an AI label costs ${paid[1]:.4g}, the mean of {paid[0]:,} judgements") if paid[1] else (None, "")
    )
    base, slope, how = _seconds(timed["seconds"].to_numpy().astype(np.float64), timed["length"].to_numpy().astype(np.float64))
    return Costs(base, slope, each, (how, told or "no judgement here was paid for, so the price of an AI label is unknown"))


def _seconds(seconds: Reals, length: Reals) -> tuple[float, float, str]:
    """Seconds per pair and per 1000 characters, by least squares; the slowest twentieth counts as its fastest."""
    if len(seconds) < TIMED:
        return ASSUMED, 0.0, f"a person's label is taken to need {ASSUMED:.0f} s: {len(seconds)} answers were timed, {TIMED} are needed"
    seconds = np.minimum(seconds, np.quantile(seconds, 0.95))
    middle = round(float(np.median(seconds)), 1)
    if len(seconds) >= FITTED and length.std() > 0:
        slope = float(np.cov(length, seconds, bias=True)[0, 1] / length.var())
        base = float(seconds.mean() - slope * length.mean())
        if slope > 0 and base > 0:
            told = f"a person's label needs {base:.1f} s and {slope:.1f} s per 1,000 characters, by {len(seconds):,} timed answers"
            return round(base, 1), round(slope, 2), told
    return max(middle, 0.1), 0.0, f"a person's label needs {middle:g} s, the median of {len(seconds):,} timed answers"


def outlook(store: Store, router: str, params: Mapping[str, Any], budget: Budget, seed: int = 0) -> Outlook:
    """What `router` would do under a budget, on the newest labels and signals; the store stays as it is.

    Args:
        params: of the router; what the budget decides (most, n, minutes, ...) is filled in.

    Returns:
        The outlook; its `params` give the same queue when the step is run.
    """
    method = catalogue.find("acquire", router)
    bound = method.bind(_budgeted(method, params, budget))
    names = list(
        dict.fromkeys([*routing.columns(method, bound), *catalogue.find("acquire", HYBRID).header["needs"], *bound.get("features", ())])
    )
    keys = Keys.newest(store)
    rel = routing.gathered([name for name in names if name not in TEXTS], keys, ())
    rows = routing.with_texts(store, rel, [name for name in names if name in TEXTS], keys)
    if router == HYBRID:
        learn = {name: bound[name] for name in ("ai", "features", "human_accuracy", "least", "enough")}
        routed = hybrid.route(rows, seed, budget, **learn)
        queue, choice, minutes, best, found = routed.queue, routed.choice, routed.minutes, routed.bound, routed.found
    else:
        given: dict[str, Any] = {**bound, **dict.fromkeys({"most", "n"} & set(bound), rows.height)}
        given |= {"seed": seed} if "seed" in method.handed else {}
        queue = method.load()(rows, **given)
        minutes, best = budget.minutes_of(rows), None
        queue, choice = _cut(rows, queue, minutes, budget, str(bound.get("to", "human")))
        bound |= dict.fromkeys({"most", "n"} & set(bound), queue.height)
        found = gains.estimate(rows, seed, ai=bound.get("ai", ()), features=(), human_accuracy=1.0)
    accuracy = float(bound.get("human_accuracy", 1.0))
    gain = _gained(found, choice, accuracy, seed)
    predicted = found.by_human[choice == HUMAN].sum() + found.by_llm[choice == LLM].sum() if gain and best is not None else None
    return Outlook(
        router=router,
        params=bound,
        pool=rows.height,
        to_human=int((choice == HUMAN).sum()),
        to_llm=int((choice == LLM).sum()),
        minutes=float(minutes[choice == HUMAN].sum()),
        usd=float((choice == LLM).sum() * budget.usd_each),
        right_now=float(np.where(found.truth >= 0, accuracy, 1 - found.wrong).sum()) if gain else None,
        gain=_interval(gain[0] + gain[1]) if gain else None,
        gain_human=_interval(gain[0]) if gain else None,
        gain_llm=_interval(gain[1]) if gain else None,
        by_chance=_by_chance(rows, found, choice, minutes, budget, accuracy, seed) if gain else None,
        predicted=None if predicted is None else float(predicted),
        bound=best,
        how=_how(found, int(bound.get("least", gains.LEAST))),
        first=queue.head(_LISTED).to_dicts(),
    )


def _budgeted(method: Method, params: Mapping[str, Any], budget: Budget) -> dict[str, Any]:
    """Parameters with what the budget says; who sets those twice is told."""
    if method.name == HYBRID:
        own = {name: getattr(budget, name) for name in ("minutes", "usd", "seconds", "seconds_per_1000_chars", "usd_each")}
    else:
        if budget.usd and (budget.minutes or "to" not in method.params):
            raise PrefdataError(
                f"{method.name} spends one budget; give --budget-human or --budget-usd, or take {HYBRID}, which splits both."
            )
        own = {"to": "llm" if budget.usd else "human"} if "to" in method.params else {}
        own |= {"enough": 1} if "enough" in method.params and "enough" not in params else {}
    twice = sorted({*own, "most", "n"} & set(params) - {"enough"})
    if twice:
        raise PrefdataError(
            f"{twice[0]} follows from the budget: leave it out, and give --budget-human, --budget-usd or what a label costs."
        )
    return {**params, **own}


def _cut(rows: pl.DataFrame, queue: pl.DataFrame, minutes: Reals, budget: Budget, to: str) -> tuple[pl.DataFrame, Ints]:
    """The first rows of a queue that the budget pays for, and who gets which pair of the pool."""
    at = {pair: place for place, pair in enumerate(rows["pair_id"])}
    places = np.array([at[pair] for pair in queue["pair_id"]], dtype=np.int64)
    cost, most = (minutes[places], budget.minutes) if to == "human" else (np.full(len(places), budget.usd_each), budget.usd)
    fitting = int(np.searchsorted(np.cumsum(cost), most * (1 + 1e-9), side="right"))
    choice = np.full(rows.height, STAY)
    choice[places[:fitting]] = HUMAN if to == "human" else LLM
    return queue.head(fitting), choice


def _gained(found: Estimate, choice: Ints, human_accuracy: float, seed: int) -> tuple[Reals, Reals] | None:
    """Draws of the right labels that people and the AI would add to pairs that people have not labelled; None: nothing was learned."""
    if found.judged is None:
        return None
    people = np.flatnonzero((choice == HUMAN) & (found.truth < 0))
    judged = people[found.ai[people] >= 0]
    human = gains.selected(found.judged, found.wrong[judged], seed) + (len(people) - len(judged)) - (1 - human_accuracy) * len(people)
    asked = np.flatnonzero((choice == LLM) & ~found.spoke & (found.truth < 0))
    if found.unjudged is None or not len(asked):
        return human, np.zeros(len(human))
    return human, len(asked) - gains.selected(found.unjudged, 1 - found.by_llm[asked], seed + 1)


def _by_chance(rows: pl.DataFrame, found: Estimate, choice: Ints, minutes: Reals, budget: Budget, human_accuracy: float, seed: int) -> Gain:
    """What the same budgets would gain on pairs drawn by chance among those without a label by people, and without one by the AI."""
    candidates = np.flatnonzero(found.truth < 0)
    share = min(1.0, budget.minutes / max(float(minutes[candidates].sum()), 1e-9))
    everyone = np.full(rows.height, STAY)
    everyone[candidates] = HUMAN
    human, _ = _gained(found, everyone, human_accuracy, seed) or (np.zeros(1), np.zeros(1))
    _, llm = _gained(found, np.where(found.spoke, STAY, LLM), human_accuracy, seed) or (np.zeros(1), np.zeros(1))
    part = int((choice == LLM).sum()) / max(1, int((~found.spoke).sum()))
    return _interval(share * human + part * llm)


def _interval(drawn: Reals) -> Gain:
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Gain(float(drawn.mean()), float(low), float(high))


def _how(found: Estimate, least: int) -> str:
    learned = found.judged
    if learned is None:
        return f"unknown: {len(found.both)} pairs have a label by people and one by the AI, and {least} are needed to learn from"
    auc = (
        f"; on pairs held out it ranks a wrong AI label above a right one with chance {learned.auc:.2f}" if learned.auc is not None else ""
    )
    groups = f"in {learned.strata} groups of like predicted chance" if learned.strata > 1 else "as a whole"
    return (
        f"learned from {len(learned.wrong):,} pairs with labels by people and by the AI, wrong on {learned.wrong.mean():.0%} of them"
        f"{auc}; the gain is counted by the error rates of held-out pairs {groups}"
    )
