"""A random order of pairs that SQL can sort by: the same for a pair wherever it stands."""

from __future__ import annotations


def order(seed: int) -> str:
    """An SQL expression; it depends on the pair's id and the seed only, so growing data do not shuffle what was drawn."""
    return f"md5(concat(pair_id, ' ', {int(seed)}))"
