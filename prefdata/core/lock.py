"""Taking turns on one store: an OS file lock outside DuckDB's own, fair, bounded, and freed by the death of its holder.

Two `flock`ed files stand beside the store: `<store>.lock` is held shared to read and exclusive to write; before waiting
for it everybody passes `<store>.turn`, so that a writer in line is not overtaken by readers that keep arriving.
DuckDB 2.0.0 reads a file's header before taking its own lock and then loses committed rows of other processes; with
this lock taken before connect and held past close it does not.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from prefdata.core.errors import Busy, StoreError

log = logging.getLogger("prefdata.lock")
WAIT_SECONDS = 120.0
SAY_AFTER = 2.0


@contextmanager
def hold(store: Path, *, exclusive: bool, wait: float = WAIT_SECONDS) -> Iterator[None]:
    """Hold the store's lock for the length of the block; raise `Busy` after `wait` seconds in line."""
    path = Path(f"{store}.lock")
    descriptor = _open(path, exclusive)
    if descriptor is None:
        yield
        return
    try:
        deadline = time.monotonic() + wait
        turn = _open(Path(f"{store}.turn"), exclusive)
        try:
            if turn is not None:
                _take(turn, fcntl.LOCK_EX, deadline, path)
            _take(descriptor, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH, deadline, path)
        finally:
            if turn is not None:
                os.close(turn)
        if exclusive:
            _sign(descriptor)
        yield
    finally:
        os.close(descriptor)


def _open(path: Path, exclusive: bool) -> int | None:
    """A descriptor of the lock file; None where a reader meets a folder nobody can write to."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except FileNotFoundError:
        raise StoreError(f"the folder {str(path.parent)!r} does not exist; create it or give another --store.") from None
    except OSError as error:
        if exclusive:
            raise StoreError(
                f"cannot write in the folder {str(path.parent)!r} ({error.strerror}); give a writable place with --store FILE."
            ) from None
    with suppress(OSError):
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    return None


def _take(descriptor: int, kind: int, deadline: float, path: Path) -> None:
    with suppress(BlockingIOError):
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        return
    # The kernel's queue is fairer than polling, and a blocking flock knows no time limit: a thread waits in line with
    # a duplicate of the descriptor (same lock), and this thread waits for it.
    waiter = os.dup(descriptor)
    got, given_up, guard = threading.Event(), threading.Event(), threading.Lock()

    def stand_in_line() -> None:
        try:
            fcntl.flock(waiter, kind)
            with guard:
                if given_up.is_set():
                    fcntl.flock(waiter, fcntl.LOCK_UN)
                else:
                    got.set()
        finally:
            os.close(waiter)

    threading.Thread(target=stand_in_line, daemon=True).start()
    first = min(SAY_AFTER, max(0.0, deadline - time.monotonic()))
    if got.wait(first):
        return
    log.info("waiting for %s", _holder(path))
    if got.wait(max(0.0, deadline - time.monotonic())):
        return
    with guard:
        if got.is_set():
            return
        given_up.set()
    raise Busy(f"the store is still busy with {_holder(path)}; wait for it to end, or stop it, and run the same command again.")


def _sign(descriptor: int) -> None:
    """Leave who holds the lock, for those who wait; best effort."""
    import sys

    text = f"{os.getpid()} {Path(sys.argv[0]).name} {' '.join(sys.argv[1:2])}".strip()
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode()[:200], 0)


def _holder(path: Path) -> str:
    with suppress(OSError):
        pid, _, name = path.read_text(encoding="utf-8", errors="replace").partition(" ")
        if pid.isdigit():
            return f"process {pid} ({name})" if name else f"process {pid}"
    return "another process"
