"""What judges share: questions from templates, reasons from replies, waiting for all that was paid."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from prefdata import judges
from prefdata.core.errors import PrefdataError, Stopped, Unreadable
from prefdata.core.judging import fields_in, grade, in_meta, mean, question, rationale, together, words
from prefdata.core.rows import Prompt
from prefdata.core.templates import sections

PROMPTS = Path(judges.__file__).parent / "prompts"


@pytest.mark.parametrize(
    ("reply", "reasons"),
    [
        ('A is right.\n{"choice": "A"}', "A is right."),
        ("A is right.\n\n**Final verdict:** [[A]]", "A is right."),
        ("A is right.\nMy final verdict: [[A]].", "A is right."),
        ('A is right.\n```json\n{"choice": "A"}\n```', "A is right."),
        ('{"reasons": " A is right. ", "choice": "A"}', "A is right."),
        ('{"reasons": "", "choice": "A"}', None),
        ("<think>Hm, [[B]]?</think>A is right.\n[[A]]", "A is right."),
        ('A says {"x": 1} and [[B]].\nSo:\n{"choice": "A"}', 'A says {"x": 1} and [[B]].\nSo:'),
        ("[[A]]", None),
        ('{"choice": "A"}', None),
        ("A", None),
        ("A gives the right answer\n[[A]]", "A gives the right answer"),
        ("A is right. Final answer: [[A]]", "A is right."),
        ("A is right.\n\n### Verdict\n\n[[A]]", "A is right."),
        ("A is right." + "\n" * 5000 + "[[A]]", "A is right."),
        ("A is right.\nA", "A is right."),
        ("", None),
        ("[[A]] because it is right.", "[[A]] because it is right."),
        ('Half of {"json\n[[A]]', 'Half of {"json'),
    ],
)
def test_reasons_are_what_stands_before_the_verdict(reply: str, reasons: str | None) -> None:
    assert rationale(reply) == reasons


def test_all_calls_end_before_the_first_error_is_raised() -> None:
    ended = []

    async def slow(name: str, error: Exception | None) -> str:
        await asyncio.sleep(0.01 if error is None else 0)
        ended.append(name)
        if error:
            raise error
        return name

    with pytest.raises(Unreadable, match="first"):
        asyncio.run(wait(slow("x", Unreadable("first")), slow("y", None), slow("z", ValueError("second"))))
    assert sorted(ended) == ["x", "y", "z"]
    with pytest.raises(Stopped):  # no row may go on after a stop, whatever else went wrong
        asyncio.run(wait(slow("x", Unreadable("first")), slow("y", Stopped("budget"))))
    assert asyncio.run(wait(slow("x", None), slow("y", None))) == ["x", "y"]


async def wait(*asked: object) -> list[object]:
    return await together(asked)  # type: ignore[arg-type]


def test_a_question_has_the_parts_of_its_template() -> None:
    text = '### system\nBe {tone}.\n\n### user\n{text}\n{{text}} {"json": 1}'
    assert question(text, tone="fair", text="{tone}", answer="unused") == [
        {"role": "system", "content": "Be fair."},
        {"role": "user", "content": '{tone}\n{{text}} {"json": 1}'},
    ]
    assert question("Only {text}", text="this") == [{"role": "user", "content": "Only this"}]
    with pytest.raises(PrefdataError, match=r"the place \{text\} is missing"):
        question("{{text}}", text="x")


def test_numbers_in_json_are_numbers_or_nothing() -> None:
    assert [grade(said, 1, 5, "rating", "") for said in (1, 4.5, "3", None, "N/A", " null ")] == [1, 4.5, 3, None, None, None]
    for said in (0, 5.1, True, "many", [3], float("nan"), float("inf"), "nan"):
        with pytest.raises(Unreadable, match="not a number from 1 to 5"):
            grade(said, 1, 5, "rating", "")


def test_means_leave_out_what_is_unknown() -> None:
    """(2 x 5 + 1 x 2) / 3 = 4; without the first: 2; a weight of -1 takes away: (5 - 2) / 2 = 1.5."""
    assert mean({"x": 5, "y": 2}, {"x": 2, "y": 1}) == 4
    assert mean({"x": None, "y": 2}, {"x": 2, "y": 1}) == 2
    assert mean({"x": 5, "y": 2}, {"x": 1, "y": -1}) == 1.5
    assert mean({"x": None, "y": 2}, {"x": 2, "y": 0}) is None


def test_what_a_prompt_notes() -> None:
    prompt = Prompt((), meta={"one": " x ", "many": ["x", 4, "", None, True, {"y": 1}], "none": None, "flag": True})
    assert [in_meta(prompt, name) for name in ("one", "many", "none", "flag", "absent")] == [["x"], ["x", "4"], [], [], []]


def test_json_is_read_after_what_was_quoted() -> None:
    assert fields_in('<response id="0123456789ab">\n{"Score": 1}\n</response id="0123456789ab">\n{"Score": 2}') == {"score": 2}
    for reply in ("[1, 2]", "none", '<response id="0123456789ab">\n{"score": 1}'):
        with pytest.raises(Unreadable):
            fields_in(reply)


QUESTIONS = (
    "pairwise", "context", "principles_judge", "debate_advocate", "debate_judge", "pointwise", "reference", "rubric", "checklist_write",
    "checklist_answer", "aspects", "listwise",
)  # fmt: skip
ANSWERS = ("common", "ranking", "checklist_reply", "aspects_reply", "rubric_reply")


@pytest.mark.parametrize("name", [*QUESTIONS, *ANSWERS])
def test_prompt_files_can_be_taken_apart(name: str) -> None:
    """Every file is sections of text without stray spaces; questions have a system and a user part that fence what they judge."""
    text = (PROMPTS / f"{name}.txt").read_text(encoding="utf-8")
    assert not [line for line in text.splitlines() if line != line.rstrip()]
    parts = sections(text)
    assert all(part.strip() for part in parts.values())
    if name in QUESTIONS:
        assert list(parts) == ["system", "user"]
        assert "{material}" in parts["system"]
        assert "{conversation}" in parts["user"]


def test_a_part_is_filled_with_what_it_has_places_for() -> None:
    assert words("### x\nfrom {low}\n### y\nplain", "x", "y", low=1, high=5) == "from 1\nplain"
