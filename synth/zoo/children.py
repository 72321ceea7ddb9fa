"""Training processes of the zoo: start them, pass on what they say, and never leave one behind."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from queue import Queue

from safemerge.errors import SafemergeError
from synth.zoo.worker import Job

ENTRY = "from synth.zoo.worker import main; main()"


def run_children(job: Job, note: Callable[[str, float], None]) -> None:
    """Run one training process a rank; if one fails or this one is stopped, all of them end.

    `note` is told a model's name and the finished share of it, in [0, 1].

    Raises:
        SafemergeError: with the last line of the process that failed.
    """
    description = job.folder / "job.json"
    description.write_text(job.model_dump_json())
    # One thread each: two OpenMP threads beside a busy neighbour are many times slower than one.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(
        [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    if sys.platform == "linux":
        # The children meet on this machine alone; its host name need not resolve.
        environment.setdefault("GLOO_SOCKET_IFNAME", "lo")
    lines: Queue[tuple[int, str | None]] = Queue()
    children = []
    try:
        for rank in range(job.processes):
            with (job.folder / f"worker{rank}.log").open("w") as log:
                child = subprocess.Popen(
                    [sys.executable, "-c", ENTRY, str(description), str(rank)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                    env=environment,
                    start_new_session=True,
                )
            children.append(child)
            threading.Thread(target=_listen, args=(rank, child, lines), daemon=True).start()
        running = set(range(job.processes))
        while running:
            rank, line = lines.get()
            if line is not None:
                name, share = line.split("\t")
                note(name, float(share))
                continue
            running.discard(rank)
            if code := children[rank].wait():
                lines_logged = (job.folder / f"worker{rank}.log").read_text().strip().splitlines()
                raise SafemergeError(
                    f"training process {rank} of the small world ended with status {code}: "
                    f"{lines_logged[-1] if lines_logged else 'no message'}"
                )
    finally:
        for child in children:
            child.kill()
            child.wait()


def _listen(rank: int, child: subprocess.Popen[str], lines: Queue[tuple[int, str | None]]) -> None:
    assert child.stdout is not None
    for line in child.stdout:
        if line.count("\t") == 1:
            lines.put((rank, line.strip()))
    lines.put((rank, None))
