"""Programs that nobody should run, run: what they reach, how they end, and what is left behind."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from prefdata.core.errors import BadValue, PrefdataError, Stopped
from prefdata.core.protocols import Ran
from prefdata.core.store import Store
from prefdata.models import sandbox
from prefdata.models.providers import Providers
from prefdata.models.sandbox import LocalSandbox
from prefdata.models.spec import read

BOX = {"kind": "sandbox", "enabled": True}
shut_in = pytest.mark.skipif(sys.platform != "linux", reason="programs are shut in on Linux only; elsewhere they are refused")


def run(code: str, **given: Any) -> Ran:
    async def whole() -> Ran:
        box = LocalSandbox(read("box", {**BOX, **given.pop("spec", {})}))
        try:
            return await box.run(code, **{"seconds": 60, **given})
        finally:
            await box.close()

    return asyncio.run(whole())


@shut_in
@pytest.mark.parametrize(
    ("code", "state", "exit", "stdout"),
    [
        ("print('hi')", "ok", 0, "hi\n"),
        ("print(input() + '!')", "ok", 0, "Grüße!\n"),
        ("print(open('data.txt').read(), __name__)", "ok", 0, "1,2 __main__\n"),
        ("from helper import three; print(three)", "ok", 0, "3\n"),
        ("exit(3)", "error", 3, ""),
        ("import os; os._exit(0)", "ok", 0, ""),
        ("def (", "error", 1, ""),
        ("import ctypes; ctypes.string_at(0)", "error", -11, ""),
        ("import threading; t = threading.Thread(target=print, args=('t',)); t.start(); t.join()", "ok", 0, "t\n"),
        ("import asyncio\nasync def main(): await asyncio.sleep(0.01); print('a')\nasyncio.run(main())", "ok", 0, "a\n"),
        ("import tempfile; f = tempfile.TemporaryFile(); f.write(b'x'); f.seek(0); print(f.read())", "ok", 0, "b'x'\n"),
        ("print('a\\x00b')", "ok", 0, "a\ufffdb\n"),
        ("import sys; sys.stdout.buffer.write(b'\\xff')", "ok", 0, "\ufffd"),
        ("import numpy", "error", 1, ""),
    ],
)
def test_what_a_program_says_and_how_it_ends(code: str, state: str, exit: int, stdout: str) -> None:
    ran = run(code, stdin="Grüße\n", files={"data.txt": "1,2", "helper.py": "three = 3"})
    assert (ran.state, ran.exit, ran.stdout) == (state, exit, stdout), ran.stderr


@shut_in
@pytest.mark.parametrize(
    "code",
    [
        "import socket; socket.create_connection(('127.0.0.1', 80), 1)",
        "import socket; socket.socket(socket.AF_UNIX)",
        "import urllib.request; urllib.request.urlopen('http://example.org', timeout=1)",
        "import os; os.fork()",
        "import subprocess; subprocess.run(['ls'])",
        "import os; os.posix_spawn('/bin/ls', ['ls'], {})",
        "import os; os.execv('/bin/sh', ['sh', '-c', 'ls'])",
        "import multiprocessing; multiprocessing.Process(target=print).start()",
        "open('/etc/passwd').read()",
        "open('/proc/self/environ').read()",
        "import os; open(f'/proc/{os.getppid()}/environ').read()",
        "import os; open(f'/proc/{os.getppid()}/mem', 'rb').read(1)",
        "import os; os.listdir('/')",
        "import os; os.listdir({home!r})",
        "open({secret!r}).read()",
        "open({secret!r}, 'a')",
        "import os; os.truncate({secret!r}, 0)",
        "import os; os.chmod({secret!r}, 0o777)",
        "import os; os.utime({secret!r})",
        "import os; os.unlink({secret!r})",
        "import os; os.rename({secret!r}, 'mine')",
        "import os; os.link({secret!r}, 'mine'); open('mine').read()",
        "import os; os.symlink({secret!r}, 'mine'); open('mine').read()",
        "open('/tmp/prefdata-evil', 'w')",
        "open('/dev/shm/prefdata-evil', 'w')",
        "import os; os.memfd_create('x')",
        "import os; os.kill(os.getppid(), 9)",
        "import os; os.killpg(os.getpgid(os.getppid()), 9)",
        "import os; os.kill(1, 0)",
        "import ctypes, os\nif ctypes.CDLL(None, use_errno=True).ptrace(16, os.getppid(), 0, 0) != 0: raise PermissionError",
        "import ctypes\nif ctypes.CDLL(None).unshare(0x10000000) != 0: raise PermissionError",
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
        "import resource, os; resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE, (3, 3))",
    ],
)
def test_a_program_cannot_get_out(code: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("the store of somebody")
    ran = run(code.replace("{secret!r}", repr(str(secret))).replace("{home!r}", repr(str(Path.home()))))
    assert ran.state == "error", ran
    assert re.search("PermissionError|Operation not permitted|not allowed|cross-device link|name resolution", ran.stderr), ran.stderr
    assert secret.read_text() == "the store of somebody"
    assert not Path("/tmp/prefdata-evil").exists()


@shut_in
def test_no_key_is_to_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-live-0123456789abcdefghij")
    ran = run("import os, sys; print(sorted(os.environ), sys.argv, os.environ.get('OPENAI_API_KEY'))")
    assert ran.stdout == "['HOME', 'LANG', 'PYTHONHASHSEED', 'TMPDIR'] ['program.py'] None\n"


@shut_in
@pytest.mark.parametrize(
    ("code", "state"),
    [
        ("while True: pass", "timeout"),
        ("import time; time.sleep(100)", "timeout"),
        ("import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: pass", "timeout"),
        ("while True: print('x' * 10000)", "timeout"),
        ("while True: pass\n" * 2, "timeout"),
        ("input()\nwhile True: pass", "timeout"),
        ("x = []\nwhile True: x.append(bytearray(10 ** 7))", "memory"),
        ("x = 'a' * 10 ** 10", "memory"),
        ("import os\nwhile True: os.fork()", "error"),
        ("f = open('f', 'wb')\nwhile True: f.write(b'0' * 10 ** 6)", "error"),
        ("i = 0\nwhile True:\n    i += 1\n    with open(str(i), 'wb') as f: f.write(b'0' * 10 ** 6)", "error"),
        ("i = 0\nwhile True:\n    i += 1\n    open(str(i), 'w').close()", "error"),
        ("f = []\nwhile True: f.append(open('x', 'w'))", "error"),
        ("import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(9,), daemon=True).start()", "error"),
    ],
)
def test_a_program_cannot_take_all_there_is(code: str, state: str) -> None:
    started = time.monotonic()
    ran = run(code, stdin="x\n", seconds=1.5 if state == "timeout" else 60, memory_mb=256)
    assert ran.state == state, ran
    assert time.monotonic() - started < 60
    assert len(ran.stdout.encode()) <= sandbox.OUTPUT_BYTES + 20
    assert ran.exit is None or state != "timeout"


@shut_in
def test_long_output_is_cut_and_said_so() -> None:
    ran = run("print('x' * 10 ** 6); import sys; print('last words', file=sys.stderr)")
    assert ran.state == "ok"
    assert ran.stdout == "x" * sandbox.OUTPUT_BYTES + "\n... (cut off)"
    assert ran.stderr == "last words\n"


@shut_in
def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for code in ("open('x', 'w').write('y')", "while True: pass", "import os; os.mkdir('d'); open('d/x', 'w')"):
        run(code, seconds=2)
    assert list(tmp_path.iterdir()) == []
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    assert not [c for c in children if b"program.py" in Path(f"/proc/{c}/cmdline").read_bytes()]


@shut_in
def test_hashes_are_the_same_every_time() -> None:
    assert run("print(hash('a'), list({'x', 'y', 'z'}))").stdout == run("print(hash('a'), list({'x', 'y', 'z'}))").stdout


@shut_in
def test_many_at_once() -> None:
    async def all_of_them() -> list[Ran]:
        box = LocalSandbox(read("box", BOX))
        return list(await asyncio.gather(*(box.run(f"print({n})", seconds=20) for n in range(30))))

    assert [ran.stdout for ran in asyncio.run(all_of_them())] == [f"{n}\n" for n in range(30)]


@shut_in
def test_a_cancelled_run_ends_its_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    async def cancelled() -> None:
        box = LocalSandbox(read("box", BOX))
        await box.run("pass")
        task = asyncio.create_task(box.run("import time; time.sleep(60)", seconds=60))
        await asyncio.sleep(0.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    started = time.monotonic()
    asyncio.run(cancelled())
    assert time.monotonic() - started < 50
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"seconds": 0}, "seconds is 0"),
        ({"seconds": 1e9}, "up to 600"),
        ({"memory_mb": 1}, "memory_mb is 1"),
        ({"files": {"../x": ""}}, "files is '../x'"),
        ({"files": {"/etc/x": ""}}, "inside the working folder"),
    ],
)
def test_a_wrong_bound_is_named(given: dict[str, Any], words: str) -> None:
    with pytest.raises(BadValue, match=words):
        run("pass", **given)


def test_where_a_probe_gets_out_nothing_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sandbox that does not hold is found out before the first program."""
    monkeypatch.setattr(sandbox, "_PROBE", "print('open a network connection')\nprint('end')  # {environ} {outside} {parent}")
    with pytest.raises(Stopped, match=r"cannot shut programs in .* it could open a network connection; run it on Linux"):
        run("print(1)")
    monkeypatch.setattr(sandbox, "_PROBE", "raise SystemError('no {environ} {outside} {parent}')")
    with pytest.raises(Stopped, match=r"a harmless program was tried, and .*SystemError"):
        run("print(1)")


def test_a_system_that_cannot_shut_in_refuses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without Landlock nothing runs, unless the recipe asks for bounds only."""
    child = tmp_path / "child.py"
    text = Path(sandbox.__file__).with_name("sandbox_child.py").read_text()
    child.write_text(text.replace("def shut_files(folder: Path) -> bool:", "def shut_files(folder: Path) -> bool:\n    return False"))
    monkeypatch.setattr(sandbox, "_CHILD", child)
    with pytest.raises(Stopped, match=r"no Landlock .*so files could be read and changed; run it on Linux"):
        run("print(1)")
    assert run("print(1)", spec={"isolation": "limits"}).stdout == "1\n"


def test_it_is_off_unless_switched_on(store: Store) -> None:
    for given in ({}, {"enabled": False}):
        providers = Providers({"box": {"kind": "sandbox", **given}}, store)
        with pytest.raises(PrefdataError, match=r"'box' of kind 'sandbox' is off; .* models\.box\.enabled: true"):
            providers.check("box", "sandbox")
        with pytest.raises(PrefdataError, match="is off"):
            providers.sandbox("box")
    with pytest.raises(BadValue, match="enabled is 'yes'"):
        Providers({"box": {"kind": "sandbox", "enabled": "yes"}}, store)
    with pytest.raises(PrefdataError, match="cannot be used as 'ask'"):
        Providers({"box": BOX}, store).check("box", "ask")


@shut_in
def test_it_is_handed_out_and_closed(using: Any) -> None:
    async def use(providers: Providers) -> Ran:
        providers.check("box", "sandbox")
        assert providers.sandbox("box") is providers.sandbox("box")
        assert providers.concurrency("box") == 6
        return await providers.sandbox("box").run("print(2)")

    ran, providers = using({"box": {**BOX, "max_concurrency": 3}}, use)
    assert ran.stdout == "2\n"
    assert providers.identity("box")["python"] == f"{sys.version_info.major}.{sys.version_info.minor}"
