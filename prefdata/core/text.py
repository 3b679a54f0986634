"""Counting and looking at text: words, sentences, paragraphs, and a rough guess at the language.

Everything here is cheap and small. `language()` knows scripts and a handful of frequent words: it answers for a few
sentences of ordinary prose in the languages it lists and says None where it is not sure. It is no substitute for a
trained detector.
"""

from __future__ import annotations

import re
from functools import cache

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
WORD = f"[{_CJK}]|[^\\W_{_CJK}][^\\s{_CJK}]*"
"""A word: one Chinese or Japanese character, or what stands between spaces and holds a letter or digit.

The same pattern counts in Python and in Polars. Languages written without spaces otherwise (Thai, Khmer, ...) count a
whole phrase as one word.
"""
_BULLET = re.compile(r"[ \t]*[-*] ")
_NUMBER = re.compile(r"[ \t]*\d{1,3}[.)] ")
_CLOSERS = "\"'\u201d\u2019\u00bb)\\]*_"
_HEADING = re.compile(r"\s*(?:#{1,6} .*|<<[^<>]*>>)\s*")
_MARKS = ".!?\u2026\u061f\u0964"
_END = re.compile(rf"(?<![{_MARKS}])[{_MARKS}]+[{_CLOSERS}]*(?=\s|$)|[\u3002\uff01\uff1f]+[\u201d\u2019\u300d\u300f)]*")
_SHORT = {"mr", "mrs", "ms", "dr", "prof", "st", "vs", "e.g", "i.e", "fig", "approx", "z.b", "d.h", "bzw", "nr", "sr", "sra", "mme"}


def spaced(text: str) -> bool:
    """Whether words of this text stand between spaces, as far as its script tells."""
    return not re.search(f"[{_CJK}\u0e00-\u0eff\u1780-\u17ff]", text)


def words(text: str) -> int:
    """How many words (see `WORD`)."""
    return len(re.findall(WORD, text))


def paragraphs(text: str) -> list[str]:
    """The stretches between blank lines."""
    return [part.strip() for part in re.split(r"\n[ \t\r]*\n", text) if part.strip()]


def bullets(text: str) -> int:
    """Lines that start with "- " or "* "."""
    return sum(bool(_BULLET.match(line)) for line in text.splitlines())


def numbered(text: str) -> int:
    """Lines that start with "1. " or "1) "."""
    return sum(bool(_NUMBER.match(line)) for line in text.splitlines())


def code_blocks(text: str) -> list[str]:
    """What stands in fenced blocks, without the fences; a fence that is never closed opens none."""
    return _parted(text)[1]


def unfenced(text: str) -> str:
    """What is inside, where the whole text is one fenced block; else the text itself."""
    outside, blocks = _parted(text)
    return blocks[0].strip() if len(blocks) == 1 and not outside.strip() else text.strip()


def _parted(text: str) -> tuple[str, list[str]]:
    """The text outside fenced blocks, and the blocks."""
    outside: list[str] = []
    blocks: list[str] = []
    inside: list[str] | None = None
    for line in text.splitlines():
        bare = line.strip()
        if inside is None and bare.startswith("```"):
            inside = [line]
        elif inside is not None and bare.startswith("```") and not bare.strip("`"):
            blocks.append("\n".join(inside[1:]))
            inside = None
        else:
            (outside if inside is None else inside).append(line)
    return "\n".join([*outside, *(inside or [])]), blocks


def sentences(text: str) -> int:
    """How many sentences: ended by . ! ? and their like, by a blank line, or by the start of the next list item.

    Headings and <<titles>> are no sentences. A mark before a lower-case letter ends nothing ("e.g. this", '"Why?" he
    asked'), unless all of the text is lower case.
    """
    lower = text == text.lower()
    return sum(_sentences_in(block, lower) for block in _blocks(text))


def _blocks(text: str) -> list[str]:
    blocks: list[list[str]] = [[]]
    for line in text.splitlines():
        item = _BULLET.match(line) or _NUMBER.match(line)
        if item or not line.strip():
            blocks.append([])
        if not _HEADING.fullmatch(line):
            blocks[-1].append(line[item.end() :] if item else line)
    return [" ".join(block) for block in blocks]


def _sentences_in(block: str, lower: bool) -> int:
    count = start = 0
    for mark in _END.finditer(block):
        follows = block[mark.end() :].lstrip()[:1]
        before = block[start : mark.start()].rsplit(None, 1)[-1:] or [""]
        word = before[0].lower().lstrip("(\"'")
        initial = len(word) == 1 and before[0].isupper()
        if follows and mark[0][0] == "." and (word in _SHORT or initial):
            continue
        if follows.islower() and not lower:
            continue
        count += _has_word(block[start : mark.end()])
        start = mark.end()
    return count + _has_word(block[start:])


def _has_word(text: str) -> bool:
    return re.search(WORD, text) is not None


def language(text: str) -> str | None:
    """ISO 639-1 code of the language the text is mostly written in, or None where that is not clear; code blocks aside."""
    text = _parted(text)[0]
    letters = re.sub(r"[\W\d_]+", "", text)
    if not letters:
        return None
    for script, pattern in _SCRIPTS.items():
        share = len(re.findall(f"[{pattern}]", letters)) / len(letters)
        if share > 0.5:
            return _of_script(script, letters, text)
    return _by_words(text, _LATIN, least=1.5)


def known_languages() -> frozenset[str]:
    """Every code that `language` can answer with."""
    return frozenset({*_LATIN, *(code for codes in _SCRIPT_CODES.values() for code in codes)})


_SCRIPTS = {
    "cjk": "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff",
    "hangul": "\u1100-\u11ff\uac00-\ud7af",
    "arabic": "\u0600-\u06ff",
    "cyrillic": "\u0400-\u04ff",
    "devanagari": "\u0900-\u097f",
    "greek": "\u0370-\u03ff",
    "hebrew": "\u0590-\u05ff",
    "thai": "\u0e00-\u0e7f",
    "bengali": "\u0980-\u09ff",
    "tamil": "\u0b80-\u0bff",
}
_SCRIPT_CODES = {
    "cjk": ("zh", "ja"),
    "hangul": ("ko",),
    "arabic": ("ar", "fa", "ur"),
    "cyrillic": ("ru", "uk", "bg"),
    "devanagari": ("hi", "mr"),
    "greek": ("el",),
    "hebrew": ("he",),
    "thai": ("th",),
    "bengali": ("bn",),
    "tamil": ("ta",),
}


def _of_script(script: str, letters: str, text: str) -> str | None:
    codes = _SCRIPT_CODES[script]
    if script == "cjk":
        return "ja" if len(re.findall("[\u3040-\u30ff]", letters)) / len(letters) > 0.1 else "zh"
    if script == "arabic":
        return "ur" if re.search("[ٹڈڑںے]", text) else "fa" if re.search("[پچژگ]", text) else "ar"
    if script == "cyrillic":
        if re.search("[ыэё]", text.lower()):
            return "ru"  # Ukrainian and Bulgarian do without these letters
        if re.search("[іїєґ]", text.lower()):
            return "uk"
    return codes[0] if len(codes) == 1 else _by_words(text, codes, least=1)


def _by_words(text: str, among: tuple[str, ...], least: float) -> str | None:
    """The language whose frequent words the text has most of, if it leads clearly; a word that many languages share weighs little."""
    weight = _weights(among)
    score = dict.fromkeys(among, 0.0)
    for word in re.findall(r"[^\s.,;:!?()\"\u201c\u201d\u00ab\u00bb\u0964]+", text.lower().replace("\u2019", "'")):
        for code in weight.get(word, ()):
            score[code] += 1 / len(weight[word])
    for code, letters in _LETTERS.items():
        if code in score and re.search(f"[{letters}]", text.lower()):
            score[code] += 1
    (best, most), (_, second) = sorted(score.items(), key=lambda item: -item[1])[:2]
    return best if most >= least and most >= 1.4 * second else None


@cache
def _weights(among: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Frequent word -> the languages it is one of."""
    found: dict[str, tuple[str, ...]] = {}
    for code in among:
        for word in _STOP[code].split():
            found[word] = (*found.get(word, ()), code)
    return found


_LETTERS = {  # letters that few languages share: as good as one frequent word
    "de": "ß", "es": "ñ¿¡", "pt": "ãõ", "pl": "łśźż", "cs": "řěů", "hu": "őű", "tr": "ığş", "ro": "ășț", "vi": "đơưạảấầệ",
    "fr": "œêû", "sv": "å", "da": "æø", "no": "æø",
}  # fmt: skip
_STOP = {
    "en": "the and of to in is that it for was with are this you not have be on as at by from they we his her or an but which "
    "there their what can will would when who your i do if about how me my so just all any no yes could should some into "
    "been had has were its more only than then these those us very them because",
    "de": "der die das und ist nicht ein eine einen einem zu den dem mit von für auf im sie wir ich es sich auch wird werden dass "
    "oder aber wie wenn bei nach als sind hat haben aus noch nur über zum zur des kann",
    "fr": "le la les des et est une un du dans pour que qui pas sur avec ce cette ne je vous nous il elle sont plus ou mais au "
    "aux se sa son ses leur par c'est être fait très comme tout été même à où",
    "es": "el la los las de que y en un una es por con para del se no su al lo como más pero sus le ya este esta porque muy sin "
    "sobre también me hasta hay donde ser son está cuando fue todo",
    "it": "il lo gli le di che e è un una per con non del della dei delle in si sono come più ma anche nel nella al alla dal "
    "dalla questo questa ho ha mi ti ci dove quando essere molto perché tra",
    "pt": "o a os as de que e é um uma do da dos das em no na nos nas para por com não se mais como mas ao à foi são seu sua ou "
    "também muito já eu está isso este esta pelo pela você quando",
    "nl": "de het een en van ik je dat die in is niet op te zijn voor met als er maar om dan zou of wat mijn dit zo hij door over "
    "ze bij ook naar uit kan wordt worden nog wel heeft deze geen",
    "sv": "och att det som en på är av för med till den har de inte om ett han var jag sig från vi så kan när man hade nu skulle "
    "eller också mycket bara",
    "da": "frem ind op blive hvordan og at det som en på er af for med til den har de ikke om et han var jeg sig fra vi så kan "
    "når man havde nu skulle eller også meget kun blev hvad efter",
    "no": "og at det som en på er av for med til den har de ikke om et han var jeg seg fra vi så kan når man hadde nå skulle "
    "eller også mye bare ble hva etter noe",
    "pl": "i w na z się nie do jest to że jak o za od po co ale są był była ten tak dla czy przez by już może jego tylko być oraz "
    "lub które który",
    "cs": "a se na je že s z v do to by jako za pro jsem ale tak po jsou co nebo byl bylo také ve které který už jen může být "
    "když až jeho není",
    "ro": "și de la în a cu o pe nu este că un din care pentru sau mai sunt se ca dar au prin ce fi lui ale această acest când foarte fost",
    "tr": "ve bir bu da de için ile çok ne o mi gibi daha ama var ben en kadar sonra olarak olan değil her şey ki ya veya olduğu",
    "fi": "eikä ennen kanssa ovat minulla sinä me te he ja on ei se että oli hän en mutta ovat mitä niin kun voi myös kuin tai "
    "joka sen jos olen ole hyvin nyt sitä tämä minä ne vain",
    "hu": "nincs vannak ez a az és hogy nem is egy ez de van volt meg csak ha már mint el még vagy aki nagyon kell azt minden lehet után",
    "id": "yang dan di itu dengan untuk tidak ini dari dalam akan pada juga saya ke karena ada adalah kita mereka atau bisa oleh "
    "lebih sudah dapat seperti",
    "vi": "và là của có không được cho một những người trong với các đã này để khi từ rất như tôi bạn nhưng hay cũng về",
    "ru": "меня мне нет есть было был была мы вы и в не на что с по это как но из у за от то для же к он она бы или так",
    "uk": "і в не на що з по це як але із у за від то для ж до він вона або так є",
    "bg": "преди след няма има и в не на че с по това как но от за то се са е да ще или тази този който",
    "hi": "है हैं के में की और का से को यह नहीं एक पर लिए था थे भी कि",
    "mr": "आहे आहेत आणि हे ही या मध्ये नाही एक होते तर साठी पण तो ती",
}
_LATIN = tuple(code for code in _STOP if code not in {c for codes in _SCRIPT_CODES.values() for c in codes})
