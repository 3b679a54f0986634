"""Two ways to call `prefdata`, in process and as a process, and the rows of a small store."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from prefdata.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = "\x1b[31mred\x1b[0m [bold]not bold[/bold] \u202etxt\x07"
RECIPE = """
steps:
  - aggregate: {majority: {}}
  - signal:    {length_margin: {}}
  - filter:    {no_ties: {}}
  - filter:    {where: {keep: "length_ratio < 3", reason: far_apart}}
  - export:    {dpo: {out: out/dpo, test: 0.3}}
"""


class Answer:
    """What a call of the command line gave."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def last(self) -> str:
        return self.err.rstrip().splitlines()[-1]


def call(*args: object) -> Answer:
    """The command in this process; a fault of ours is raised."""
    got = CliRunner().invoke(app, [str(a) for a in args], prog_name="prefdata")
    if got.exception is not None and not isinstance(got.exception, SystemExit):
        raise got.exception
    return Answer(got.exit_code, got.stdout, got.stderr)


def refused(*args: object) -> str:
    """The one sentence of a call that must end with exit code 2."""
    got = call(*args)
    assert got.code == 2, got.out + got.err
    assert "Traceback" not in got.err
    assert got.err.startswith("error: ")
    lines = got.err.strip().splitlines()
    assert len(lines) == 1, got.err
    return lines[0].removeprefix("error: ")


def process(*args: object, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """The command as users start it."""
    return subprocess.run(command(*args), cwd=cwd, env=environment(**env), capture_output=True, text=True, timeout=60)


def command(*args: object) -> list[str]:
    return [sys.executable, "-m", "prefdata.cli", *map(str, args)]


def environment(**env: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", **env}


def pairs(count: int = 12) -> list[dict[str, Any]]:
    """Rows of the shape `pairs`: number 0 is hostile to terminals, number 1 has a response much longer than the other."""
    rows = []
    for number in range(count):
        a, b = f"the better answer {number}", f"a worse answer {number}"
        if number == 0:
            a = HOSTILE
        if number == 1:
            a *= 9
        label = "tie" if number == 2 else "a"
        rows.append({"source": "toys", "item_id": f"item/{number}", "prompt": f"question {number}?", "response_a": a, "response_b": b,
                     "model_a": "good", "model_b": "bad", "label": label, "annotator_id": "ann", "annotator_kind": "human"})  # fmt: skip
    return rows


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
