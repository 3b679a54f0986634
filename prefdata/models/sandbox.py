"""Untrusted Python in a process of its own: no network, no files but its own, bounds on everything, killed in the end.

Off unless a recipe says `kind: sandbox, enabled: true`. Each program gets an empty folder, an empty environment and a new
session; `sandbox_child.py` shuts it in before it starts. Before the first program a probe tries to get out, and where it
does nothing is run. With `isolation: limits` (for systems that have neither Landlock nor seccomp, such as macOS) only the
bounds hold: programs can then use the network and read and change what the user can.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Literal

from prefdata.core.errors import BadValue, PrefdataError, Stopped
from prefdata.core.protocols import Ran
from prefdata.models.spec import Spec

OUTPUT_BYTES = 65_536
"""Kept of stdout and of stderr each; the rest is read and dropped."""
FILE_BYTES, FOLDER_BYTES, FOLDER_FILES = 16 << 20, 64 << 20, 1_000
"""Largest file, and most bytes and files in the working folder."""
OPEN_FILES = 64
LONGEST = 600.0
"""Most seconds that a program may be given."""
_LOOK = 0.05
"""Seconds between two looks at the working folder."""
_CHILD = Path(__file__).with_name("sandbox_child.py")
_PROGRAM = "program.py"
_OUT_OF_MEMORY = re.compile(r"(?:^|\n)MemoryError\b[^\n]*\s*\Z")
_PROBE = """
import os, socket
def tried(name, what):
    try:
        what()
    except (OSError, ValueError):
        return
    print(name)
tried("open a network connection", lambda: socket.socket())
tried("read the environment of another process", lambda: open({environ!r}).read())
tried("read a file of the user", lambda: open({outside!r}).read())
tried("write a file of the user", lambda: open({outside!r}, "a"))
tried("change a file of the user", lambda: os.chmod({outside!r}, 0o600))
tried("start a process", lambda: os.fork() or os._exit(0))
tried("signal another process", lambda: os.kill({parent}, 0))
print("end")
"""
_Why = Literal["", "timeout", "disk"]


class LocalSandbox:
    """Runs programs, a few at a time."""

    def __init__(self, spec: Spec) -> None:
        self._name = spec.name
        self._isolation = str(spec.options.get("isolation", "full"))
        self._places = asyncio.Semaphore(int(spec.options.get("max_concurrency") or os.cpu_count() or 1))
        self._probed: asyncio.Task[None] | None = None

    async def run(
        self, code: str, *, stdin: str = "", seconds: float = 5, memory_mb: int = 512, files: Mapping[str, str] | None = None
    ) -> Ran:
        """Run `code` as a script.

        Args:
            code: Python; it sees the standard library and nothing else.
            stdin: what it can read there.
            seconds: wall-clock bound (and of processor time, rounded up).
            memory_mb: bound of the address space, MiB.
            files: name -> text, in its working folder.

        Raises:
            Stopped: this system cannot shut a program in.
        """
        if not 0 < seconds <= LONGEST:
            raise BadValue("seconds", seconds, f"a number above 0, up to {LONGEST:g}")
        if memory_mb < 64:
            raise BadValue("memory_mb", memory_mb, "a whole number from 64; Python itself takes some")
        if self._isolation == "full":
            self._probed = self._probed or asyncio.create_task(self._probe())
            await asyncio.shield(self._probed)
        return await self._run(code, stdin, seconds, memory_mb, files or {})

    async def close(self) -> None:
        """Nothing outlives its call."""
        if self._probed is not None:
            await asyncio.gather(self._probed, return_exceptions=True)

    async def _probe(self) -> None:
        """Try to get out; where something works that must not, no program is run at all."""
        with tempfile.NamedTemporaryFile("w", prefix="prefdata-outside-") as outside:
            code = _PROBE.format(environ=f"/proc/{os.getpid()}/environ", outside=outside.name, parent=os.getpid())
            ran = await self._run(code, "", 60, 512, {})
        if ran.state == "refused":
            raise Stopped(_refusal(self._name, ran.stderr))
        escaped = ran.stdout.split("\n")
        if ran.state != "ok" or escaped != ["end", ""]:
            found = "it could " + ", ".join(line for line in escaped if line not in ("end", "")) if "end" in escaped else ran.stderr[-300:]
            raise Stopped(_refusal(self._name, f"a harmless program was tried, and {found or ran.state}"))

    async def _run(self, code: str, stdin: str, seconds: float, memory_mb: int, files: Mapping[str, str]) -> Ran:
        async with self._places:
            folder = Path(tempfile.mkdtemp(prefix="prefdata-sandbox-"))
            try:
                _write(folder, {**files, _PROGRAM: code})
                return await self._process(folder, stdin, seconds, memory_mb)
            finally:
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def _process(self, folder: Path, stdin: str, seconds: float, memory_mb: int) -> Ran:
        heard, status = os.pipe()
        settings = {
            "status": status, "isolation": self._isolation, "cpu_seconds": int(seconds) + 1, "memory_bytes": memory_mb << 20,
            "file_bytes": FILE_BYTES, "open_files": OPEN_FILES,
        }  # fmt: skip
        python = os.path.realpath(sys.executable)
        environment = {"LANG": "C.UTF-8", "HOME": str(folder), "TMPDIR": str(folder), "PYTHONHASHSEED": "0"}
        started = time.monotonic()
        try:
            process = await asyncio.create_subprocess_exec(
                python, "-I", "-S", "-B", str(_CHILD), json.dumps(settings), cwd=folder, env=environment, pass_fds=(status,),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, start_new_session=True,
            )  # fmt: skip
        finally:
            os.close(status)
        try:
            (out, err), why = await _watched(process, stdin, folder, seconds)
        finally:
            if process.returncode is None or self._isolation != "full":  # else it was alone, and its number may be another's by now
                _kill(process)
            await process.wait()
            told = os.read(heard, 1_000).decode(errors="replace")  # nobody writes any more
            os.close(heard)
        return _ran(process.returncode or 0, told, out, err, why, time.monotonic() - started)


async def _watched(process: asyncio.subprocess.Process, stdin: str, folder: Path, seconds: float) -> tuple[list[str], _Why]:
    """What the process wrote, and why it had to be ended, if it had to."""
    assert process.stdout is not None
    assert process.stderr is not None
    reading = [asyncio.create_task(_read(process.stdout)), asyncio.create_task(_read(process.stderr))]
    feeding = asyncio.create_task(_feed(process, stdin))
    ending = asyncio.create_task(process.wait())
    end = time.monotonic() + seconds
    why: _Why = ""
    try:
        while not ending.done():
            left = end - time.monotonic()
            if left <= 0 or _too_much(folder):
                why = "timeout" if left <= 0 else "disk"
                break
            await asyncio.wait([ending], timeout=min(_LOOK, left))
        if why:
            _kill(process)
        return list(await asyncio.gather(*reading)), why
    finally:
        for task in (*reading, feeding, ending):
            task.cancel()


async def _read(stream: asyncio.StreamReader) -> str:
    kept = bytearray()
    dropped = False
    while block := await stream.read(65_536):
        dropped |= len(kept) + len(block) > OUTPUT_BYTES
        kept += block[: OUTPUT_BYTES - len(kept)]
    text = kept.decode("utf-8", errors="replace").replace("\x00", "\ufffd")
    return text + "\n... (cut off)" if dropped else text


async def _feed(process: asyncio.subprocess.Process, stdin: str) -> None:
    assert process.stdin is not None
    with suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.write(stdin.encode("utf-8", errors="replace"))
        await process.stdin.drain()
        process.stdin.close()


def _too_much(folder: Path) -> bool:
    """Whether the working folder has outgrown its bounds."""
    count = size = 0
    waiting = [str(folder)]
    while waiting:
        with suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                count += 1
                with suppress(OSError):
                    size += entry.stat(follow_symlinks=False).st_size
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                if count > FOLDER_FILES or size > FOLDER_BYTES:
                    return True
    return False


def _kill(process: asyncio.subprocess.Process) -> None:
    """The process and whatever it started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _ran(code: int, ready: str, out: str, err: str, why: _Why, seconds: float) -> Ran:
    if ready != "ready" and not why:
        return Ran("refused", None, "", ready or err, seconds)
    if why == "timeout" or code == -signal.SIGXCPU:
        return Ran("timeout", None, out, err, seconds)
    if why == "disk":
        note = f"(ended: it left more than {FOLDER_BYTES >> 20} MiB or {FOLDER_FILES} files in its folder)"
        return Ran("error", None, out, f"{err}\n{note}".lstrip(), seconds)
    if code and (code == -signal.SIGKILL or _OUT_OF_MEMORY.search(err)):
        return Ran("memory", None if code < 0 else code, out, err, seconds)
    return Ran("ok" if code == 0 else "error", code, out, err, seconds)


def _write(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not path.name or "\x00" in name:
            raise BadValue("files", name, "names of files inside the working folder, such as data.txt")
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8", errors="surrogatepass")


def _refusal(name: str, why: str) -> str:
    return (
        f"stopped: model {name!r} cannot shut programs in on this machine: {' '.join(why.split())}; run it on Linux 5.13 or later "
        "(x86-64 or arm64), or set  isolation: limits  if the programs may use the network and all your files."
    )


def refuse_unless_enabled(spec: Spec) -> None:
    """A sandbox that the recipe has not switched on."""
    if spec.options.get("enabled") is not True:
        raise PrefdataError(
            f"model {spec.name!r} of kind 'sandbox' is off; to let this recipe run programs that models wrote, set  "
            f"models.{spec.name}.enabled: true"
        )
