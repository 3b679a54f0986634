"""What counts as the same answer, and where the final answer is looked for."""

from __future__ import annotations

import time

import pytest

from prefdata.core.rows import Prompt, Response, Score, as_messages
from prefdata.judges.math_answer import final_answer, math_answer

SAME = [
    ("Answer: 42.", "42"), ("**Answer:** $1,234.50", "1234.5"), ("so \\boxed{\\frac{3}{4}}", "0.75"), ("x\n#### 1,000", "1000"),
    ("it is 50%", "0.5"), ("it is 50", "50%"), ("Answer: 3 1/2", "3.5"), ("Answer: 1.234,5", "1234.5"), ("Answer: 12 km", "12"),
    ("We get 7 and then 8", "8"), ("Answer: −5", "-5"), ("The answer is 7.", "7"), ("The final answer is \\boxed{(B)}", "B"),
    ("Answer: 5/14", "10/28"), ("Answer: 1.2 × 10^5", "120000"), ("Answer: ٤٢", "42"), ("答案：7", "7"), ("Antwort: 345 Euro", "345"),
    ("Answer: 2^30", "2^30"), ("\\boxed{x^2 + 1}", "x^2+1"), ("Answer: 11:40", "11:40"), ("Answer: 0.5\nActually, answer: 0.6", "0.6"),
    ("Answer: €1 234,50", "1234.5"), ("Answer: -$5", "-5"), ("Answer: \\text{Friday}", "friday"), ("He paid \\$18.", "18"),
    ("Answer: 6.750", "6.75"), ('{"a": [1, 2]}', '{"a":[1,2]}'), ("\\boxed{\\{1, 2\\}}", "\\{1,2\\}"),
]  # fmt: skip
DIFFERENT = [
    ("Answer: 12 apples", "12 oranges"), ("Answer: 1/3", "0.333"), ("nothing", "8"), ("Answer: 7 or 8", "7"), ("Answer: 1/0", "1"),
    ("Answer: nine", "9"), ("Answer: about 7", "7"), ("Answer: 0.6\nAnswer: 0.5", "0.6"), ("Answer: 10^9", "2^30"), ("Answer: 5", "-5"),
    ('{"old": "room 4.12"}', '{"new": "room 4.12"}'), ("Answer: 1,234", "1.234"), ("", "0"),
]  # fmt: skip


def value(given: str, expected: object) -> float:
    found = math_answer(Response(Prompt(as_messages("q"), meta={"answer": expected}), given))
    assert isinstance(found, Score)
    assert found.rationale
    return found.value


@pytest.mark.parametrize(("given", "expected"), SAME)
def test_same(given: str, expected: str) -> None:
    assert value(given, expected) == 1.0


@pytest.mark.parametrize(("given", "expected"), DIFFERENT)
def test_different(given: str, expected: str) -> None:
    assert value(given, expected) == 0.0


def test_a_known_answer_may_be_a_number() -> None:
    assert value("Answer: 7", 7) == 1.0
    assert value("Answer: 7.5", 7.5) == 1.0


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("#### 3\nAnswer: 4", "4"),
        ("Answer: 4\nso \\boxed{5}", "5"),
        ("Answer: \\boxed{\\text{a}\\boxed{6}}", "6"),
        ("\\boxed{never closed", None),
        ("The answer is 3. It was easy, 10 seconds.", "3"),
    ],
)
def test_final_answer(given: str, found: str | None) -> None:
    assert final_answer(given, numeric=True) == found


def test_hostile_texts_take_no_time() -> None:
    size = 50_000
    bad = [
        "1" * size,
        "1," * size,
        "answer " * size,
        "answer" + "*" * size,
        "final" + " " * size,
        "\\boxed{" * size,
        "1 " * size,
        "\n " * size,
    ]
    started = time.process_time()
    for given in bad:
        value(given, "3")
    assert time.process_time() - started < 10
