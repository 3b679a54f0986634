"""Recipes: overrides, and errors that name the nearest known word."""

from __future__ import annotations

from pathlib import Path

import pytest

from prefdata.core import recipe
from prefdata.core.errors import PrefdataError
from prefdata.core.recipe import override, parse

GOOD = {"models": {"w": {"kind": "mock"}}, "steps": [{"pairing": "all_pairs"}, {"filter": {"where": {"keep": "margin > 0"}}}], "seed": 3}


def test_parse_and_round_trip() -> None:
    parsed = parse(GOOD)
    assert [str(s) for s in parsed.steps] == ["pairing all_pairs", "filter where"]
    assert parse(parsed.as_dict()) == parsed


def test_overrides() -> None:
    data = override(
        {**GOOD, "steps": [dict(s) for s in GOOD["steps"]]},
        ["pairing.all_pairs.most=2", "models.w.model=x", "seed=9", "filter.where.keep=margin > 1"],
    )
    parsed = parse(data)
    assert parsed.steps[0].params == {"most": 2}
    assert parsed.models["w"] == {"kind": "mock", "model": "x"}
    assert parsed.seed == 9
    assert parsed.steps[1].params == {"keep": "margin > 1"}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"stesp": []}, "Did you mean 'steps'"),
        ({"steps": []}, "allowed: a list"),
        ({"steps": [{"filtre": "no_ties"}]}, "Did you mean 'filter'"),
        ({"steps": [{"filter": "no_tise"}]}, "Did you mean 'no_ties'"),
        ({"steps": [{"filter": {"no_ties": 3}}]}, "names with values"),
        ({"steps": [{"filter": "no_ties", "signal": "length"}]}, "one shelf with one method"),
        ({"steps": ["filter"]}, "one shelf with one method"),
        ({"steps": [{"filter": "no_ties"}], "seed": "x"}, "a whole number"),
        ({"steps": [{"filter": "no_ties"}], "models": ["x"]}, "names with settings"),
    ],
)
def test_wrong_recipes_say_what_is_allowed(data: dict, words: str) -> None:
    with pytest.raises(PrefdataError, match=words):
        parse(data)


@pytest.mark.parametrize("item", ["pairing.all_pairs.most", "pairing.best.most=1", "pairings.all_pairs.most=1", "filter.where=1"])
def test_wrong_overrides(item: str) -> None:
    with pytest.raises(PrefdataError):
        override({**GOOD}, [item])


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("steps: [unclosed")
    with pytest.raises(PrefdataError, match=r"line 1.*not YAML"):
        recipe.load(path)
    path.write_text("just words")
    with pytest.raises(PrefdataError, match="not a recipe"):
        recipe.load(path)
    with pytest.raises(PrefdataError, match="prefdata init"):
        recipe.load(tmp_path / "none.yaml")
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PrefdataError, match=r"cannot be read|not YAML"):
        recipe.load(path)
