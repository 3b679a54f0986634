"""Signals of texts: against plain loops, in many scripts, on hostile and empty input."""

from __future__ import annotations

import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefdata.core import langid, markup, pii, shingles, text
from prefdata.core.errors import NeedsExtra, PrefdataError
from prefdata.core.refusals import WITHIN, is_refusal
from prefdata.signals.compression import compression
from prefdata.signals.contamination import contamination
from prefdata.signals.language import language
from prefdata.signals.ngram_overlap import ngram_overlap
from prefdata.signals.pii import pii as pii_signal
from prefdata.signals.relevance import relevance
from prefdata.signals.repetition import repetition
from prefdata.signals.toxicity import toxicity

words = st.text(alphabet="ab Bé猫か.\n", max_size=14)
columns = st.lists(st.one_of(st.none(), words), max_size=6)


def plain_words(given_text: str | None) -> list[str]:
    """What `shingles.words` cuts, by a plain loop over the alphabet above."""
    out, word = [], ""
    for sign in (given_text or "").lower() + " ":
        if sign in "abé":
            word += sign
            continue
        out += [word] if word else []
        out += [sign] if sign in "猫か" else []
        word = ""
    return out


def texts(*listed: str | None) -> pl.Series:
    return pl.Series("text", listed, dtype=pl.String)


def by_text(hashed: shingles.Hashed) -> list[list[int]]:
    return [hashed.hashes[low:high].tolist() for low, high in pairwise(hashed.starts.tolist())]


@settings(max_examples=200, deadline=None)
@given(column=columns)
def test_words_are_those_of_the_loop(column: list[str | None]) -> None:
    cut = by_text(shingles.words(texts(*column)))
    expected = [plain_words(one) for one in column]
    assert [len(one) for one in cut] == [len(one) for one in expected]
    hash_of: dict[str, int] = {}
    for got, want in zip(cut, expected, strict=True):
        for number, word in zip(got, want, strict=True):
            assert hash_of.setdefault(word, number) == number
    assert len(set(hash_of.values())) == len(hash_of)


@settings(max_examples=100, deadline=None)
@given(column=columns, n=st.integers(1, 8), short=st.booleans())
def test_ngrams_are_those_of_the_loop(column: list[str | None], n: int, short: bool) -> None:
    cut = by_text(shingles.ngrams(shingles.words(texts(*column)), n, short=short))
    hash_of: dict[tuple[str, ...], int] = {}
    for got, one in zip(cut, column, strict=True):
        own = plain_words(one)
        grams = [tuple(own[k : k + n]) for k in range(len(own) - n + 1)]
        if short and own and not grams:
            grams = [tuple(own)]
        assert len(got) == len(grams)
        for number, gram in zip(got, grams, strict=True):
            assert hash_of.setdefault(gram, number) == number
    assert len(set(hash_of.values())) == len(hash_of)


@pytest.mark.parametrize(
    ("given_text", "count"),
    [
        ("", 0),
        ("don't stop_me 42", 4),  # don, t, stop_me, 42
        ("Grüße, Ελλάδα und Москва!", 4),
        ("你好，世界。", 4),
        ("カタカナとひらがな", 9),
        ("안녕하세요 세계", 2),
        ("สวัสดี", 6),
        ("नमस्ते दुनिया", 2),
        ("مرحبا بالعالم", 2),
        ("“quoted” — dash…", 2),
        ("zero\u200bwidth no\u00a0break", 4),
        ("ｆｕｌｌ　ｗｉｄｔｈ！", 2),
        ("👍🏽 ok 👨\u200d👩", 5),  # an emoji is a word, and so is its colour
        ("\ufeffmark", 1),
        ("x" * 100_000, 1),
    ],
)
def test_words_in_many_scripts(given_text: str, count: int) -> None:
    assert shingles.words(texts(given_text)).counts.tolist() == [count]


def test_letter_case_does_not_count_beyond_ascii() -> None:
    upper, lower = by_text(shingles.words(texts("ÉCOLE МОСКВА", "école москва")))
    assert upper == lower


def test_long_words_are_told_apart_by_both_ends_and_length() -> None:
    long = ["a" * 200, "a" * 201, "a" * 199 + "b", "b" + "a" * 199, "a" * 64, "a" * 65, "a" * 8, "a" * 9, "a" * 16, "a" * 17]
    assert len({one[0] for one in by_text(shingles.words(texts(*long)))}) == len(long)


def test_a_sliced_column_is_its_own() -> None:
    column = texts("one two", "three", None, "four five six")
    assert by_text(shingles.words(column.slice(1, 3))) == by_text(shingles.words(column))[1:]
    assert by_text(shingles.column(column)) == by_text(shingles.words(column))


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    column = texts(*[f"text {n} " * (n % 7) for n in range(100)])
    whole = by_text(shingles.words(column))
    monkeypatch.setattr(shingles, "BLOCK_BYTES", 64)
    monkeypatch.setattr(shingles, "CHUNK", 3)
    assert by_text(shingles.column(column)) == whole
    both = shingles.common(shingles.column(column), shingles.column(column.shift(1)))
    assert both.both.tolist()[2] == 1  # "text"
    assert both.left.tolist()[6] == 2


@settings(max_examples=150, deadline=None)
@given(pairs=st.lists(st.tuples(words, words), min_size=1, max_size=4), n=st.integers(1, 3))
def test_ngram_overlap_is_that_of_the_loop(pairs: list[tuple[str, str]], n: int) -> None:
    def grams(one: str) -> set[tuple[str, ...]]:
        cut = plain_words(one)
        return {tuple(cut[k : k + n]) for k in range(len(cut) - n + 1)}

    rows = pl.DataFrame({"a_text": [a for a, _ in pairs], "b_text": [b for _, b in pairs]})
    found = ngram_overlap(rows, n=n)["ngram_overlap"].to_list()
    swapped = ngram_overlap(rows.select(a_text="b_text", b_text="a_text"), n=n)["ngram_overlap"].to_list()
    for (a, b), got in zip(pairs, found, strict=True):
        union = grams(a) | grams(b)
        assert got == (pytest.approx(len(grams(a) & grams(b)) / len(union)) if union else None)
    assert found == swapped


@settings(max_examples=150, deadline=None)
@given(column=st.lists(words, min_size=1, max_size=4), n=st.integers(1, 3))
def test_repetition_is_that_of_the_loop(column: list[str], n: int) -> None:
    found = repetition(pl.DataFrame({"text": column}), n=n)
    for one, (grams_got, lines_got) in zip(column, found.iter_rows(), strict=True):
        cut = plain_words(one)
        grams = Counter(tuple(cut[k : k + n]) for k in range(len(cut) - n + 1))
        lines = Counter(line.strip() for line in one.split("\n") if line.strip())
        assert grams_got == (pytest.approx(1 - len(grams) / grams.total()) if grams else None)
        assert lines_got == (pytest.approx(1 - len(lines) / lines.total()) if lines else None)


def test_compression_tells_a_loop_from_prose() -> None:
    prose = "Bread rises because yeast turns sugar into gas, and the dough holds that gas in thousands of small bubbles."
    found = compression(pl.DataFrame({"text": ["and so on, " * 200, prose, "", None, "猫"]}))["compression_ratio"].to_list()
    assert found[0] > 20
    assert 0.9 < found[1] < 2
    assert found[2:] == [None, None, 1]


@pytest.mark.parametrize("method", [ngram_overlap, repetition])
@pytest.mark.parametrize("n", [0, 21])
def test_n_has_bounds(method: Any, n: int) -> None:
    with pytest.raises(PrefdataError, match=f"n is {n}; allowed: 1 to 20"):
        method(pl.DataFrame({"text": ["x"], "a_text": ["x"], "b_text": ["y"]}), n=n)


@pytest.mark.parametrize("method", [repetition, compression, pii_signal, toxicity])
def test_no_rows_give_no_rows(method: Any) -> None:
    assert method(pl.DataFrame({"text": []}, schema={"text": pl.String})).height == 0


PROSE = {
    "en": "The weather was so nice that they went to the park with all of their friends.",
    "de": "Das Wetter war so schön, dass wir mit unseren Freunden in den Park gegangen sind, und es war nicht kalt.",
    "fr": "Le temps était si beau que nous sommes allés au parc avec des amis pour y manger.",
    "es": "El tiempo era tan bueno que fuimos al parque con los amigos para comer y no volver hasta la noche.",
    "it": "Il tempo era così bello che siamo andati al parco con gli amici per mangiare, ma non era caldo.",
    "pt": "O tempo estava tão bom que fomos ao parque com os amigos para comer, mas não estava quente.",
    "nl": "Het weer was zo mooi dat we met onze vrienden naar het park zijn gegaan en het was niet koud.",
    "ru": "Погода была такая хорошая, что мы пошли в парк с друзьями.",
    "uk": "Погода була така гарна, що ми пішли до парку з друзями, і це було як свято.",
    "zh": "天气很好，所以我们和朋友们一起去了公园。",
    "ja": "天気がとてもよかったので、友だちと公園に行きました。",
    "ko": "날씨가 너무 좋아서 친구들과 함께 공원에 갔습니다.",
    "ar": "كان الطقس جميلا جدا فذهبنا إلى الحديقة مع الأصدقاء.",
    "fa": "هوا خیلی خوب بود پس با دوستان به پارک رفتیم و چیزی خوردیم.",
    "hi": "मौसम बहुत अच्छा था इसलिए हम दोस्तों के साथ पार्क में गए और यह एक अच्छा दिन था।",
    "el": "Ο καιρός ήταν τόσο καλός που πήγαμε στο πάρκο με φίλους.",
    "he": "מזג האוויר היה כל כך יפה שהלכנו לפארק עם חברים.",
    "th": "อากาศดีมากเราจึงไปสวนสาธารณะกับเพื่อน",
}


def test_languages_of_ordinary_prose() -> None:
    assert langid.languages(texts(*PROSE.values())).to_list() == list(PROSE)


def test_languages_agree_with_the_guess_for_one_text() -> None:
    assert [text.language(one) for one in PROSE.values()] == langid.languages(texts(*PROSE.values())).to_list()


@pytest.mark.parametrize("unclear", ["", " ", "42", "OK", "\u200b", "😊", "$S = 3 + 2S$, $S$, $S$", "E | A | E | B7 | E | A", None])
def test_languages_are_null_where_nobody_knows(unclear: str | None) -> None:
    assert langid.languages(texts(unclear)).to_list() == [None]


def test_code_has_no_language_but_the_prose_around_it_has() -> None:
    code = "```python\nfor the in and_of: return that  # this is not what it is\n```"
    assert langid.languages(texts(code, code + "\n" + PROSE["de"])).to_list() == [None, "de"]


def test_apostrophes_stay_in_words() -> None:
    assert langid.languages(texts("It's Sam's and Kim's; it's not what they've asked for, it's theirs.")).to_list() == ["en"]


def test_language_knows_its_codes() -> None:
    with pytest.raises(PrefdataError, match="unknown language 'english'"):
        language(pl.DataFrame({"prompt": ["x"], "text": ["y"]}), expect="english")


@settings(max_examples=100, deadline=None)
@given(column=st.lists(st.text(max_size=40), max_size=5))
def test_any_text_is_looked_at_without_harm(column: list[str]) -> None:
    held = texts(*column)
    assert set(langid.languages(held).drop_nulls()) <= text.known_languages()
    for frame in (pii.counts(held), markup.counts(held)):
        assert frame.height == len(column)
        assert frame.null_count().sum_horizontal().to_list() == [0]
    assert [found is None for found in is_refusal(held)] == [not one.strip() for one in column] or any(
        "\x1c" <= s <= "\x1f" for s in "".join(column)
    )


@pytest.mark.parametrize(
    ("given_text", "kind", "count"),
    [
        ("one\n# two\n## three #\n#four\n####### seven", "headings", 2),
        ("- a\n  * b\n+ c\n\u2022 d\n-e\n--- \n", "bullets", 4),
        ("1. a\n 2) b\n1999. c\n10.5 d", "numbered", 2),
        ("**a** and **b c**, __d__, 2**3**4, 5 ** 6", "bold", 4),
        ("a | b\n- | -\n1 | 2", "tables", 1),
        ("---\n\n***", "tables", 0),
        ("```\nx\n```\n\n````md\ny\n````\n```", "code_blocks", 2),
        ("```js\r\nx\r\n```\r\n", "code_blocks", 1),
    ],
)
def test_markup_by_hand(given_text: str, kind: str, count: int) -> None:
    assert markup.counts(texts(given_text))[kind].to_list() == [count]


def test_markup_of_null_is_null() -> None:
    assert markup.counts(texts(None)).row(0) == (None,) * len(markup.KINDS)


@pytest.mark.parametrize(
    ("given_text", "kind", "count"),
    [
        ("a.b+c@mail.example.co.uk and A@B.de.", "email", 2),
        ("me@example.com you@yourdomain.com x@foo.test a@b", "email", 0),
        ("user@@host.com", "email", 0),
        ("+44 20 7946 0958, (212) 736-5000, 212-736-5000, 1-800-356-9377", "phone", 4),
        ("(212) 555-0199, 555-0199, 123-456-7890, +1 123 456 7890, 12-34-56", "phone", 0),
        ("GB82 WEST 1234 5698 7654 32, FR1420041010050500013M02606 AND MORE", "iban", 2),
        ("GB82 WEST 1234 5698 7654 33, DE89 3704 0044 0532 0130, ZZ89 3704 0044 0532 0130 00", "iban", 0),
        ("5500-0055-5555-5559, 378282246310005, 3782 822463 10005, 6011111111111117", "card", 4),
        ("4111 1111 1111 1112, 1234567812345670, 41111111111111110000000, 4111-1111 11111111", "card", 0),
        ("8.8.8.8, 1.1.1.1:80, 2001:0db8:85a3:0000:0000:8a2e:0370:7334", "ip", 3),
        ("10.1.2.3 127.0.0.1 192.168.1.1 172.16.0.1 256.1.1.1 1.2.3 1.2.3.4.5 192.0.2.7", "ip", 0),
        ("536-90-4399", "ssn", 1),
        ("000-12-3456 666-12-3456 900-12-3456 536-00-4399 536-90-0000 1536-90-4399 536-90-43990", "ssn", 0),
        ("AKIAIOSFODNN7EXAMPLE, ghp_" + "a1" * 18 + ", sk-proj-" + "x" * 30, "secret", 3),
        ("sk-short, task-" + "x" * 30 + " -----BEGIN PUBLIC KEY-----", "secret", 0),
        ("-----BEGIN RSA PRIVATE KEY-----", "secret", 1),
        ("٤١١١١١١١١١١١١١١١ ４１１１ １１１１ １１１１ １１１１", "card", 0),  # digits of other scripts
    ],
)
def test_pii_by_hand(given_text: str, kind: str, count: int) -> None:
    assert pii.counts(texts(given_text))[kind].to_list() == [count]


@settings(max_examples=100, deadline=None)
@given(number=st.text(alphabet="0123456789", min_size=15, max_size=15), place=st.integers(0, 14), change=st.integers(1, 9))
def test_luhn_finds_every_single_wrong_digit(number: str, place: int, change: int) -> None:
    check = str(-sum(sum(divmod(int(d) * 2, 10)) if k % 2 == 0 else int(d) for k, d in enumerate(number)) % 10)
    right = number + check
    wrong = right[:place] + str((int(right[place]) + change) % 10) + right[place + 1 :]
    assert pii._luhn(texts(right, wrong)).to_list() == [True, False]


@pytest.mark.parametrize(
    "declining",
    [
        "I cannot assist with that request.",
        "I’m sorry, but I’m not able to help you do anything illegal.",
        "As a language model, I can't condone violence.",
        "Unfortunately, I won't be able to help with this.",
        "I must respectfully decline.",
        "No, I'm just an AI.",
        "Je suis désolé, mais je ne peux pas vous aider.",
        "Lo siento, no puedo ayudar con eso.",
        "Mi dispiace, non posso aiutarti.",
        "Desculpe, não posso ajudar com isso.",
        "Sorry, ik kan je daar helaas niet mee helpen.",
        "К сожалению, я не могу помочь с этим.",
        "抱歉，我无法提供这方面的帮助。",
        "申し訳ありませんが、お手伝いできません。",
        "I  AM\nSORRY, BUT I CANNOT HELP.",
    ],
)
def test_refusals(declining: str) -> None:
    assert is_refusal(texts(declining)).to_list() == [True]


@pytest.mark.parametrize(
    "helpful",
    [
        "I'm sorry to hear that. Try tea.",
        "I can't wait to tell you!",
        "I cannot stress enough how useful this is.",
        "I wouldn't recommend driving after two beers.",
        "Sorry, I didn't understand. Can you say that again?",
        "You can't help everyone.",
        "As an AI language model, I can explain both.",
        "Das ist nicht schwer.",
        "x" * WITHIN + " I cannot help with that.",
    ],
)
def test_no_refusals(helpful: str) -> None:
    assert is_refusal(texts(helpful)).to_list() == [False]


def test_refusal_of_nothing_is_unknown() -> None:
    assert is_refusal(texts(None, "", " \n")).to_list() == [None, None, None]


def test_relevance_is_a_share() -> None:
    rows = pl.DataFrame({"prompt": ["Name three rivers", "", "Name three rivers"], "text": ["Three rivers: a, b, c", "x", ""]})
    assert relevance(rows)["prompt_coverage"].to_list() == [pytest.approx(2 / 3), None, 0]


def held(folder: Path, name: str, content: str) -> list[Path]:
    (folder / name).write_text(content, encoding="utf-8")
    return [folder / name]


def share(prompt: str, against: list[Path], **params: Any) -> float | None:
    found: float | None = contamination(pl.DataFrame({"prompt": [prompt]}), against=against, **params)["contamination"][0]
    return found


@settings(max_examples=100, deadline=None)
@given(prompt=words, lines=st.lists(words.map(lambda one: one.replace("\n", " ")), max_size=3), n=st.integers(3, 5))
def test_contamination_is_that_of_the_loop(tmp_path_factory: pytest.TempPathFactory, prompt: str, lines: list[str], n: int) -> None:
    def grams(one: str) -> list[tuple[str, ...]]:
        cut = plain_words(one)
        return [tuple(cut[k : k + n]) for k in range(len(cut) - n + 1)] or [tuple(cut)] * bool(cut)

    known = {gram for line in lines for gram in grams(line)}
    if not known:
        return
    cut, marked = plain_words(prompt), set()
    for start, gram in enumerate(grams(prompt)):
        marked |= set(range(start, start + len(gram))) if gram in known else set()
    files = held(tmp_path_factory.mktemp("held"), "held.txt", "\n".join(lines))
    assert share(prompt, files, n=n) == (pytest.approx(len(marked) / len(cut)) if cut else None)


def test_contamination_reads_what_people_have(tmp_path: Path) -> None:
    prompt = "which planet is the largest one"
    assert share(prompt, held(tmp_path, "a.jsonl", f'{{"prompt": "{prompt}"}}\n')) == 1
    assert share(prompt, held(tmp_path, "a.csv", f"id,question\n1,{prompt}\n"), column="question") == 1
    assert share(prompt, held(tmp_path, "a.json", f'[{{"prompt": "{prompt}"}}]')) == 1
    pl.DataFrame({"prompt": [prompt, None]}).write_parquet(tmp_path / "a.parquet")
    assert share(prompt, [tmp_path / "a.parquet"]) == 1


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    files = held(tmp_path, "a.txt", "something else entirely")
    assert share("why is that so", files) == 0
    files[0].write_text("why is that so")
    import os

    os.utime(files[0], ns=(1, 1))
    assert share("why is that so", files) == 1


@pytest.mark.parametrize(
    ("name", "content", "params", "said"),
    [
        ("a.txt", "", {}, "names no text to compare with"),
        ("a.doc", "x", {}, r"allowed: a .txt, .jsonl, .json, .csv or .parquet file"),
        ("a.jsonl", '{"prompt": "x"}', {"column": "promt"}, "unknown column 'promt' .* Did you mean 'prompt'"),
        ("a.jsonl", '{"prompt": 3}', {}, "allowed: a column of texts"),
        ("a.jsonl", "{", {}, "cannot be read as .jsonl"),
        ("a.txt", "x", {"n": 2}, "n is 2; allowed: 3 to 20"),
    ],
)
def test_contamination_says_what_is_wrong(tmp_path: Path, name: str, content: str, params: dict[str, Any], said: str) -> None:
    with pytest.raises(PrefdataError, match=said):
        share("x", held(tmp_path, name, content), **params)


def test_contamination_misses_a_file(tmp_path: Path) -> None:
    with pytest.raises(PrefdataError, match="there is no file"):
        share("x", [tmp_path / "none.txt"])


def test_toxicity_asks_the_model_for_worded_texts_only(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def predict_prob(given_texts: list[str]) -> np.ndarray[Any, Any]:
        asked.extend(given_texts)
        return np.array([len(one) / 100 for one in given_texts])

    monkeypatch.setitem(sys.modules, "profanity_check", SimpleNamespace(predict_prob=predict_prob))
    assert toxicity(pl.DataFrame({"text": ["ab", "?!", None, "猫", ""]}))["toxicity"].to_list() == [0.02, None, None, 0.01, None]
    assert asked == ["ab", "猫"]


def test_toxicity_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "profanity_check", None)
    with pytest.raises(NeedsExtra, match=r"pip install 'prefdata\[toxicity\]'"):
        toxicity(pl.DataFrame({"text": ["words"]}))


def test_toxicity_of_the_model_itself() -> None:
    pytest.importorskip("profanity_check", reason="needs the extra toxicity")
    kind, rude = toxicity(pl.DataFrame({"text": ["You are a wonderful person.", "You are a stupid idiot."]}))["toxicity"].to_list()
    assert kind < 0.2 < 0.8 < rude
