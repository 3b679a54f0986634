"""How far a run is: a live display on a terminal, now and then a line of log elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from prefdata.cli.show import Screen, clean, money

if TYPE_CHECKING:
    from prefdata.core.run import Progress, StepReport

EVERY_SECONDS = 5.0


@dataclass
class Tally:
    """One step under way."""

    step: str
    total: int
    done: int = 0
    abstained: int = 0
    failed: int = 0
    cost: float = 0.0
    since: float = field(default_factory=lambda: time.monotonic())

    @property
    def seen(self) -> int:
        return self.done + self.abstained + self.failed

    @property
    def rate(self) -> float:
        return self.seen / max(time.monotonic() - self.since, 1e-3)

    def add(self, done: int, abstained: int, failed: int, cost: float) -> None:
        self.done, self.abstained, self.failed, self.cost = (
            self.done + done,
            self.abstained + abstained,
            self.failed + failed,
            self.cost + cost,
        )

    def words(self) -> str:
        """12 done, 1 failed, 3.1/s, $0.02, 0:40 left."""
        parts = [f"{self.done:,} done"]
        parts += [f"{count:,} {state}" for count, state in ((self.abstained, "abstained"), (self.failed, "failed")) if count]
        if self.seen:
            parts.append(f"{self.rate:,.1f}/s" if self.rate < 100 else f"{self.rate:,.0f}/s")
        if self.cost:
            parts.append(money(self.cost))
        if self.seen and self.total > self.seen:
            parts.append(f"{clock((self.total - self.seen) / self.rate)} left")
        return ", ".join(parts)


def clock(seconds: float) -> str:
    """1:02:03, or 0:07."""
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@contextmanager
def watching(screen: Screen) -> Iterator[Progress]:
    """The Progress that fits where stderr goes; silent with --json."""
    from prefdata.core.run import Quiet

    if screen.json:
        yield Quiet()
    elif screen.err.is_terminal:
        live = Live(screen)
        with live.bars:
            yield live
    else:
        yield Lines(screen)


class Lines:
    """Log lines: at most one every few seconds, and one at the end of each step that did something."""

    def __init__(self, screen: Screen) -> None:
        self.screen, self.tally, self.spoke = screen, Tally("", 0), time.monotonic()

    def start(self, step: str, total: int) -> None:
        self.tally, self.spoke = Tally(step, total), time.monotonic()

    def advance(self, done: int = 0, abstained: int = 0, failed: int = 0, cost: float = 0.0) -> None:
        self.tally.add(done, abstained, failed, cost)
        if time.monotonic() - self.spoke >= EVERY_SECONDS:
            self.spoke = time.monotonic()
            of = f" of {self.tally.total:,}" if self.tally.total else ""
            self.screen.note(f"{self.tally.step}: {self.tally.seen:,}{of}: {self.tally.words()}")

    def finish(self, report: StepReport) -> None:
        if not report.missing and report.had:
            self.screen.note(f"{report.step}: nothing to do, {report.had:,} rows were there")
        else:
            self.screen.note(f"{report.step}: finished in {clock(report.seconds)}")


class Live:
    """One bar a step, redrawn in place."""

    def __init__(self, screen: Screen) -> None:
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self.bars = Progress(
            SpinnerColumn(finished_text=" "),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[words]}", markup=False),
            TimeElapsedColumn(),
            console=screen.err,
            transient=True,
            refresh_per_second=5,
        )
        self.lock = threading.Lock()
        self.tally = Tally("", 0)
        self.task: Any = None

    def start(self, step: str, total: int) -> None:
        self.tally = Tally(step, total)
        self.task = self.bars.add_task(clean(step), total=total or None, words="")

    def advance(self, done: int = 0, abstained: int = 0, failed: int = 0, cost: float = 0.0) -> None:
        with self.lock:
            self.tally.add(done, abstained, failed, cost)
            if self.task is not None:
                self.bars.update(self.task, completed=self.tally.seen, words=self.tally.words())

    def finish(self, report: StepReport) -> None:
        if self.task is not None:
            self.bars.update(
                self.task, total=max(self.tally.total, self.tally.seen, 1), completed=max(self.tally.total, self.tally.seen, 1)
            )
        self.task = None
