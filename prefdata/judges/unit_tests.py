"""Judge: how many tests a response's program passes."""

from __future__ import annotations

import ast
import json
import re
import secrets
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefdata.core.errors import BadValue, PrefdataError, Unreadable
from prefdata.core.judging import fields_in, question, read, talk, together, words
from prefdata.core.method import method
from prefdata.core.protocols import Ask, Ran, Sandbox
from prefdata.core.rows import Abstained, Response, Score
from prefdata.core.templates import load
from prefdata.core.text import code_blocks

_PYTHON = re.compile(r"^[ \t]*```[ \t]*(?:python|py|python3)\b[^\n]*\n(.*?)^[ \t]*```[ \t]*$", re.DOTALL | re.MULTILINE | re.IGNORECASE)
_OUTCOMES = ("passed", "failed", "error", "timeout", "memory")
_MOST = 200
"""Tests of one prompt."""


@dataclass(frozen=True)
class _Test:
    """Statements to run after the program, or what it reads and must print."""

    code: str = ""
    stdin: str = ""
    stdout: str | None = None

    @property
    def shown(self) -> str:
        return self.code if self.stdout is None else f"{self.stdin!r} -> {self.stdout!r}"


@method(
    version=1,
    subject="response",
    paper="PLUM, arXiv:2406.06887",
    prompt_file=("prompts/unit_tests.txt", "prompts/common.txt"),
    calls="1",
)
async def unit_tests(
    response: Response,
    sandbox: Sandbox,
    ask: Ask | None = None,
    *,
    field: str = "tests",
    solution: str = "solution",
    most: int = 8,
    seconds: float = 5.0,
    memory_mb: int = 512,
    template: Path | None = None,
    temperature: float | None = 0.0,
    max_tokens: int = 2048,
) -> Score | Abstained:
    """The share of a prompt's tests that the response's Python program passes, from 0 to 1; abstains where there are no tests.

    The tests stand in the prompt's meta: {"tests": ["assert add(1, 2) == 3", {"input": "1 2", "output": "3"}]}: statements that
    run after the program, or what it reads and must print. Where there are none and the recipe hands in `ask`, that model
    writes some from the prompt alone, once for all its responses; those that a known solution (meta {"solution": ...}) does not
    pass are left out. The program is the response's last fenced Python block, else its last block, else all of it.

    Each test is a process of its own in the sandbox, and passed when it reaches its end. How many passed, failed (a wrong
    result), broke off with an error, ran out of time or of memory stands in scores, the outcome of each in raw; a program
    that does not parse passes nothing, and scores.syntax_error is true. Weak tests pass wrong programs, and a program that was
    written to deceive them can: a share of 1 is no proof.

    Args:
        field: of the prompt's meta, with the tests.
        solution: of the prompt's meta, with a program that is known to be right.
        most: tests that a model is asked to write.
        seconds: wall-clock bound of one test.
        memory_mb: bound of one test's address space, MiB.
        template: a prompt file of your own for writing tests with the places {conversation} and {most}, and, if you want our
            words there, {material}.
        temperature: of the sampling; null where a model takes none.
        max_tokens: longest reply.
    """
    if not 1 <= most <= _MOST:
        raise BadValue("unit_tests: most", most, f"a whole number from 1 to {_MOST}")
    tests, source = _given(response.prompt.meta.get(field), field), "meta"
    known = response.prompt.meta.get(solution)

    async def outcomes(program: str, some: Sequence[_Test]) -> list[str]:
        return await together([_outcome(sandbox, program, test, seconds, memory_mb) for test in some])

    if not tests and ask is not None:
        asking = {"temperature": temperature, "max_tokens": max_tokens}
        tests, source = await _written(response, ask, load(__file__, "prompts/unit_tests.txt", template), most, asking), "model"
        if isinstance(known, str) and known.strip():
            right = await outcomes(_program(known), tests)
            tests = [test for test, outcome in zip(tests, right, strict=True) if outcome == "passed"]
    if not tests:
        return Abstained("the prompt has no tests" if source == "meta" else "the known solution passes none of the tests that were written")
    program = _program(response.text)
    parses = _parses(program)
    ended = await outcomes(program, tests) if parses else ["error"] * len(tests)
    counts = Counter(ended)
    scores = {**{name: counts[name] for name in _OUTCOMES}, "total": len(tests), "syntax_error": not parses, "tests": source}
    raw = json.dumps([{"test": test.shown, "outcome": end} for test, end in zip(tests, ended, strict=True)], ensure_ascii=False)
    told = "the program does not parse" if not parses else ", ".join(f"{counts[name]} {name}" for name in _OUTCOMES if counts[name])
    return Score(counts["passed"] / len(tests), scores, f"of {len(tests)} tests: {told}", raw)


def _given(held: Any, field: str) -> list[_Test]:
    """The tests of a prompt's meta."""
    if held is None or held == []:
        return []
    found = [_test(one, field) for one in (held if isinstance(held, list) else [held])]
    if len(found) > _MOST:
        raise BadValue(f"the number of tests in meta.{field}", len(found), f"at most {_MOST}")
    return found


def _test(one: Any, field: str) -> _Test:
    if isinstance(one, str) and one.strip():
        return _Test(code=one)
    if isinstance(one, Mapping) and set(one) == {"input", "output"} and all(isinstance(v, str) for v in one.values()):
        return _Test(stdin=one["input"], stdout=one["output"])
    raise PrefdataError(
        f"meta.{field} holds {str(one)[:80]!r}, which is no test; a test is Python such as 'assert add(1, 2) == 3', or an object with "
        "the texts input and output."
    )


async def _written(response: Response, ask: Ask, template: str, most: int, asking: Mapping[str, Any]) -> list[_Test]:
    """Tests by a model that sees the prompt and no response, so that all responses get the same."""
    material = words(load(__file__, "prompts/common.txt"), "material")
    asked = question(template, conversation=talk(response.prompt), most=str(most), material=material)
    reply = await ask(asked, **asking)
    held = read(reply, fields_in).get("tests")
    good = isinstance(held, list) and all(isinstance(one, str) and _parses(one) and one.strip() for one in held)
    if not isinstance(held, list) or not good or not held:
        raise Unreadable("the reply's JSON has no list of tests in Python", reply.text)
    return [_Test(code=one) for one in held[:most]]


def _program(text: str) -> str:
    """The Python in a text: its last block that says so, else its last block, else all of it."""
    marked = _PYTHON.findall(text)
    blocks = marked or code_blocks(text)
    return str(blocks[-1]) if blocks else text


def _parses(program: str) -> bool:
    try:
        with warnings.catch_warnings():  # about escapes in strings; they are the program's matter
            warnings.simplefilter("ignore")
            ast.parse(program)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


async def _outcome(sandbox: Sandbox, program: str, test: _Test, seconds: float, memory_mb: int) -> str:
    """How one test ended."""
    if test.stdout is not None:
        ran = await sandbox.run(program, stdin=test.stdin, seconds=seconds, memory_mb=memory_mb)
        return _ended(ran) or ("passed" if _lines(ran.stdout) == _lines(test.stdout) else "failed")
    # The word at the end tells a test that was gone through from a program that left early with exit(0).
    end = secrets.token_hex(8)
    given = json.dumps({"program": program, "test": test.code, "end": end})
    ran = await sandbox.run(_HARNESS, stdin=given, seconds=seconds, memory_mb=memory_mb)
    said = ran.stdout.rstrip("\n").rpartition("\n")[2]
    return _ended(ran) or {f"passed {end}": "passed", f"failed {end}": "failed"}.get(said, "error")


_HARNESS = """
import json, os, sys, types

def run(program, test, end):
    sys.stdout = open(os.devnull, "w")
    module = sys.modules["solution"] = types.ModuleType("solution")
    exec(compile(program, "solution.py", "exec", dont_inherit=True), module.__dict__)
    try:
        exec(compile(test, "test.py", "exec", dont_inherit=True), module.__dict__)
    except AssertionError:
        said = "failed"
    else:
        said = "passed"
    sys.__stdout__.write("\\n" + said + " " + end + "\\n")

run(**json.loads(sys.stdin.read()))
"""
"""The program is a module that is not the main one, so that what it does only as a script is left out."""


def _ended(ran: Ran) -> str:
    """An outcome that the program itself does not decide, or nothing."""
    if ran.state == "refused":
        raise PrefdataError(f"the sandbox did not run the program: {ran.stderr.strip()[:200]}")
    return "" if ran.state == "ok" else ran.state


def _lines(text: str) -> list[str]:
    """Printed text without spaces at the ends of lines and empty lines at the end."""
    return [line.rstrip() for line in text.rstrip().split("\n")]
