"""Chunks of a known shape -> the frames that `core/ingest.py` writes. One short function per shape, all vectorised."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl

from prefdata.core.ingest import Batch
from prefdata.core.reading import chat
from prefdata.core.reading.candidates import candidates
from prefdata.core.reading.chat import Chat
from prefdata.core.reading.choices import ALLOWED, choices
from prefdata.core.reading.chunk import Values
from prefdata.core.reading.fields import MISSING, Fields, canonical
from prefdata.core.reading.parts import COMMON, Columns, Parts, finish, prompt_columns
from prefdata.core.reading.shapes import ATTRIBUTES
from prefdata.core.reading.text import describe
from prefdata.core.rows import Reject


def build(fields: Fields, shape: str, kind: str, unread: Sequence[Reject] = ()) -> list[Batch]:
    """The batches of one chunk; every row of it is in a frame or among the rejects, as are the `unread` ones before it."""
    parts, inner = _BUILDERS[shape](fields)
    rejects = [*unread, *fields.chunk.rejects, *(reject for _, reject in fields.refused()), *inner]
    batches = [Batch(part, frame, fields.chunk.file) for part, frame in parts if not frame.is_empty()]
    if rejects:
        first = batches.pop(0) if batches else Batch(kind, pl.DataFrame(), fields.chunk.file)
        batches.insert(0, Batch(first.kind, first.frame, first.file, rejects))
    return batches


def _pairs(f: Fields) -> Parts:
    label, strength, kept = _choice(f)
    scores, score_a, score_b = _two_scores(f)
    return _pair(
        f,
        *_sides(f, f.chat("response_a", "dialogue"), f.chat("response_b", "dialogue"), ("response_a", "response_b"), f.prompt()),
        {"label": label, "strength": strength, "scores": scores, "score_a": score_a, "score_b": score_b},
        kept,
    )


def _arena(f: Fields) -> Parts:
    """Both conversations must be the same up to the last reply; battles that part earlier are not two replies to one prompt."""
    label, strength, kept = _choice(f)
    scores, score_a, score_b = _two_scores(f)
    sides = _sides(f, _dialogue(f, "conversation_a"), _dialogue(f, "conversation_b"), ("conversation_a", "conversation_b"), None)
    return _pair(f, *sides, {"label": label, "strength": strength, "scores": scores, "score_a": score_a, "score_b": score_b}, kept)


def _helpsteer_preference(f: Fields) -> Parts:
    """-3 (the first is much better) to 3 (the second is): strength is minus a third of it, 0 is a tie."""
    value = f.number("label")
    f.refuse(value.abs() > 3, "label", lambda index: f"is {describe(value[index])}; allowed: -3 to 3")
    f.refuse(value.is_null(), "label", MISSING)
    label = pl.select(pl.when(value < 0).then(pl.lit("a")).when(value > 0).then(pl.lit("b")).otherwise(pl.lit("tie"))).to_series()
    sides = _sides(f, f.chat("response_a", "dialogue"), f.chat("response_b", "dialogue"), ("response_a", "response_b"), f.prompt())
    return _pair(f, *sides, {"label": label, "strength": (0 - value) / 3})


def _preference(f: Fields) -> Parts:
    return _chosen(f, f.chat("chosen", "dialogue"), f.chat("rejected", "dialogue"))


def _implicit(f: Fields) -> Parts:
    chosen, rejected = f.chat("chosen", "dialogue"), f.chat("rejected", "dialogue")
    if f.no_prompt is not None or not all(_is_text(f.values(name)) for name in ("chosen", "rejected")):
        return _chosen(f, chosen, rejected)
    prompt, left, right = chat.implicit_texts(chosen.reply.to_list(), rejected.reply.to_list())
    shared = chosen.reply.is_null() | rejected.reply.is_null() | prompt.is_not_null()
    f.refuse(~shared, "rejected", "shares no beginning with chosen that could be the prompt; name the prompt's column with columns=")
    nothing = f.nothing(pl.String)
    return _chosen(f, chosen._replace(reply=left), rejected._replace(reply=right), Chat(prompt, nothing, nothing, nothing, {}))


def _hh(f: Fields) -> Parts:
    sides = []
    for name in ("chosen", "rejected"):
        found = chat.transcripts(f.values(name))
        for index, reason in found.wrong.items():
            f.refuse((index,), name, reason)
        sides.append(found)
    return _chosen(f, *sides)


def _chosen(f: Fields, chosen: Chat, rejected: Chat, prompt: Chat | None = None) -> Parts:
    """Pairs whose first response was preferred. A margin has no bounds, so it stands in `scores` and not in `strength`."""
    more = {
        "label": pl.repeat("a", f.height, dtype=pl.String, eager=True),
        "score_a": f.number("score_a"),
        "score_b": f.number("score_b"),
        "scores": f.json({"margin": f.number("margin")}),
    }
    kept = {}
    if f.has("dialogue") and not _same(f.values("dialogue"), f.values("chosen")):
        kept["messages"] = f.values("dialogue")
    return _pair(f, *_sides(f, chosen, rejected, ("chosen", "rejected"), prompt or f.prompt()), more, kept)


def _pair(f: Fields, prompt: Chat, first: pl.Series, second: pl.Series, more: Columns, kept: Mapping[str, Values] | None = None) -> Parts:
    columns = {
        **f.common(kept),
        **prompt_columns(prompt),
        "response_a": first,
        "response_b": second,
        "model_a": f.word("model_a"),
        "model_b": f.word("model_b"),
        **_who(f),
        **more,
    }
    return [finish(f, "pairs", columns)], []


def _sides(f: Fields, a: Chat, b: Chat, names: tuple[str, str], prompt: Chat | None) -> tuple[Chat, pl.Series, pl.Series]:
    """The prompt and both replies. Where the replies come as whole dialogues, their beginning must be one and the prompt's."""
    for side, name in zip((a, b), names, strict=True):
        f.refuse(side.reply.is_null(), name, MISSING)
    f.refuse((a.reply == "") & (b.reply == ""), names[0], "and the other response are both empty")
    f.refuse(a.canonical.ne_missing(b.canonical), names[1], "parts from the other before its last message: not two replies to one prompt")
    prompt = _with_head(f, f.prompt() if prompt is None else prompt, a, names[0])
    f.need_prompt(prompt)
    return prompt, a.reply, b.reply


def _with_head(f: Fields, prompt: Chat, side: Chat, name: str) -> Chat:
    """The prompt; where there is none, or it is only a part of them, the messages that stand before the reply."""
    if side.canonical.null_count() == f.height:
        return prompt
    own, head = canonical(prompt), side.canonical
    both = pl.DataFrame({"own": own, "head": head})
    longer = both.select(pl.col("own").is_null() | pl.col("head").str.contains(pl.col("own"), literal=True)).to_series().fill_null(False)
    if f.no_prompt is not None:
        longer |= prompt.plain == f.no_prompt
    shorter = both.select(pl.col("own").str.contains(pl.col("head"), literal=True)).to_series().fill_null(True)
    f.refuse(~(longer | shorter), name, "begins with messages that are not the prompt")
    use = longer & head.is_not_null()
    return prompt._replace(
        plain=prompt.plain.set(use, None),
        messages=side.messages.zip_with(use, prompt.messages),
        canonical=head.zip_with(use, prompt.canonical),
    )


def _dialogue(f: Fields, name: str) -> Chat:
    """A column of conversations that end with a reply."""
    found = f.chat(name, "conversation")
    f.refuse(found.reply.is_null() & found.canonical.is_not_null(), name, "does not end with the assistant's reply")
    return found


def _choice(f: Fields, *, lenient: bool = False) -> tuple[pl.Series, pl.Series, dict[str, pl.Series]]:
    """Choice, strength in the a/b frame, and what goes to meta.

    A `strength` column gives the size; the label gives the side, so 0.8 beside b is stored as -0.8. It must not
    contradict the label. For ties it is 0 and else null, and the number as given is kept in meta. A graded word
    (a-is-slightly-better) counts where there is no number.

    Args:
        lenient: an unknown word becomes no choice instead of refusing the row.
    """
    words = f.word("label")
    choice, graded, unknown = choices(words)
    if not lenient:
        f.refuse(unknown, "label", lambda index: f"is {describe(words[index])}; allowed: {ALLOWED}")
    given = f.number("strength")
    f.refuse(given.abs() > 1, "strength", lambda index: f"is {describe(given[index])}; allowed: -1 to 1")
    f.refuse((choice == "a") & (given < 0), "strength", lambda index: f"is {describe(given[index])}, which contradicts the label a")
    frame = pl.DataFrame({"choice": choice, "graded": graded, "given": given})
    side = pl.col("choice").replace_strict({"a": 1.0, "b": -1.0, "tie": 0.0}, default=None, return_dtype=pl.Float64)
    signed = pl.when(pl.col("choice").is_null()).then("given").otherwise(pl.col("given").abs() * side)
    strength = frame.select(pl.coalesce(signed, "graded")).to_series()
    kept = frame.select(pl.when(side.is_null() | (side == 0), pl.col("choice").is_not_null()).then("given")).to_series()
    return choice, strength, {"strength": kept} if kept.null_count() < f.height else {}


def _two_scores(f: Fields) -> tuple[pl.Series, pl.Series, pl.Series]:
    """`scores` as JSON, and score_a, score_b: columns of their own, or the numbers a and b that are all of `scores`."""
    score_a, score_b, values = f.number("score_a"), f.number("score_b"), f.values("scores")
    if isinstance(values, pl.Series):
        values = values.to_list()
    inside = [value if _only_ab(value) else {} for value in values]
    rest = [None if not value or pair else value for value, pair in zip(values, inside, strict=True)]
    found_a, found_b = (pl.Series([pair.get(side) for pair in inside], dtype=pl.Float64, strict=False) for side in "ab")
    return f.json({"scores": rest}, flatten="scores"), score_a.fill_null(found_a), score_b.fill_null(found_b)


def _only_ab(value: Any) -> bool:
    if not isinstance(value, dict) or not value.keys() <= {"a", "b"}:
        return False
    return all(type(part) in (int, float) and abs(part) < float("inf") for part in value.values())


def _votes(f: Fields) -> Parts:
    """Votes are a person's where they do not say otherwise; a number as the label rates one response."""
    choice, strength, kept = _choice(f, lenient=True)
    rated = _ratings(f, kept)
    words = f.word("label")
    f.refuse(words.is_null(), "label", MISSING)
    strange = words.is_not_null() & choice.is_null() & rated["score"].is_null()
    f.refuse(strange, "label", lambda index: f"is {describe(words[index])}; allowed: {ALLOWED}, or a number that rates one response")
    kind = f.word("annotator_kind").fill_null("human")
    return _annotation(f, f.word("annotator_id", required=True), choice, strength, kept, {"annotator_kind": kind, **rated})


def _judgments(f: Fields) -> Parts:
    """The annotator is judge/method. What the judge's label says is unreadable where null or no known word: no choice, raw kept."""
    choice, strength, kept = _choice(f, lenient=True)
    rated = _ratings(f, kept)
    judge, method, words = f.word("judge", required=True), f.word("method"), f.word("label")
    who = pl.select(pl.when(method.is_null()).then(judge).otherwise(pl.concat_str(judge, pl.lit("/"), method))).to_series()
    raw_label, raw = f.word("raw_label"), f.word("raw")
    kept["raw_label"] = raw_label.set(raw.is_null(), None)
    raw = raw.fill_null(raw_label).fill_null(words.set(choice.is_not_null() | rated["score"].is_not_null(), None))
    kind = f.word("annotator_kind").fill_null("llm")
    return _annotation(f, who, choice, strength, kept, {"raw": raw, "annotator_kind": kind, **rated})


def _ratings(f: Fields, kept: Columns) -> Columns:
    """`score` where the label is a number, and under the name of its aspect, where it has one, in `scores`; else that name is kept."""
    words, aspect = f.word("label"), f.word("aspect")
    score = words.str.extract(r"^\s*(-?\d+(?:\.\d+)?)\s*$").cast(pl.Float64)
    named = [None if a is None or s is None else json.dumps({a: s}, ensure_ascii=False) for a, s in zip(aspect, score, strict=True)]
    kept["aspect"] = aspect.set(score.is_not_null(), None)
    return {"score": score, "scores": pl.Series(named, dtype=pl.String)}


def _annotation(
    f: Fields, who: pl.Series, choice: pl.Series, strength: pl.Series, kept: dict[str, pl.Series], more: Columns | None = None
) -> Parts:
    shown = f.word("shown").str.to_lowercase()
    f.refuse(~shown.is_in(["ab", "ba"]), "shown", lambda index: f"is {describe(shown[index])}; allowed: ab, ba")
    ref, sample = f.word("item_id", required=True), f.number("sample")
    seconds, created, times = _times(f)
    columns = {
        **f.common({**kept, **times}),
        "item_id": f.nothing(pl.String),
        "ref": ref,
        "model_a": f.word("model_a"),
        "model_b": f.word("model_b"),
        "label": choice,
        "strength": strength,
        **_who(f),
        "annotator_id": who,
        "shown": shown,
        "seconds": seconds,
        "created": created,
        "sample": sample.cast(pl.Int64, strict=False),
        "raw": f.word("raw"),
        **(more or {}),
    }
    return [finish(f, "annotations", columns)], []


def _times(f: Fields) -> tuple[pl.Series, pl.Series, dict[str, pl.Series]]:
    """Seconds taken, when it ended, and what of the times is in neither (it goes to meta)."""
    (started, began), (ended, end) = _time(f.word("started")), _time(f.word("ended"))
    given, taken = f.number("seconds"), (end - began).dt.total_milliseconds() / 1000
    kept = {"started": started.set(given.is_null() & taken.is_not_null(), None), "ended": ended.set(end.is_not_null(), None)}
    return given.fill_null(taken), end.dt.strftime("%Y-%m-%d %H:%M:%S%.6f"), kept


def _time(words: pl.Series) -> tuple[pl.Series, pl.Series]:
    """The words, and the times they name; null where they name none."""
    plain = words.str.replace(r"^(\S{10})T", "${1} ").str.replace(r"\s*(Z|UTC|\+00:?00)$", "")
    return words, plain.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", strict=False, time_unit="us")


def _unpaired(f: Fields) -> Parts:
    return _single(f, f.flag("label"), f.nothing(pl.String))


def _helpsteer(f: Fields) -> Parts:
    """`score` is helpfulness, the attribute that stands for the whole; all attributes stand in `scores`."""
    rated = {name: f.number(name) for name in ATTRIBUTES if f.has(name)}
    return _single(f, rated.get("helpfulness", f.nothing(pl.Float64)), f.json(rated))


def _responses(f: Fields) -> Parts:
    return _single(f, f.number("score"), f.json({"scores": f.values("scores")}, flatten="scores"))


def _single(f: Fields, score: pl.Series, scores: pl.Series) -> Parts:
    reply = f.chat("completion", "dialogue")
    f.refuse(reply.reply.is_null(), "completion", MISSING)
    prompt = _with_head(f, f.prompt(), reply, "completion")
    f.need_prompt(prompt)
    return [finish(f, "responses", _response(f, prompt, reply.reply, {"score": score, "scores": scores}))], []


def _response(f: Fields, prompt: Chat, text: pl.Series, more: Columns) -> Columns:
    sample = f.number("sample").cast(pl.Int64, strict=False)
    who = {name: series for name, series in _who(f).items() if name in ("annotator_id", "annotator_kind")}
    return {**f.common(), **prompt_columns(prompt), "text": text, "model": f.word("model"), "sample": sample, **who, **more}


def _messages(f: Fields) -> Parts:
    found = f.chat("messages", "conversation")
    f.refuse(found.canonical.is_null() & found.reply.is_null(), "messages", MISSING)
    f.refuse(found.canonical.is_null(), "messages", "holds a reply and no prompt before it")
    made = _response(f, found, found.reply, {"has_reply": found.reply.is_not_null()})
    _, frame = finish(f, "responses", made)
    answered, alone = frame.filter("has_reply").drop("has_reply"), frame.filter(~pl.col("has_reply"))
    return [("responses", answered), ("prompts", alone.select(*COMMON, "prompt", "messages", "canonical"))], []


def _prompts(f: Fields) -> Parts:
    prompt = f.prompt()
    f.need_prompt(prompt)
    f.refuse(prompt.plain == "", "prompt", "is empty: nothing to answer")
    return [finish(f, "prompts", {**f.common(), **prompt_columns(prompt)})], []


def _who(f: Fields) -> Columns:
    words: dict[str, Any] = {name: f.word(name) for name in ("annotator_id", "annotator_kind", "annotator_group")}
    return {**words, "rationale": f.text("rationale")}


def _same(left: Values, right: Values) -> bool:
    """Whether two columns hold the same values, so that one of them need not be kept."""
    if isinstance(left, pl.Series) and isinstance(right, pl.Series):
        return left.equals(right)
    return left == right if isinstance(left, list) and isinstance(right, list) else False


def _is_text(values: Any) -> bool:
    return isinstance(values, pl.Series) and values.dtype == pl.String


_BUILDERS: dict[str, Callable[[Fields], Parts]] = {
    "judgments": _judgments,
    "annotations": _votes,
    "arena": _arena,
    "helpsteer_preference": _helpsteer_preference,
    "pairs": _pairs,
    "hh": _hh,
    "preference": _preference,
    "implicit": _implicit,
    "ultrafeedback": candidates,
    "candidates": candidates,
    "unpaired": _unpaired,
    "helpsteer": _helpsteer,
    "responses": _responses,
    "messages": _messages,
    "prompts": _prompts,
}
