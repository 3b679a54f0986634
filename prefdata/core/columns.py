"""Columns by name: what a method or a predicate may read of a prompt, a response or a pair, and the SQL behind it.

    pair       pair_id, prompt_id, source, strategy; a_ and b_ (chosen_ and rejected_ once labelled) + id, text, chars,
               model, strategy, role, parents and params (JSON text), score; the prompt's; p_a, p_tie, winner, margin,
               confidence, votes of the newest labels; every signal of the pair by name, of its responses with the side's
               prefix, of its prompt with prompt_
    response   response_id, prompt_id, text, text_hash, chars, model, sample, strategy, role, parents and params (JSON text),
               source, score; the prompt's; signals
    prompt     prompt_id, source; signals
    prompt's   prompt (last message), messages (JSON text), prompt_chars, meta (JSON text), twin

Which labels and signals: those of the run's own steps, else the newest in the store (`Keys`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from prefdata.core.errors import PrefdataError, UnknownName
from prefdata.core.store import Store

LABEL = ("p_a", "p_tie", "winner", "margin", "confidence", "votes")
PROMPT = {
    "prompt": "json_extract_string(pr.messages, '$[#-1].content')",
    "messages": "pr.messages::VARCHAR",
    "prompt_chars": "pr.chars",
    "meta": "pr.meta::VARCHAR",
    "twin": "pr.twin",
    "plain": "pr.plain",
    "prompt_source": "pr.source",
}
_RESPONSE = ("id", "text", "chars", "model", "strategy", "role", "parents", "params", "finish", "tokens_out")
_JSON = ("parents", "params")
"""Columns that are JSON, and are read as its text."""
_SIDED = (*_RESPONSE, "score")
"""What stands behind a_, b_, chosen_ and rejected_, beside the signals of responses."""
_OWN = {
    "pair": {"pair_id": "p.id", "prompt_id": "p.prompt_id", "source": "p.source", "strategy": "p.strategy"},
    "response": {
        "response_id": "r.id",
        "prompt_id": "r.prompt_id",
        "sample": "r.sample",
        "source": "r.source",
        "score": "sc.score",
        "text_hash": "hash(r.text)",
        **{name: f"r.{name}{'::VARCHAR' if name in _JSON else ''}" for name in _RESPONSE if name != "id"},
    },
    "prompt": {"prompt_id": "pr.id", "source": "pr.source"},
}
_ROWS = ("a_row", "b_row", "p_row")
"""Where the texts of a pair's sides, or of the prompt, stand in their tables; for `scan`, no method reads these."""
TEXTS = ("text", "prompt", "messages", "a_text", "b_text", "chosen_text", "rejected_text")
SCORES = """(SELECT subject, avg(score) AS score FROM (
    SELECT subject, annotator_id, avg(score) AS score FROM live_annotations
    WHERE kind = 'response' AND score IS NOT NULL GROUP BY 1, 2) GROUP BY subject)"""
"""Mean over annotators of each annotator's mean score of a response."""
PAIR_SCORES = """(SELECT subject, avg(score_a) AS score_a, avg(score_b) AS score_b FROM live_annotations
    WHERE kind = 'pair' AND score_a IS NOT NULL AND score_b IS NOT NULL GROUP BY subject)"""
"""Mean scores that judgements of a pair gave to its two sides."""


@dataclass
class Keys:
    """Which step's results stand behind a name."""

    labels: str | None = None
    signals: dict[str, tuple[str, str]] = field(default_factory=dict)
    """name -> (key, kind of subject)"""
    filters: list[str] = field(default_factory=list)
    sources: tuple[str, ...] = ()
    """Only rows of these sources; empty: all."""

    @classmethod
    def newest(cls, store: Store) -> Keys:
        keys = cls()
        for key, shelf, gives, kind in store.rows(
            "SELECT key, shelf, gives, params->>'$.subject' FROM steps WHERE shelf IN ('aggregate', 'signals') ORDER BY used"
        ):
            if shelf == "aggregate":
                keys.labels = key
            else:
                keys.signals |= dict.fromkeys(json.loads(gives or "[]"), (key, kind))
        return keys


@dataclass(frozen=True)
class Relation:
    """A SELECT under construction: one row per subject, `id` and `row` first."""

    sql: str
    reads: Mapping[str, str]
    """Names that other steps computed -> the key they came from; part of the reading step's key."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    grows: tuple[str, ...] = ()
    """What else decides its rows: append-only tables, and `judges` for the newest run of each judge."""


class Unready(PrefdataError):
    """A column that some step must compute first."""


def relation(subject: str, names: Iterable[str], keys: Keys) -> Relation:
    """The SELECT that gives `names` for every subject in `keys.sources` that the filters so far have kept."""
    build = _Build(subject, keys)
    selected = [f"{build.expression(name)} AS {quoted(name)}" for name in dict.fromkeys(names)]
    return build.finish(selected)


def known_names(subject: str, keys: Keys) -> list[str]:
    """Every column name that `relation` would accept now."""
    names = [*_OWN[subject], *PROMPT]
    if subject == "pair":
        names += [f"{side}_{name}" for side in ("a", "b", "chosen", "rejected") for name in _SIDED] + list(LABEL)
        names += [f"{side}_{n}" for n, (_, k) in keys.signals.items() if k == "response" for side in ("a", "b", "chosen", "rejected")]
    names += [f"prompt_{n}" for n, (_, k) in keys.signals.items() if k == "prompt"]
    return sorted({*names, *(n for n, (_, k) in keys.signals.items() if k == subject)})


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


class _Build:
    def __init__(self, subject: str, keys: Keys) -> None:
        self.subject, self.keys = subject, keys
        self.joins: dict[str, str] = {}
        self.reads: dict[str, str] = {}
        self.parameters: dict[str, Any] = {}

    def expression(self, name: str) -> str:
        if name in _ROWS:
            return self._row(name)
        if name in _OWN[self.subject]:
            if name == "score":
                self.joins["sc"] = f"LEFT JOIN {SCORES} sc ON sc.subject = r.id"
            return _OWN[self.subject][name]
        if name in PROMPT:
            return self._of_prompt(PROMPT[name])
        if self.subject == "pair":
            found = self._of_pair(name)
            if found:
                return found
        if name in self.keys.signals and self.keys.signals[name][1] == self.subject:
            return self._signal(name, {"pair": "p.id", "response": "r.id", "prompt": "pr.id"}[self.subject])
        bare = name.removeprefix("prompt_")
        if bare != name and self.keys.signals.get(bare, ("", ""))[1] == "prompt":
            self._of_prompt("")
            return self._signal(bare, "pr.id")
        raise UnknownName("column", name, known_names(self.subject, self.keys), f" of a {self.subject}")

    def _row(self, name: str) -> str:
        if name == "p_row":
            return self._of_prompt("pr.rowid")
        side = name[0]
        self.joins.setdefault(f"r{side}", f"JOIN responses r{side} ON r{side}.id = p.{side}")
        return f"r{side}.rowid"

    def _of_prompt(self, expression: str) -> str:
        own = {"pair": "p.prompt_id", "response": "r.prompt_id"}.get(self.subject)
        if own:
            self.joins.setdefault("pr", f"JOIN prompts pr ON pr.id = {own}")
        return expression

    def _of_pair(self, name: str) -> str | None:
        if name in LABEL:
            self._labels(name)
            return f"l.{name}"
        side, _, rest = name.partition("_")
        if side in ("chosen", "rejected") and self._is_sided(rest):
            self._labels(name)
            first, second = self._of_pair(f"a_{rest}"), self._of_pair(f"b_{rest}")
            wins, loses = (first, second) if side == "chosen" else (second, first)
            return f"CASE l.winner WHEN 'a' THEN {wins} WHEN 'b' THEN {loses} END"
        if side not in ("a", "b") or not self._is_sided(rest):
            return None
        if rest == "id":
            return f"p.{side}"
        if rest == "score":
            return self._score(side)
        if rest not in _RESPONSE:
            return self._signal(rest, f"p.{side}", side)
        self.joins.setdefault(f"r{side}", f"JOIN responses r{side} ON r{side}.id = p.{side}")
        return f"r{side}.{rest}{'::VARCHAR' if rest in _JSON else ''}"

    def _is_sided(self, rest: str) -> bool:
        return rest in _SIDED or self.keys.signals.get(rest, ("", ""))[1] == "response"

    def _score(self, side: str) -> str:
        """Scores of both responses where both have one, else those given to the pair's sides: never one of each."""
        for name in ("a", "b"):
            self.joins[f"sc{name}"] = f"LEFT JOIN {SCORES} sc{name} ON sc{name}.subject = p.{name}"
        self.joins["scp"] = f"LEFT JOIN {PAIR_SCORES} scp ON scp.subject = p.id"
        return f"CASE WHEN sca.score IS NOT NULL AND scb.score IS NOT NULL THEN sc{side}.score ELSE scp.score_{side} END"

    def _labels(self, name: str) -> None:
        if self.keys.labels is None:
            raise Unready(f"the column {name!r} needs labels; add an aggregate step (such as majority) before it.")
        self.joins.setdefault("l", "LEFT JOIN labels l ON l.pair_id = p.id AND l.key = $label_key")
        self.parameters["label_key"] = self.keys.labels
        self.reads["labels"] = self.keys.labels

    def _signal(self, name: str, on: str, side: str = "") -> str:
        key, _ = self.keys.signals[name]
        alias = f"s_{side}_{len([j for j in self.joins if j.startswith('s_')])}"
        for known, join in self.joins.items():
            if join.startswith(f"/* {side}.{name} */"):
                return f"{known}.value"
        self.joins[alias] = (
            f"/* {side}.{name} */ LEFT JOIN signals {alias} ON {alias}.subject = {on} "
            f"AND {alias}.key = ${alias}_key AND {alias}.name = ${alias}_name"
        )
        self.parameters |= {f"{alias}_key": key, f"{alias}_name": name}
        self.reads[name] = key
        return f"{alias}.value"

    def finish(self, selected: list[str]) -> Relation:
        base = {"pair": "pairs p", "response": "responses r", "prompt": "prompts pr"}[self.subject]
        alias = base.split()[1]
        where = []
        if self.keys.sources:
            where.append(f"{alias}.source IN (SELECT unnest($sources))")
            self.parameters["sources"] = list(self.keys.sources)
        if self.subject == "pair":
            for number, key in enumerate(self.keys.filters):
                where.append(f"p.id IN (SELECT pair_id FROM decisions WHERE key = $filter_{number} AND reason IS NULL)")
                self.parameters[f"filter_{number}"] = key
                self.reads[f"filter_{number}"] = key
        columns = ", ".join([f"{alias}.id AS id", f"{alias}.rowid AS row", *selected])
        sql = f"SELECT {columns} FROM {base} {' '.join(self.joins.values())}"
        scored = any(join.startswith("LEFT JOIN (SELECT subject, avg(score") for join in self.joins.values())
        grows = (base.split()[0], *(("annotations",) if scored else ()))
        return Relation(sql + (f" WHERE {' AND '.join(where)}" if where else ""), self.reads, self.parameters, grows)
