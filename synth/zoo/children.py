"""Training processes of the zoo: start them, pass on what they say, and never leave one behind."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import cast

import torch

from safemerge.errors import SafemergeError
from synth.zoo.worker import Job, work


def run_children(job: Job, note: Callable[[str, float], None]) -> None:
    """Run one training process a rank; if one fails or this one is stopped, all of them end.

    `note` is told a model's name and the finished share of it, in [0, 1].

    Raises:
        SafemergeError: with the last line of the process that failed.
    """
    spawn = get_context("spawn")
    running = {}
    try:
        for rank in range(job.processes):
            _log(job, rank).touch()
            listen, speak = spawn.Pipe(duplex=False)
            child = spawn.Process(target=_child, args=(job, rank, speak))
            child.start()
            running[listen] = rank, child
            speak.close()  # so that its end is heard
        while running:
            for listen in cast("list[Connection]", wait([*running])):
                try:
                    said = listen.recv()
                except EOFError:
                    rank, child = running.pop(listen)
                    child.join()
                    if child.exitcode:
                        log = _log(job, rank).read_text().strip().splitlines()
                        raise SafemergeError(
                            f"training process {rank} of the small world ended with status "
                            f"{child.exitcode}: {log[-1] if log else 'no message'}"
                        ) from None
                else:
                    note(*said)
    finally:
        for _, child in running.values():
            child.kill()
            child.join()


def _log(job: Job, rank: int) -> Path:
    return job.folder / f"worker{rank}.log"


def _child(job: Job, rank: int, speak: Connection) -> None:
    """Train; a builder that is gone breaks the pipe, and so ends this process."""
    with _log(job, rank).open("w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    # One thread each: two OpenMP threads beside a busy neighbour are many times slower than one.
    torch.set_num_threads(1)
    if sys.platform == "linux":
        # The children meet on this machine alone; its host name need not resolve.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    work(job, rank, lambda *said: speak.send(said))
