"""Several worker processes (`search/study/worker.py`) on one study, on one machine.

This process watches and runs no trial. When a worker dies, its running trial goes back into the
queue and another worker takes its place. Workers whose watcher dies end by themselves.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import IO

import torch

from safemerge.errors import SafemergeError
from search.runs.rundir import RunDir
from search.study.context import StudyContext
from search.study.interrupts import uninterrupted
from search.study.outcome import ERROR, WORKER
from search.study.recovery import KILLS, recover
from search.study.stopping import reason_to_stop
from search.study.trials import check_failures
from synth.progress import Report

_WATCH_S = 0.2  # between looks at the workers
_STOP_S = 10.0  # that a worker has to end by itself after Ctrl-C
# In a row at one place, none of which finished a trial: one more than a trial that kills its worker
# each time is given, so that it does not end the search by itself.
_DEATHS = KILLS + 1


@dataclass(slots=True)
class _Place:
    index: int
    device: str
    number: int  # of the worker, which no other one of this call has
    process: subprocess.Popen[bytes]  # its standard input closes when this process ends
    deaths: int = 0  # of workers here since one finished a trial


def run_workers(context: StudyContext, device: str, report: Report, *, first: int) -> str:
    """`run_trials` in `search.workers` processes, which read config.toml.

    Args:
        device: of their models; "cuda" takes the GPUs in turn.

    Raises:
        SafemergeError: too many trials failed, or a worker keeps dying.
    """
    workers = context.settings.workers
    devices = [device] * workers
    if device == "cuda":
        devices = [f"cuda:{index % torch.cuda.device_count()}" for index in range(workers)]
    team = _Team(context, devices, first)
    while True:
        with context.home.turn(), uninterrupted():
            reason = reason_to_stop(context)
        if reason is not None:
            return reason
        with team.at_work() as places:
            while any(place.process.poll() is None for place in places):
                time.sleep(_WATCH_S)
                with context.home.turn(), uninterrupted():
                    check_failures(context, first)
                    context.show(report)
                for place in places:
                    if place.process.poll():  # not 0, nor still at work
                        team.replace(place)


class _Team:
    def __init__(self, context: StudyContext, devices: Sequence[str], first: int) -> None:
        self._context, self._devices, self._first = context, devices, first
        self._numbers = count()

    @contextmanager
    def at_work(self) -> Iterator[list[_Place]]:
        """All workers started; whatever happens, none is left at the end, nor a running trial."""
        places: list[_Place] = []
        try:
            with uninterrupted():
                for index, device in enumerate(self._devices):
                    number = next(self._numbers)
                    process = self._start(index, device, number)
                    places.append(_Place(index, device, number, process))
            yield places
        finally:
            with uninterrupted():
                for place in places:
                    if place.process.poll() is None:
                        place.process.send_signal(signal.SIGINT)
                deadline = time.monotonic() + _STOP_S
                for place in places:
                    _end(place.process, deadline - time.monotonic())
                recover(self._context, stopped=True)

    def replace(self, place: _Place) -> None:
        with uninterrupted():
            # Asked first: what is settled as the death of this worker was not finished by it.
            finished = any(
                trial.user_attrs.get(WORKER) == place.number
                and (trial.values is not None or ERROR in trial.user_attrs)
                for trial in self._context.trials()[self._first :]
            )
            recover(self._context, worker=place.number)
            place.deaths = 1 if finished else place.deaths + 1
            if place.deaths >= _DEATHS:
                raise SafemergeError(
                    f"worker {place.index} ended {place.deaths} times without finishing a trial, "
                    f"the last time {_how(place.process.returncode)}; see "
                    f"{_log(self._context.home, place.index)}, and try fewer --workers where "
                    "memory is short"
                )
            place.number = next(self._numbers)
            place.process = self._start(place.index, place.device, place.number)

    def _start(self, index: int, device: str, number: int) -> subprocess.Popen[bytes]:
        home = self._context.home
        log = _log(home, index)
        log.parent.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "search.study.worker", str(home.path.resolve())]
        # One of them answers, since the judge of replies may be a large model.
        command += [device, str(number), str(self._first), "answers" if index == 0 else "scores"]
        threads = max(1, torch.get_num_threads() // len(self._devices))
        env = os.environ | {
            # Two OpenMP threads on one core are many times slower than one.
            "OMP_NUM_THREADS": str(threads),
            # A sampler given by its import path is found where this process finds it.
            "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
        }
        with log.open("ab") as errors:
            return _popen(command, env, errors)


def _popen(command: list[str], env: dict[str, str], errors: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start a worker that does not get a Ctrl-C before it is ready for one."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return subprocess.Popen(
            command, env=env, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=errors
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end(process: subprocess.Popen[bytes], wait_s: float) -> None:
    """Wait for a worker's end, and kill it after some seconds."""
    try:
        process.wait(max(0.0, wait_s))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdin is not None:
        process.stdin.close()


def _log(home: RunDir, index: int) -> Path:
    return home.path / "logs" / f"worker-{index}.log"


def _how(code: int) -> str:
    return f"by signal {-code}" if code < 0 else f"with exit code {code}"
