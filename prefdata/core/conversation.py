"""Prompt and responses as chat messages or as plain text, the way trainers expect them."""

from __future__ import annotations

import polars as pl

MESSAGE = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))


def as_chat(conversational: bool, *, sides: tuple[str, ...] = ("chosen", "rejected")) -> list[pl.Expr]:
    """`prompt` and `sides`, from `messages`, `prompt` and `<side>_text`.

    Conversational: lists of {role, content}, each side one assistant message. Plain: strings; the prompt is the last
    message's text.
    """
    if not conversational:
        return [pl.col("prompt"), *(pl.col(f"{side}_text").alias(side) for side in sides)]
    return [
        pl.col("messages").str.json_decode(MESSAGE).alias("prompt"),
        *(
            pl.concat_list(pl.struct(pl.lit("assistant").alias("role"), pl.col(f"{side}_text").alias("content"))).alias(side)
            for side in sides
        ),
    ]
