"""Kill `safemerge probes` at random moments, let it go on, and compare with a run left alone.

    safemerge demo && python benchmarks/kill_probes.py runs/demo/config.toml --kills 10

The run left alone is watched first, to know how many lines its work file grows to. Then the same
command is started again and again on another file; each time it is killed (SIGKILL) when the work
file has grown to a number of lines drawn at random, or up to 30 ms later. The last start is left
alone. Both probe files and both files of rejected questions must be the same bytes.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ENDS = ("", ".rejected.jsonl")


def start(config: Path, out: Path, settings: list[str]) -> subprocess.Popen[bytes]:
    """The command, writing probes to `out`."""
    command = [sys.executable, "-m", "search.cli.app", "probes", str(config)]
    for setting in (f"probes.path={out}", *settings):
        command += ["--set", setting]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def lines(work: Path) -> int:
    """Lines of the work file; 0 where there is none."""
    try:
        return work.read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


def watch(process: subprocess.Popen[bytes], work: Path, until: Callable[[int], bool]) -> int:
    """Wait until the work file has enough lines, or the process has ended; the lines seen."""
    seen = lines(work)
    while process.poll() is None and not until(seen):
        time.sleep(0.002)
        seen = max(seen, lines(work))
    return seen


def finish(process: subprocess.Popen[bytes]) -> None:
    """Wait for the command, which must succeed."""
    _, talk = process.communicate()
    if process.returncode:
        sys.exit(f"`safemerge probes` ended with {process.returncode}: {talk.decode()}")


def main() -> None:
    """Kill, go on, compare, and write what happened."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/kill_probes.json"))
    args = parser.parse_args()
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as folder:
        whole, killed = Path(folder, "whole.jsonl"), Path(folder, "killed.jsonl")
        process = start(args.config, whole, args.settings)
        total = watch(process, Path(f"{whole}.work.jsonl"), lambda _: False)
        finish(process)
        work = Path(f"{killed}.work.jsonl")
        kills: list[dict[str, Any]] = []
        for goal in sorted(rng.randrange(total) for _ in range(args.kills)):
            process = start(args.config, killed, args.settings)
            watch(process, work, lambda seen, goal=goal: seen >= goal)  # type: ignore[misc]
            time.sleep(rng.uniform(0, 0.03))
            process.kill()
            process.communicate()
            kills.append(
                {
                    "lines": lines(work),
                    "killed": process.returncode == -9,
                    "finished": killed.exists(),  # the last lines take only a moment
                }
            )
            print(f"killed at {kills[-1]['lines']} of {total} lines")
        finish(start(args.config, killed, args.settings))
        same = all(
            Path(f"{whole}{end}").read_bytes() == Path(f"{killed}{end}").read_bytes()
            for end in ENDS
        )
        probes = len(whole.read_text(encoding="utf-8").splitlines())
    record = {"lines": total, "probes": probes, "kills": kills, "same_bytes": same}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"{probes} probes; the same bytes after {len(kills)} kills: {same}")
    sys.exit(not same)


if __name__ == "__main__":
    main()
