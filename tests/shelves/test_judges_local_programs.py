"""Judges that run programs or fit weights: unit_tests, tool, feature_regression, and the helpers below them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import prefdata
from prefdata.core.calculator import calculate
from prefdata.core.errors import BadValue, PrefdataError
from prefdata.core.pair_regression import FOLDS, Penalty, fit, solve
from prefdata.core.store import Store
from tests.shelves.judges_llm_tools import asked, judge, mock, notes, responses

BOX = {"kind": "sandbox", "enabled": True, **({} if sys.platform == "linux" else {"isolation": "limits"})}
DATA = "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass P:\n    x: int = 0\n"
ADD = "def add(a, b):\n    return a + b"


def code(text: str) -> str:
    return f"Here it is.\n\n```python\n{text}\n```\nIt adds."


def graded(store: Store) -> dict[str, tuple[float, dict[str, Any]]]:
    rows = store.rows("SELECT r.text, x.score, x.scores FROM annotations x JOIN responses r ON r.id = x.subject")
    return {text: (score, json.loads(scores)) for text, score, scores in rows}


def grade(folder: Path, tests: list[Any], *programs: str, **params: Any) -> dict[str, tuple[float, dict[str, Any]]]:
    rows = {"responses": responses(*programs, prompt="Write add(a, b).", meta=json.dumps({"tests": tests}))}
    store, report = judge(folder, rows, {"unit_tests": {"sandbox": "box", "seconds": 60, **params}}, box=BOX)
    assert report.failed == 0, notes(store)
    return graded(store)


@pytest.mark.parametrize(
    ("program", "share", "outcomes"),
    [
        (code(ADD), 1.0, {"passed": 2}),
        (ADD, 1.0, {"passed": 2}),
        (f"```\n{ADD}\n```", 1.0, {"passed": 2}),
        (code("wrong = 1") + "\n" + code(ADD), 1.0, {"passed": 2}),
        (f"```py\n{ADD}\n```\nrun it so:\n```bash\npython add.py\n```", 1.0, {"passed": 2}),
        (code(ADD + "\nif __name__ == '__main__':\n    print(add(int(input()), 1))"), 1.0, {"passed": 2}),
        (code("print('x' * 10**6)\n" + ADD), 1.0, {"passed": 2}),
        (code(DATA + ADD), 1.0, {"passed": 2}),
        (code("def add(a, b):\n    return a + b + (a == 2)"), 0.5, {"passed": 1, "failed": 1}),
        (code("def add(a, b):\n    return [][a]"), 0.0, {"error": 2}),
        (code("x = 1"), 0.0, {"error": 2}),
        (code("import os\nos._exit(0)"), 0.0, {"error": 2}),
        (code("print('passed')\nraise SystemExit"), 0.0, {"error": 2}),
        (code("import numpy\n" + ADD), 0.0, {"error": 2}),
        (code("assert False\n" + ADD), 0.0, {"error": 2}),
        (code("while True: pass"), 0.0, {"timeout": 2}),
        (code("x = []\nwhile True: x.append(bytearray(10**7))"), 0.0, {"memory": 2}),
        ("Sorry, I can't.", 0.0, {"error": 2}),
        ("", 0.0, {"error": 2}),
    ],
)  # fmt: skip
def test_how_programs_fare(tmp_path: Path, program: str, share: float, outcomes: dict[str, int]) -> None:
    tests = ["assert add(1, 2) == 3", "assert add(2, 2) == 4"]
    slow = {"seconds": 2} if "timeout" in outcomes else {}
    ((score, scores),) = grade(tmp_path, tests, program, memory_mb=256, **slow).values()
    assert score == share
    assert {name: scores[name] for name in ("passed", "failed", "error", "timeout", "memory") if scores[name]} == outcomes
    assert scores["total"] == 2


def test_programs_that_read_and_print(tmp_path: Path) -> None:
    """Spaces at the ends of lines do not count, anything else does."""
    tests = [{"input": "3\n", "output": "6"}, {"input": "", "output": "none\n"}]
    right = code("import sys\ntext = sys.stdin.read()\nprint(int(text) * 2 if text else 'none', end='  \\n\\n')")
    wordy = code("import sys\nprint('The result is', int(sys.stdin.read() or 0) * 2)")
    got = grade(tmp_path, tests, right, wordy)
    assert got[right][0] == 1
    assert (got[wordy][0], got[wordy][1]["failed"]) == (0, 2)


@pytest.mark.parametrize(
    ("tests", "words"),
    [
        ([1], "meta.tests holds '1', which is no test"),
        ([{"input": "x"}], "an object with the texts input and output"),
        ([{"input": "x", "output": 3}], "which is no test"),
        (["assert True"] * 201, "is 201; allowed: at most 200"),
    ],
)
def test_tests_that_are_none(tmp_path: Path, tests: Any, words: str) -> None:
    rows = {"responses": responses(code(ADD), meta=json.dumps({"tests": tests}))}
    store, report = judge(tmp_path, rows, {"unit_tests": {"sandbox": "box"}}, box=BOX)
    assert report.failed == 1
    assert words in notes(store)[0]


def test_tests_are_written_once_for_all_responses_of_a_prompt(tmp_path: Path) -> None:
    """The writer sees the prompt and no response; of its tests those stay that the known solution passes."""
    written = {"tests": ["assert add(1, 1) == 2", "assert add(1, 1) == 3", "assert add(2, 0) == 2"]}
    rows = {"responses": responses(code(ADD), code("def add(a, b):\n    return 2 * a"), meta=json.dumps({"solution": code(ADD)}))}
    step = {"unit_tests": {"sandbox": "box", "ask": "m", "seconds": 60}}
    store, report = judge(tmp_path, rows, step, box=BOX, m=mock(f"They are:\n{json.dumps(written)}"))
    assert store.value("SELECT count(*) FROM calls") == 1
    assert "```" not in asked(store)[0]["user"]
    assert sorted((score, scores["total"]) for score, scores in graded(store).values()) == [(0.5, 2), (1.0, 2)]
    assert report.done == 2
    assert store.rows("SELECT DISTINCT annotator_kind FROM annotations") == [("llm",)]


@pytest.mark.parametrize("reply", ['{"tests": []}', '{"tests": ["def ("]}', '{"tests": "assert True"}', "I cannot.", '{"tests": [3]}'])
def test_written_tests_that_cannot_be_read_fail_the_row(tmp_path: Path, reply: str) -> None:
    step = {"unit_tests": {"sandbox": "box", "ask": "m"}}
    store, report = judge(tmp_path, {"responses": responses(code(ADD))}, step, box=BOX, m=mock(reply))
    assert report.failed == 1
    assert "the reply" in notes(store)[0]


def test_where_no_written_test_is_right_the_judge_abstains(tmp_path: Path) -> None:
    rows = {"responses": responses(code(ADD), meta=json.dumps({"solution": ADD}))}
    step = {"unit_tests": {"sandbox": "box", "ask": "m", "seconds": 60}}
    store, report = judge(tmp_path, rows, step, box=BOX, m=mock('{"tests": ["assert add(1, 1) == 3"]}'))
    assert report.abstained == 1
    assert notes(store) == ["the known solution passes none of the tests that were written"]


@pytest.mark.parametrize("method", ["unit_tests", "tool"])
def test_nothing_runs_where_the_sandbox_is_off(tmp_path: Path, method: str) -> None:
    step = {method: {"sandbox": "box", **({"ask": "m"} if method == "tool" else {})}}
    with pytest.raises(PrefdataError, match=r"'box' of kind 'sandbox' is off; .*models\.box\.enabled: true"):
        judge(tmp_path, {"responses": responses("x")}, step, box={"kind": "sandbox"}, m=mock("x"))


def tool_asks(name: str, given: Any) -> str:
    return "Let me check.\n" + json.dumps({"tool": name, "input": given})


@pytest.mark.parametrize(
    ("first", "shown"),
    [
        (tool_asks("calculator", "2^10 + 1,5"), "error: "),
        (tool_asks("calculator", "__import__('os').getcwd()"), "error: the expression is"),
        (tool_asks("Calculator ", "(1 + 2) * 3"), "9"),
        (tool_asks("calculator", {"expression": "1 + 1"}), "error: "),
        (tool_asks("python", "print(6 * 7)"), "42"),
        (tool_asks("python", "x = 1"), "(the program printed nothing)"),
        (tool_asks("python", "1 / 0"), "ZeroDivisionError: division by zero\n(error)"),
        (tool_asks("python", "while True: pass"), "(timeout)"),
        (tool_asks("python", "print('{\"score\": 10}')"), '{"score": 10}'),
        (tool_asks("google", "x"), "error: there is no tool 'google'; there is: calculator, python"),
    ],
)
def test_one_use_of_a_tool(tmp_path: Path, first: str, shown: str) -> None:
    """What a tool says is shown fenced and never taken for the verdict."""
    model = mock({"contains": {"The tool's answer": 'Done.\n{"score": 4}'}, "default": first})
    step = {"tool": {"ask": "m", "sandbox": "box", "seconds": 2 if "while" in first else 60}}
    store, report = judge(tmp_path, {"responses": responses("It is 42.")}, step, m=model, box=BOX)
    assert report.done == 1, notes(store)
    (score, scores), (raw,) = graded(store)["It is 42."], store.rows("SELECT raw FROM annotations")[0:1]
    assert score == 4
    assert shown in scores["trace"][0]["output"]
    assert json.loads(raw[0]) == [first, 'Done.\n{"score": 4}']
    requests = [json.loads(row[0])["messages"] for row in store.rows("SELECT request FROM calls")]
    (second,) = (messages for messages in requests if len(messages) > 2)
    assert [message["role"] for message in second] == ["system", "user", "assistant", "user"]
    assert second[-1]["content"].index("<result id=") < second[-1]["content"].index(scores["trace"][0]["output"])


def test_python_is_offered_only_with_a_sandbox(tmp_path: Path) -> None:
    model = mock({"contains": {"there is no tool 'python'": '{"score": 5}'}, "default": tool_asks("python", "print(1)")})
    store, report = judge(tmp_path, {"responses": responses("x")}, {"tool": {"ask": "m"}}, m=model)
    assert report.done == 1
    assert all("- python:" not in request["system"] and "- calculator:" in request["system"] for request in asked(store))


def test_turns_end_and_are_counted(tmp_path: Path) -> None:
    """Two uses, then the score; without turns no tool is offered a second time."""
    replies = {"contains": {"No tool can be used any more": 'By eye.\n{"score": 2}'}, "default": tool_asks("calculator", "1 + 1")}
    store, report = judge(tmp_path, {"responses": responses("x")}, {"tool": {"ask": "m", "turns": 2}}, m=mock(replies))
    assert report.done == 1
    assert len(graded(store)["x"][1]["trace"]) == 2
    assert store.value("SELECT count(*) FROM calls") == 3


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        ("It is fine.", "the reply holds no JSON"),
        ('{"verdict": "good"}', "neither a score nor a tool"),
        ('{"score": 11}', "is not from 1 to 10"),
        ('{"score": "good"}', "holds no score"),
        (tool_asks("calculator", "1"), "asks for a tool instead of giving a score after 3 turns"),
    ],
)
def test_a_reply_without_a_score_fails_its_row(tmp_path: Path, reply: str, words: str) -> None:
    store, report = judge(tmp_path, {"responses": responses("x")}, {"tool": {"ask": "m"}}, m=mock(reply))
    assert report.failed == 1
    assert words in notes(store)[0]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 + 2 * 3", 7), ("2 ** 10", 1024), ("2^10", 1024), ("-3 ** 2", -9), ("7 // 2 + 7 % 2", 4), ("1 / 4", 0.25), ("sqrt(16)", 4.0),
        ("max(1, 2, 3) - min(4, 5)", -1), ("factorial(20)", 2432902008176640000), ("comb(5, 2)", 10), ("round(2.567, 1)", 2.6),
        (" (1.5e3) × 2 ÷ 3 − 1 ", 999.0), ("2 ** 0.5 * 2 ** 0.5", 2.0000000000000004), ("gcd(12, 18)", 6), ("10 ** 1000 % 7", 4),
    ],
)  # fmt: skip
def test_the_calculator(text: str, value: float) -> None:
    assert calculate(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "", "x", "1 +", "1 / 0", "9 ** 9 ** 9", "10 ** 100000", "(-8) ** 0.5", "1e308 * 10", "factorial(10 ** 6)", "factorial(2.5)",
        "comb(10 ** 9, 5)", "'a' * 10", "[1] * 10", "True + 1", "1 if 1 else 2", "lambda: 1", "(1).real", "__import__('os')", "exec('1')",
        "open('x')", "abs", "1j", "sqrt(-1)", "log(0)", "round(1, 2, 3)", "max()", "max(*[1])", "sqrt(x=1)", "1 << 99999",
        "(" * 300 + "1" + ")" * 300, "-" * 400 + "1", "1" * 501, "print(1)", "a := 1", "1; 2", "e" + "**e" * 200,
        "min(" + "1," * 240 + "1)",
    ],
)  # fmt: skip
def test_the_calculator_refuses_all_else(text: str) -> None:
    with pytest.raises(BadValue):
        calculate(text)


FEATURES = "### quality\nIt is good.\n\n### not_noise\nIt is noise.\n"


def rated(quality: int, noise: int) -> str:
    return json.dumps({"quality": quality, "noise": noise})


def labelled(folder: Path, pairs: int = 24) -> Path:
    """People choose quality (9 over 2) and do not care about noise; every sixth time they choose the other one."""
    lines = []
    for n in range(pairs):
        sides = [f"good {n % 4}", f"bad {(n * 3) % 4}"]
        chosen, rejected = sides if n % 6 else sides[::-1]
        lines.append(json.dumps({"prompt": f"question {n}", "chosen": chosen, "rejected": [{"role": "assistant", "content": rejected}]}))
    path = folder / "pairs.jsonl"
    path.write_text("\n".join(lines) + "\n\n", encoding="utf-8")
    return path


RATER = mock({"contains": {f"\n{word} {n}\n": rated(q + n % 2, 1 + 2 * n) for word, q in (("good", 8), ("bad", 2)) for n in range(4)}})


def test_weights_are_fitted_once_and_say_what_people_weigh(tmp_path: Path) -> None:
    (tmp_path / "features.txt").write_text(FEATURES, encoding="utf-8")
    path = labelled(tmp_path)
    rows = {"responses": responses("good 1", "bad 2", "bad 1", "good 3", prompt="new")}
    step = {"feature_regression": {"ask": "m", "labelled": str(path), "features": str(tmp_path / "features.txt"), "length": False}}
    model = {**RATER, "price": {"input": 1.0, "output": 1.0}}
    store, report = judge(tmp_path, rows, step, m=model)
    assert (report.done, store.value("SELECT count(*) FROM calls")) == (4, 24 * 2 + 4)
    got = graded(store)
    first, *others = (scores["weights"] for _, scores in got.values())
    assert all(other == first for other in others)
    (quality, low, high), (noise, *_) = first["quality"], first["noise"]
    assert 0 < low <= quality <= high
    assert abs(noise) < quality
    assert {scores["pairs"] for _, scores in got.values()} == {24}
    assert {round(scores["accuracy"], 6) for _, scores in got.values()} == {round(20 / 24, 6)}
    assert min(got["good 1"][0], got["good 3"][0]) > max(got["bad 2"][0], got["bad 1"][0])
    assert report.cost == pytest.approx(store.value("SELECT sum(cost) FROM calls"))
    again = prefdata.run({"models": {"m": model}, "steps": [{"judge": step}]}, store).steps[-1]
    assert (again.had, again.cost) == (4, 0)


def test_two_models_have_two_fits(tmp_path: Path) -> None:
    (tmp_path / "features.txt").write_text(FEATURES, encoding="utf-8")
    params = {"labelled": str(labelled(tmp_path)), "features": str(tmp_path / "features.txt"), "length": False}
    other = mock({"contains": {f"\n{word} {n}\n": rated(5, q) for word, q in (("good", 1), ("bad", 9)) for n in range(4)}})
    steps = [{"feature_regression": {"ask": name, **params}} for name in ("one", "two")]
    store, _ = judge(tmp_path, {"responses": responses("good 1")}, *steps, one=RATER, two=other)
    found = [json.loads(row[0])["weights"] for row in store.rows("SELECT scores FROM annotations ORDER BY annotator_id")]
    assert [one["quality"][0] > 0 for one in found] == [True, False]
    assert found[1]["noise"][0] < 0


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["{"], "line 1 is no labelled pair"),
        (['{"prompt": "x", "chosen": "y"}'], "KeyError: 'rejected'"),
        (['{"prompt": "x", "chosen": "y", "rejected": 3}'], "is no labelled pair (TypeError"),
        (['{"prompt": "x", "chosen": "y", "rejected": "z"}'] * 15, "is 15; allowed: at least 16"),
    ],
)
def test_a_labelled_file_that_does_not_serve(tmp_path: Path, lines: list[str], words: str) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    store, _ = judge(tmp_path, {"responses": responses("x")}, {"feature_regression": {"ask": "m", "labelled": str(path)}}, m=mock("x"))
    assert words in notes(store)[0]


def test_labelled_pairs_that_cannot_be_rated_are_left_out_up_to_half(tmp_path: Path) -> None:
    (tmp_path / "features.txt").write_text(FEATURES, encoding="utf-8")
    params = {"labelled": str(labelled(tmp_path, 48)), "features": str(tmp_path / "features.txt")}
    some = {"contains": {"question 7": "no JSON", "question 8": "none", **RATER["replies"]["contains"]}}
    store, report = judge(tmp_path, {"responses": responses("good 1")}, {"feature_regression": {"ask": "m", **params}}, m=mock(some))
    assert report.done == 1
    assert graded(store)["good 1"][1]["pairs"] == 46
    (tmp_path / "2").mkdir()
    store, _ = judge(tmp_path / "2", {"responses": responses("good 1")}, {"feature_regression": {"ask": "m", **params}}, m=mock("none"))
    assert "of 48 labelled pairs only 0 got readable ratings" in notes(store)[0]


@pytest.mark.parametrize(
    "reply", ['{"quality": 5}', '{"quality": 5, "noise": 11}', '{"quality": "5", "noise": 1}', '{"quality": true, "noise": 1}', "[5, 1]"]
)
def test_a_rating_that_is_none_fails_the_row(tmp_path: Path, reply: str) -> None:
    (tmp_path / "features.txt").write_text(FEATURES, encoding="utf-8")
    step = {"feature_regression": {"ask": "m", "features": str(tmp_path / "features.txt")}}
    store, report = judge(tmp_path, {"responses": responses("x")}, step, m=mock(reply))
    assert report.failed == 1, graded(store)


def test_the_shipped_features_are_asked_by_name(tmp_path: Path) -> None:
    names = ["helpful", "specific", "intent", "factual", "easy_to_understand", "relevant", "readable", "detailed"]
    names += ["biased", "ignores_person", "repetitive", "ignores_context", "too_long"]
    reply = json.dumps({name: 10 if n < 8 else 1 for n, name in enumerate(names)})
    store, report = judge(tmp_path, {"responses": responses("x" * 250)}, {"feature_regression": {"ask": "m"}}, m=mock(reply))
    assert report.done == 1
    score, scores = graded(store)["x" * 250]
    assert score == 1
    assert scores["features"] == {**json.loads(reply), "length": 2.5}
    assert "not_" not in asked(store)[0]["user"]


@pytest.mark.parametrize("penalty", ["l1", "l2"])
@pytest.mark.parametrize("c", [0.01, 1.0, 1000.0])
def test_weights_equal_those_of_scikit_learn(penalty: Penalty, c: float) -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    random = np.random.default_rng(0)
    rows, truth = random.normal(size=(200, 6)), np.array([1.0, -0.5, 0.2, 0, 0, 0])
    sign = np.where(random.random(200) < 1 / (1 + np.exp(-rows @ truth)), 1.0, -1.0)
    solver = {"l1": "saga", "l2": "lbfgs"}[penalty]
    ratio = {"l1_ratio": 1.0 if penalty == "l1" else 0.0}
    model = linear.LogisticRegression(C=c, fit_intercept=False, solver=solver, max_iter=20_000, tol=1e-9, **ratio).fit(rows, sign)
    np.testing.assert_allclose(solve(rows * sign[:, None], penalty, c), model.coef_[0], atol=1e-5)


def test_the_fit_finds_what_matters_and_gives_constants_no_weight() -> None:
    random = np.random.default_rng(1)
    truth = np.array([2.0, -1.0, 0.0, 0.0])
    first, second = random.normal(3, 2, size=(2, 400, 4))
    first[:, 3] = second[:, 3] = 7.0
    won = random.random(400) < 1 / (1 + np.exp(-(first - second) @ truth))
    found = fit(np.where(won[:, None], first, second), np.where(won[:, None], second, first))
    assert found.weights[0] > -found.weights[1] > abs(found.weights[2])
    assert found.weights[3] == found.low[3] == found.high[3] == 0
    assert (found.low <= found.weights).all()
    assert (found.weights <= found.high).all()
    assert found.accuracy > 0.85
    assert np.allclose(found.weights[:2] / found.std[:2], truth[:2], rtol=0.3)
    assert found.score(found.mean) == pytest.approx(0)
    np.testing.assert_array_equal(fit(first, second).weights, fit(first, second).weights)
    with pytest.raises(BadValue, match=f"at least {2 * FOLDS}"):
        fit(first[:15], second[:15])
