"""The journal: a reply is on disk before anyone sees it, long before its turn comes to be stored.

Every process appends to files of its own beside the store, `<store>.calls.<pid>.<number>`, and holds each locked while
it lives. One `write` per reply outlives kill -9 (only a power cut can take the last moments). A few times a second the
file is sealed, taken into the store and removed. Files without a living owner are left by a killed process; the next
one that opens the journal takes them in.
"""

from __future__ import annotations

import errno
import fcntl
import glob
import itertools
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from prefdata.core.errors import StoreError

_NUMBERS = itertools.count(1)


@dataclass
class Segment:
    """One file of the journal, locked by whoever holds the descriptor."""

    path: Path
    descriptor: int
    lines: int = 0
    size: int = 0

    def remove(self) -> None:
        """The lines are stored: the file is needed no more."""
        with suppress(FileNotFoundError):
            self.path.unlink()
        os.close(self.descriptor)

    def leave(self) -> None:
        """Give up the file unstored, for the next process to take in."""
        os.close(self.descriptor)


class Journal:
    """The files of one process, for one store."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._open: Segment | None = None

    @property
    def empty(self) -> bool:
        return self._open is None

    def append(self, line: bytes) -> None:
        """Add one line, whole or not at all."""
        segment = self._open or self._start()
        try:
            written = os.write(segment.descriptor, line)
            if written < len(line):
                os.ftruncate(segment.descriptor, segment.size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise StoreError(
                f"cannot write {str(segment.path)!r} ({error.strerror}); free some space and run the same command again."
            ) from None
        segment.lines += 1
        segment.size += len(line)

    def seal(self) -> Segment | None:
        """The file so far, to be stored; later lines go to a new one."""
        segment, self._open = self._open, None
        return segment

    def orphans(self) -> Iterator[Segment]:
        """The files of processes that are gone, locked for the caller."""
        for path in sorted(self._store.parent.glob(f"{glob.escape(self._store.name)}.calls.*")):
            segment = claim(path, create=False)
            if segment is not None:
                yield segment

    def _start(self) -> Segment:
        while self._open is None:
            self._open = claim(Path(f"{self._store}.calls.{os.getpid()}.{next(_NUMBERS)}"), create=True)
        return self._open


def claim(path: Path, *, create: bool) -> Segment | None:
    """Open and lock a file beside the store; None where somebody else holds it or has just removed it."""
    flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if create else 0)
    try:
        descriptor = os.open(path, flags, 0o666)
    except FileExistsError:
        return None
    except FileNotFoundError:
        if not create:
            return None
        raise StoreError(f"the folder {str(path.parent)!r} does not exist; create it or give another --store.") from None
    except OSError as error:
        if not create:
            return None
        raise StoreError(f"cannot write {str(path)!r} ({error.strerror}); give a writable place with --store FILE.") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_nlink:
            return Segment(path, descriptor, size=os.fstat(descriptor).st_size)
    except BlockingIOError:
        pass
    os.close(descriptor)
    return None
