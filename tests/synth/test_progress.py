"""Rate and remaining time of a stage, and lines where there is no terminal."""

import io
import threading
import time

from rich.console import Console

from synth.progress import Lines, Stages, duration, shown_progress


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_rate_and_remaining_time_are_of_the_steps_made_since_the_stage_began() -> None:
    clock = Clock()
    stages = Stages(clock)
    stage, begins = stages.report("trials", 20, 60, "")  # a run that goes on: 20 cost nothing now
    assert begins
    clock.now = 30.0
    assert stage.pace(clock.now) == "30 s so far"
    stages.report("trials", 30, 60, "")
    assert stage.pace(clock.now) == "3.0 s each, about 90 s left"
    assert stage.pace(clock.now + 60.0) == "3.0 s each, about 30 s left"
    assert stage.pace(clock.now + 90.0) == "3.0 s each, later than expected"
    clock.now = 120.0
    stages.report("trials", 60, 60, "")
    assert stage.pace(clock.now) == "in 2.0 min"
    assert stages.current() is None


def test_fast_steps_are_counted_by_the_second() -> None:
    clock = Clock()
    stages = Stages(clock)
    stage, _ = stages.report("export", 0, 100, "")
    clock.now = 2.0
    stages.report("export", 50, 100, "")
    assert stage.pace(clock.now) == "25 a second, about 2.0 s left"


def test_the_stage_within_another_is_current_until_it_ends() -> None:
    stages = Stages(Clock())
    stages.report("held-out", 4, 14, "")
    inner, _ = stages.report("best single weight", 0, 15, "")
    assert stages.current() is inner
    stages.report("best single weight", 15, 15, "")
    outer = stages.current()
    assert outer is not None
    assert outer.name == "held-out"


def test_a_stage_that_lasts_has_a_line_at_its_beginning_each_minute_and_at_its_end() -> None:
    clock, said = Clock(), list[str]()
    lines = Lines(said.append, every_s=60.0, clock=clock)
    lines.report("answers", 0, 4, "base")
    for second in range(1, 150):
        clock.now = float(second)
        lines.look()
        if second == 100:
            lines.report("answers", 2, 4, "medic")
    lines.report("answers", 4, 4, "")
    lines.report("answers", 4, 4, "")
    lines.report("quick", 0, 1, "")
    lines.report("quick", 1, 1, "")
    assert said == [
        "answers ...",
        "answers: 0 of 4, 61 s so far; base",
        "answers: 2 of 4, 50 s each, about 79 s left; medic",
        "answers: 4 of 4, in 2.5 min",
    ]


def test_a_stage_that_begins_again_is_timed_anew() -> None:
    clock, said = Clock(), list[str]()
    lines = Lines(said.append, clock=clock)
    lines.report("prepare", 0, 1, "")
    clock.now = 10.0
    lines.report("prepare", 1, 1, "")
    clock.now = 100.0
    lines.report("prepare", 0, 1, "")
    clock.now = 107.0
    lines.report("prepare", 1, 1, "")
    assert said == ["prepare: in 10 s", "prepare: in 7.0 s"]


def test_without_a_terminal_a_silent_step_still_has_lines_and_no_thread_is_left() -> None:
    out = io.StringIO()
    before = threading.active_count()
    with shown_progress(Console(file=out, width=20), every_s=0.02) as report:
        report("one long step of work", 0, 1, "[red]\x1b[2J")
        deadline = time.monotonic() + 20.0
        while out.getvalue().count("so far") < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
    first, second, *_ = out.getvalue().splitlines()
    assert first == "one long step of work ..."
    assert second.startswith("one long step of work: ")
    assert second.endswith(" s so far; [red]\\x1b[2J")
    assert threading.active_count() == before


def test_a_terminal_shows_a_bar_with_count_and_pace() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120)
    with shown_progress(console) as report:
        report("trials", 3, 60, "domain 0.5")
    assert "3/60" in out.getvalue()
    assert "so far" in out.getvalue()
    assert "domain 0.5" in out.getvalue()


def test_durations_are_short() -> None:
    assert [duration(s) for s in (0.0, 9.96, 99.0, 100.0, 3599.0, 86400.0)] == [
        *("0.0 s", "10 s", "99 s", "1.7 min", "1.0 h", "24.0 h")
    ]
