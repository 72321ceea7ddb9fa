"""How far long work is: one callback everywhere, and how it is shown on stderr.

On a terminal every stage is a bar. Elsewhere one that lasts has a line when it has begun, one a
minute from then on, whether it reports or not, and one at its end. Both say rate and remaining
time.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
)
from rich.text import Text

# (stage, steps done, steps in all, note)
Report = Callable[[str, int, int, str], None]

EVERY_S = 60.0  # between two lines where there is no terminal
_LONG_S = 5.0  # a stage that took longer says so at its end
_LOOK_S = 1.0  # between looks at whether a line is due; what is over sooner has none


def silent(stage: str, done: int, total: int, note: str) -> None:
    """Report nothing."""


def prefixed(report: Report, prefix: str) -> Report:
    """The same report with a prefix on every stage."""

    def tell(stage: str, done: int, total: int, note: str) -> None:
        report(f"{prefix}{stage}", done, total, note)

    return tell


def duration(seconds: float) -> str:
    """Seconds as people say them.

    >>> [duration(s) for s in (0.42, 45.0, 192.0, 5040.0)]
    ['0.4 s', '45 s', '3.2 min', '1.4 h']
    """
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3570.0 else f"{seconds / 3600:.1f} h"


def printable(text: str) -> str:
    """The text with control characters spelled out, so that they cannot steer a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


@dataclass(slots=True)
class ProgressStage:
    """One stage: where it began, and where it is."""

    name: str
    began_s: float  # by the clock that all times are of
    first: int  # steps that were done when it began, as where a run goes on
    done: int
    total: int
    last_s: float  # when `done` was reported
    note: str = ""
    announced: bool = False  # by a line

    @property
    def finished(self) -> bool:
        return self.done >= self.total

    @property
    def took_s(self) -> float:
        """Until the last report."""
        return self.last_s - self.began_s

    def pace(self, now_s: float) -> str:
        """Rate and remaining time; the time so far where no step is finished."""
        if self.finished:
            return f"in {duration(self.took_s)}"
        steps = self.done - self.first
        if steps <= 0:
            return f"{duration(now_s - self.began_s)} so far"
        each = self.took_s / steps
        left = each * (self.total - self.done) - (now_s - self.last_s)
        rate = f"{duration(each)} each" if each >= 1.0 else f"{1.0 / max(each, 1e-9):.0f} a second"
        return f"{rate}, " + (
            f"about {duration(left)} left" if left > 0.0 else "later than expected"
        )


@dataclass(slots=True)
class Stages:
    """All stages of a command, by name, in the order of their last reports."""

    clock: Callable[[], float] = time.monotonic
    stages: dict[str, ProgressStage] = field(default_factory=dict)

    def report(self, name: str, done: int, total: int, note: str) -> tuple[ProgressStage, bool]:
        """Take a report in: the stage, and whether it begins, for the first time or again."""
        now, stage = self.clock(), self.stages.pop(name, None)
        begins = stage is None or done < stage.done
        if stage is None or begins:
            stage = ProgressStage(name, now, done, done, total, now, note)
        elif done > stage.done:
            stage.done, stage.last_s = done, now
        stage.total, stage.note = total, note
        self.stages[name] = stage
        return stage, begins

    def current(self) -> ProgressStage | None:
        """The unfinished stage that was reported last: a stage within another comes first."""
        return next((stage for stage in reversed(self.stages.values()) if not stage.finished), None)


class Lines:
    """Stages as lines of text; `say` prints one."""

    def __init__(
        self,
        say: Callable[[str], None],
        *,
        every_s: float = EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._say, self._every_s, self._clock = say, every_s, clock
        self._stages = Stages(clock)
        self._said_s = clock()
        self._lock = threading.Lock()

    def report(self, name: str, done: int, total: int, note: str) -> None:
        """A `Report`."""
        with self._lock:
            before = self._stages.stages.get(name)
            was_finished = before is not None and before.finished
            stage, _ = self._stages.report(name, done, total, note)
            if stage.finished and not was_finished and stage.took_s > _LONG_S:
                self._line(self._text(stage))

    def look(self) -> None:
        """Say that the current stage has begun, or where it is, if nothing was said for long."""
        with self._lock:
            stage = self._stages.current()
            if stage is None:
                return
            if not stage.announced:
                stage.announced = True
                self._line(f"{stage.name} ...")
            elif self._clock() - self._said_s >= self._every_s:
                self._line(self._text(stage))

    def _text(self, stage: ProgressStage) -> str:
        count = f"{stage.done} of {stage.total}, " if stage.total > 1 else ""
        note = f"; {stage.note}" if stage.note else ""
        return f"{stage.name}: {count}{stage.pace(self._clock())}{note}"

    def _line(self, text: str) -> None:
        self._said_s = self._clock()
        self._say(text)


class _Pace(ProgressColumn):
    def render(self, task: Task) -> Text:
        stage: ProgressStage = task.fields["stage"]
        return Text(stage.pace(time.monotonic()))


@contextmanager
def shown_progress(console: Console | None = None, *, every_s: float = EVERY_S) -> Iterator[Report]:
    """A report that shows all stages on stderr.

    Args:
        console: of stderr, where the caller writes there too.
        every_s: between two lines where it is no terminal.
    """
    console = Console(file=sys.stderr) if console is None else console
    with _bars(console) if console.is_terminal else _lines(console, every_s) as report:
        yield report


@contextmanager
def _bars(console: Console) -> Iterator[Report]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        _Pace(),
        TextColumn("{task.fields[stage].note}", markup=False),
    )
    stages, tasks = Stages(), dict[str, TaskID]()
    with Progress(*columns, console=console) as bars:

        def report(name: str, done: int, total: int, note: str) -> None:
            stage, _ = stages.report(name, done, total, printable(note))
            if name not in tasks:
                shown = escape(printable(f"{name:<34}"))
                tasks[name] = bars.add_task(shown, total=total, stage=stage)
            bars.update(tasks[name], completed=done, total=total, stage=stage)

        yield report


@contextmanager
def _lines(console: Console, every_s: float) -> Iterator[Report]:
    def say(text: str) -> None:
        console.print(escape(printable(text)), highlight=False, soft_wrap=True)

    lines, over = Lines(say, every_s=every_s), threading.Event()

    def watch() -> None:
        while not over.wait(min(_LOOK_S, every_s)):
            lines.look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield lines.report
    finally:
        over.set()
        thread.join()
