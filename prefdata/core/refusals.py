"""Refusals by their wording: an answer that opens by declining.

Looked for in the first few hundred characters, in English, German, French, Spanish, Italian, Portuguese, Dutch, Russian,
Chinese and Japanese. An answer that helps first and declines later is none, nor is "I'm sorry to hear that", "I can't
wait" or "I wouldn't recommend it"; a polite change of subject is missed.
"""

from __future__ import annotations

import polars as pl

WITHIN = 300
"""Characters from the start in which a refusal must stand."""

_B = r"(?-u:\b)"
_START = rf"(?:^|[.!?:;,\n] ?|{_B}(?:but|and|so|therefore|unfortunately),? )"
_ADVERB = r"(?:(?:also|really|simply|just|certainly|therefore|unfortunately|currently|legally|ethically|personally|in good conscience),? )?"
_UNABLE = (
    r"(?:can't|can not|cannot|won't|will not|'m unable to|'m not able to|'m not going to|'m not comfortable|don't feel comfortable|"
    r"do not feel comfortable|'m not allowed to|'m not programmed to|must decline to|have to decline to|"
    r"don't think (?:i|we) (?:can|should)|do not think (?:i|we) (?:can|should)|'d rather not|would rather not)"
)
_VERB = (
    r"(?:be able to |with (?:that|this)|(?:provid|help|assist|answer|discuss|writ|creat|generat|engag|shar)ing |"
    r"(?:do (?:that|this|so|it)|help|assist|provide|fulfil|fulfill|comply|support|engage|participate|answer|create|write|generate|offer|"
    r"give|share|discuss|recommend|encourage|condone|continue|respond|advise|suggest|promote|facilitate|produce|complete|speculate|"
    rf"describe|teach|process){_B}|tell you|explain how|show you|make (?:jokes|a joke|fun)|in good conscience)"
)
_AI = r"(?:ai|artificial intelligence|(?:large )?language model|assistant)(?: language model| assistant| model)?"
_DECLINE = (
    r"(?:(?:must|have to|need to|'d have to|would have to|will have to|'ll have to|'d|would) "
    rf"(?:respectfully |politely )?decline|refuse){_B}"
)
_NEVER = r"(?:can't|cannot|can not|won't|will not|'m not able|'m unable|must decline|(?:do not|don't) (?:engage|support))"
_ENGLISH = (
    rf"{_START}{_ADVERB}(?:i|we) ?{_UNABLE} {_ADVERB}{_VERB}",
    rf"{_B}as an? {_AI}[^.!?]{{0,60}} i ?{_NEVER}",
    rf"{_START}{_ADVERB}i ?{_DECLINE}",
    rf"^(?:no, )?i'm (?:just|only) an? {_AI}{_B}",
    rf"{_START}(?:this|that|your) (?:request|question|prompt) (?:goes against|violates|is against)",
    rf"{_START}it(?:'s| is| would be) (?:not (?:appropriate|ethical|possible) for me|(?:inappropriate|unethical) for me) to ",
)
_GERMAN = r"(?:helfen|weiterhelfen|beantworten|bereitstellen|unterstützen|nachkommen)"
_OTHERS = (
    rf"ich kann (?:(?:ihnen|dir|dabei|damit|hierbei|leider|das|diese \w+|dieser \w+|bei dieser \w+) ){{0,3}}nicht {_GERMAN}",
    rf"(?:dabei|damit) kann ich (?:(?:ihnen|dir|leider) ){{0,2}}nicht {_GERMAN}",
    r"je ne (?:peux|suis)(?: malheureusement)? pas (?:vous |t'|te )?(?:aider|fournir|répondre|en mesure|capable)",
    r"no puedo (?:ayudar|proporcionar|responder|cumplir|hacer eso|asistir)|no me es posible (?:ayudar|proporcionar|responder)",
    r"non posso (?:aiutar|fornir|risponder|soddisfar)",
    r"não posso (?:ajudar|fornecer|responder|atender|fazer isso)",
    r"ik kan (?:(?:je|u|hier|daar|hiermee|daarmee|helaas) ){0,3}niet (?:mee |bij )?(?:helpen|beantwoorden)",
    r"я не могу (?:вам )?(?:помочь|предоставить|ответить|выполнить|с этим)|не могу вам помочь",
    r"我(?:无法|不能|没办法)(?:帮助|提供|协助|回答|满足|为您|为你|完成)|抱歉[,，]\s*我(?:无法|不能)",
    r"(?:お手伝い|お答え|提供|回答|対応)(?:することは|することが)?(?:は|が)?できません",
)
_PATTERN = "(?i)" + "|".join((*_ENGLISH, *_OTHERS))
_HINTS = [
    *("n't", "cannot", "can not", "will not", "not able", "unable", "decline", "rather not", "not feel", "not think", "not allowed"),
    *("not programmed", "not going", "refuse", "i'm just", "i'm only", "goes against", "violates", "is against", "for me to", "do not"),
    *(
        "nicht",
        "ne peux",
        "ne suis",
        "no puedo",
        "no me es",
        "non posso",
        "posso",
        "niet",
        "не могу",
        "无法",
        "不能",
        "没办法",
        "できません",
    ),
]
"""One of these stands in every refusal: a quick look before the slow one."""


def is_refusal(texts: pl.Series) -> pl.Series:
    """Whether each text opens by declining; null for null and for a text of white space only."""
    opening = pl.col("text").str.strip_chars().str.head(WITHIN).str.replace_all("[\u2019\u2018\u02bc]", "'")
    table = texts.alias("text").to_frame().select(opening.alias("text")).with_row_index("row")
    hint = pl.col("text").str.replace_all("(?i)i am ", "i'm ").str.contains_any(_HINTS, ascii_case_insensitive=True)
    likely = table.filter(hint)
    plain = pl.col("text").str.replace_all(r"\s+", " ").str.replace_all(rf"(?i){_B}i am{_B}", "i'm")
    declined = likely.filter(plain.str.contains(_PATTERN)).select("row", declined=pl.lit(True))
    joined = table.join(declined, on="row", how="left", maintain_order="left")
    return joined.select(pl.when(pl.col("text") != "").then(pl.col("declined").fill_null(False)).alias("refusal"))["refusal"]
