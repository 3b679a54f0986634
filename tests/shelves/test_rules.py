"""Every kind of constraint, met and broken; text helpers; hostile input."""

from __future__ import annotations

import time
from typing import Any

import pytest

from prefdata.core import text
from prefdata.core.errors import PrefdataError
from prefdata.core.rows import Abstained, Prompt, Response, Score, as_messages
from prefdata.judges.rules import _CHECKS, rules


def judged(answer: str, *constraints: Any) -> Score | Abstained:
    return rules(Response(Prompt(as_messages("q"), meta={"constraints": list(constraints)}), answer))


CASES: list[tuple[dict[str, Any], str, str]] = [
    ({"kind": "max_words", "n": 3}, "well-known, don't stop", "one two three four"),
    ({"kind": "min_words", "n": 3}, "a b c", "a - b"),
    ({"kind": "max_words", "n": 2}, "你好", "你好吗"),
    ({"kind": "max_sentences", "n": 1}, "It costs 3.5 euros, e.g. here, says Dr. Lee.", "One. Two."),
    ({"kind": "max_sentences", "n": 1}, '"Why?" he asked.', "Why? He asked."),
    ({"kind": "max_sentences", "n": 1}, "<<A title>>\n\nOne sentence.", "# No title\n\nOne. Two"),
    ({"kind": "min_sentences", "n": 2}, "- first point\n- second point", "first point and\nsecond point"),
    ({"kind": "min_sentences", "n": 2}, "今天很热。明天下雨！", "今天很热"),
    ({"kind": "paragraphs", "n": 2}, "one\n\ntwo", "one\ntwo"),
    ({"kind": "bullets", "n": 2}, "- a\n* b\nc", "- a\n-b"),
    ({"kind": "numbered", "n": 2}, "1. a\n2) b", "1. a\n2, b"),
    ({"kind": "include", "words": ["red fox", "Den"]}, "A RED\nFOX left its den.", "A red-fox left its den."),
    ({"kind": "include", "words": ["猫"]}, "一只猫睡着了", "一只狗"),
    ({"kind": "exclude", "words": ["cat"]}, "concatenate", "The cat."),
    ({"kind": "json", "keys": ["a"]}, '```json\n{"a": 1, "b": 2}\n```', '{"b": 2}'),
    ({"kind": "json"}, "[1, 2]", "Here it is: [1, 2]"),
    ({"kind": "json", "keys": ["a"]}, '{"a": null}', '["a"]'),
    ({"kind": "json"}, '{"a": 1.5}', '{"a": NaN}'),
    ({"kind": "starts_with", "text": "Dear Ann"}, "  dear ann, hello", "My dear Ann"),
    ({"kind": "ends_with", "text": "Bye."}, "So long. Bye.\n", "Bye. So long."),
    ({"kind": "language", "code": "de-AT"}, "Das ist nicht der Zug, den wir suchen.", "This is not the train that we look for."),
    ({"kind": "lowercase"}, "no capitals here, 1 2", "One capital"),
    ({"kind": "uppercase"}, "LOUD 1!", "LOUd"),
    ({"kind": "lowercase"}, "x", "12"),
    ({"kind": "no_commas"}, "none at all", "one, two"),
    ({"kind": "title"}, "<<On snow>>\ntext", "<On snow>"),
    ({"kind": "contains_code"}, "See:\n```python\nx = 1\n```", "See ```x = 1"),
    ({"kind": "quoted"}, '"all of it"', '"half" of it'),
    ({"kind": "ends_question"}, 'He asks "why?"', "Why? Because."),
]


@pytest.mark.parametrize(("constraint", "good", "bad"), CASES, ids=lambda value: value["kind"] if isinstance(value, dict) else "")
def test_kinds(constraint: dict[str, Any], good: str, bad: str) -> None:
    met, broken = judged(good, constraint), judged(bad, constraint)
    assert isinstance(met, Score)
    assert met.value == 1.0, met.rationale
    assert isinstance(broken, Score)
    assert broken.value == 0.0
    assert f"{constraint['kind']} broken: " in str(broken.rationale)


def test_every_kind_has_a_case() -> None:
    assert {constraint["kind"] for constraint, _, _ in CASES} == set(_CHECKS)


def test_the_same_kind_twice_is_counted_twice() -> None:
    found = judged("red", {"kind": "include", "words": ["red"]}, {"kind": "include", "words": ["blue"]})
    assert isinstance(found, Score)
    assert (found.value, dict(found.scores)) == (0.5, {"include": True, "include_2": False})


@pytest.mark.parametrize(
    ("constraint", "words"),
    [
        ("max_words", "has no kind"),
        ({"kind": 3}, "has no kind"),
        ({"kind": "max_words", "n": -1}, "it must be a whole number from 0"),
        ({"kind": "max_words", "n": True}, "it must be a whole number from 0"),
        ({"kind": "include", "words": "red"}, "it must be a list of words"),
        ({"kind": "include", "words": []}, "it must be a list of words"),
        ({"kind": "starts_with", "text": " "}, "it must be a text"),
        ({"kind": "language", "code": "German!"}, "it must be a language code"),
        ({"kind": "max_words", "n": 3, "m": 4}, "unknown field 'm'"),
    ],
)
def test_malformed_constraints_are_named(constraint: Any, words: str) -> None:
    with pytest.raises(PrefdataError, match=words):
        judged("x", constraint)


def test_constraints_that_are_no_list() -> None:
    with pytest.raises(PrefdataError, match="it must be a list"):
        rules(Response(Prompt(as_messages("q"), meta={"constraints": {"kind": "title"}}), "x"))
    assert isinstance(rules(Response(Prompt(as_messages("q"), meta={"constraints": []}), "x")), Abstained)


def test_a_language_that_cannot_be_told_apart_is_left_out() -> None:
    found = judged("Habari ya asubuhi", {"kind": "language", "code": "sw"}, {"kind": "lowercase"})
    assert isinstance(found, Score)
    assert dict(found.scores) == {"lowercase": False}
    assert "'sw' is not among the languages that can be told apart" in str(found.rationale)


LANGUAGES = {
    "en": "The train leaves at eight and does not arrive before ten.",
    "de": "Ich habe heute keine Zeit, aber morgen können wir uns treffen.",
    "fr": "Je n'ai pas le temps aujourd'hui, mais demain nous pouvons nous voir.",
    "es": "Hoy no tengo tiempo, pero mañana podemos vernos.",
    "it": "Il treno parte alle otto e non arriva prima delle dieci.",
    "pt": "Hoje não tenho tempo, mas amanhã podemos nos ver.",
    "nl": "De trein vertrekt om acht uur en komt niet voor tien uur aan.",
    "sv": "Jag har inte tid idag, men vi kan ses i morgon.",
    "da": "Toget kører klokken otte og kommer ikke frem før ti.",
    "pl": "Dzisiaj nie mam czasu, ale jutro możemy się spotkać.",
    "cs": "Dnes nemám čas, ale zítra se můžeme sejít.",
    "ro": "Trenul pleacă la opt și nu ajunge înainte de zece.",
    "tr": "Bugün vaktim yok ama yarın buluşabiliriz.",
    "fi": "Minulla ei ole tänään aikaa, mutta huomenna voimme tavata.",
    "hu": "A vonat nyolckor indul, és nem érkezik meg tíz előtt.",
    "id": "Hari ini saya tidak ada waktu, tetapi besok kita bisa bertemu.",
    "vi": "Hôm nay tôi không có thời gian nhưng ngày mai chúng ta có thể gặp nhau.",
    "ru": "Поезд отправляется в восемь и прибывает не раньше десяти.",
    "uk": "Потяг вирушає о восьмій і прибуває не раніше десятої.",
    "zh": "火车八点出发,十点以前不会到。",
    "ja": "電車は八時に出て、十時前には着きません。",
    "ko": "기차는 여덟 시에 출발합니다.",
    "ar": "القطار يغادر في الثامنة ولا يصل قبل العاشرة.",
    "hi": "ट्रेन आठ बजे निकलती है और दस बजे से पहले नहीं पहुँचती।",
    "el": "Το τρένο φεύγει στις οκτώ.",
}


@pytest.mark.parametrize("code", LANGUAGES)
def test_language(code: str) -> None:
    assert text.language(LANGUAGES[code]) == code
    assert text.language(f"```\nthe code and the code of it\n```\n{LANGUAGES[code]}") == code


@pytest.mark.parametrize("given", ["", "42", "Paris", "Tokyo Berlin Lima", "lorem ipsum dolor sit amet", "```\nfor the in of to\n```"])
def test_language_says_when_it_is_not_sure(given: str) -> None:
    assert text.language(given) is None


def test_hostile_texts_take_no_time() -> None:
    """Long runs that make careless patterns go over the text again and again."""
    size = 50_000
    bad = ["." * size + "x", ".'" * size + "x", "```x\n" * size, " " * size + "x", "\n " * size, "<<" + "a" * size, "<<a" * size]
    kinds = [constraint for constraint, _, _ in CASES]
    started = time.process_time()
    for given in bad:
        judged(given, *kinds)
    assert time.process_time() - started < 10
