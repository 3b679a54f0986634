"""Signal: how well a response compresses."""

from __future__ import annotations

import numpy as np
import polars as pl

from prefdata.core.method import method
from prefdata.core.shingles import utf8

_FRAME = 5
"""Bytes of a compressed text that say nothing about it: the frame's header and that of its first block."""


@method(
    version=1,
    subject="response",
    needs=("text",),
    gives={"compression_ratio": "bytes over compressed bytes"},
    paper="compression ratio as a measure of diversity: Shaib et al. 2024, arXiv:2403.00553 (there with gzip over a whole set)",
)
def compression(rows: pl.DataFrame) -> pl.DataFrame:
    """UTF-8 bytes over bytes after Zstandard (level 3): about 1 for a short text, 2 to 3 for prose, far more for one that loops.

    It grows with length, so compare responses of like length. Null for an empty text.
    """
    import zstandard

    data, starts = utf8(rows["text"])
    places = np.stack([starts[:-1], np.diff(starts)], axis=1)[np.diff(starts) > 0].astype(np.uint64)
    settings = zstandard.ZstdCompressionParameters.from_level(
        3, format=zstandard.FORMAT_ZSTD1_MAGICLESS, write_content_size=False, write_checksum=False, write_dict_id=False
    )
    size = np.full(rows.height, np.nan)
    if len(places):
        compressor = zstandard.ZstdCompressor(compression_params=settings)
        pieces = compressor.multi_compress_to_buffer(zstandard.BufferWithSegments(data.tobytes(), places.tobytes()), threads=-1)
        size[np.diff(starts) > 0] = [len(pieces[number]) - _FRAME for number in range(len(pieces))]
    return pl.DataFrame({"compression_ratio": pl.Series(np.diff(starts) / size, nan_to_null=True)})
