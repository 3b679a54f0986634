"""Every golden case, through the real kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from prefdata.core import catalogue
from tests.golden_cases import GOLDEN, OTHER, check, golden, run_case

METHODS = [m for m in catalogue.everything() if m.shelf not in OTHER and (GOLDEN / m.shelf / f"{m.name}.json").exists()]
CASES = [
    pytest.param(m.shelf, m.name, number, id=f"{m.shelf}/{m.name}-{number}")
    for m in METHODS
    for number in range(len(golden(m.shelf, m.name)["cases"]))
]
"""A method without a file is a failure of the contract test."""


@pytest.mark.parametrize(("shelf", "name", "number"), CASES)
def test_golden(shelf: str, name: str, number: int, tmp_path: Path) -> None:
    case = golden(shelf, name)["cases"][number]
    store, report = run_case(shelf, name, case, tmp_path)
    check(shelf, store, report, case, tmp_path)
