"""One person's place in the labelling app: upcoming pairs in memory, refilled in the background.

An answer then costs one short write, and the next pair is there when it is on disk.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from typing import Any

from prefdata.core.errors import PrefdataError
from prefdata.core.labelling import CHUNK, Asked, LabelTask, Progress, Seat, Seen, claim, fetch, fold, progress, record, undo
from prefdata.core.store import Store

CLAIM = 24
"""Pairs claimed at once: more are kept from others, fewer mean more claims."""
LOW = 6
"""Pairs in memory when the next fetch starts."""
GRACE = 60.0
"""Seconds a pair taken back stays in front although the leases of the others have run out."""
FOLD = 2.0
"""Seconds after an answer when it is merged into the store's file, in the background."""


class Desk:
    """The pairs in front of one person; its methods may be called from several threads."""

    def __init__(self, store: Store, seat: Seat) -> None:
        self.store, self.seat = store, seat
        self.done, self.left = Progress(), 0
        self._ready: deque[LabelTask] = deque()
        self._claimed: deque[Asked] = deque()
        self._lost: set[str] = set()
        self._until = 0.0
        self._filling = threading.Lock()
        self._folding: threading.Timer | None = None

    def current(self) -> LabelTask | None:
        """The pair to show; None when nothing is left for this person."""
        if time.time() > self._until:  # others may have these pairs by now
            with self._filling:
                self._ready.clear()
                self._claimed.clear()
        if not self._ready:
            self._fill()
        elif len(self._ready) <= LOW and not self._filling.locked():
            threading.Thread(target=self._fill_quietly, daemon=True).start()
        return self._ready[0] if self._ready else None

    def answer(self, task: LabelTask, choice: Seen, **more: Any) -> bool:
        """`record`, then move on. False: a task no longer in front, or answered in another tab; nothing is stored."""
        if not self._ready or self._ready[0].id != task.id:
            return False
        stored = record(self.store, self.seat.annotator, task, choice, fold=False, **more)
        if self._folding is None or not self._folding.is_alive():
            self._folding = threading.Timer(FOLD, self._fold_quietly)
            self._folding.daemon = True
            self._folding.start()
        self._ready.popleft()
        self.left = max(0, self.left - 1)
        if stored and choice == "abstain":
            self.done = replace(self.done, skipped=self.done.skipped + 1)
        elif stored:
            self.done = replace(self.done, answered=self.done.answered + 1, today=self.done.today + 1)
        return stored

    def undo(self, annotation: str | None = None) -> bool:
        """`undo`, and put that pair in front. False: there was nothing to take back."""
        task = undo(self.store, self.seat, annotation)
        if task is None:
            return False
        with self._filling:
            self._ready = deque([task, *(other for other in self._ready if other.pair_id != task.pair_id)])
            self._until = max(self._until, time.time() + GRACE)
        self.left += 1
        self.done = progress(self.store, self.seat.annotator)
        return True

    def _fill_quietly(self) -> None:
        with suppress(PrefdataError):  # the next fill in front meets the same trouble and says so
            self._fill()

    def _fold_quietly(self) -> None:
        with suppress(PrefdataError):  # the next write folds as well
            fold(self.store)

    def _fill(self) -> None:
        """Texts for the next few pairs; claims more where none is left."""
        with self._filling:
            if len(self._ready) > LOW:
                return
            while self._claimed or self._claim():
                part = list(islice(self._claimed, CHUNK))
                tasks = fetch(self.store, self.seat.annotator, part)
                for _ in part:
                    self._claimed.popleft()
                self._lost |= {pair for pair, _ in part} - {task.pair_id for task in tasks}
                self._ready.extend(tasks)
                if tasks:
                    return

    def _claim(self) -> bool:
        """Whether there was anything to claim."""
        besides = [*self._lost, *(task.pair_id for task in self._ready)]
        taken = claim(self.store, self.seat, CLAIM, besides)
        self._claimed.extend(taken.pairs)
        self._until = time.time() + self.seat.lease
        self.left = max(0, taken.left - len(self._lost))
        self.done = progress(self.store, self.seat.annotator)
        return bool(taken.pairs)
