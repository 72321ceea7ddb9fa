"""A search whose processes are killed at random: what is lost, and what is counted twice.

    python benchmarks/kills.py --kills 100 --out kills.json

Runs a search of real, hardly trained models with several workers and kills one of its processes
after another with SIGKILL, workers and the one that watches them alike; where the search ended with
it, the same command is started again. At the end the search runs to its last trial in peace. What
must hold is checked at every kill and at the end, and a failure ends the benchmark with the
difference.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import tomli_w

from search.config import SearchConfig
from search.results.run import Run
from search.runs.rundir import RunDir
from search.study.storage import open_study
from synth.probes.probe import ProbeSet
from synth.zoo import World, ZooSpec, build_zoo, probes


def configuration(folder: Path, trials: int, workers: int, storage: str) -> SearchConfig:
    """A search over a world of tiny models, whose trials take a tenth of a second."""
    zoo = build_zoo(folder / "zoo", ZooSpec(width=32, effort=0.02), processes=1)
    ProbeSet(tuple(probes(World(0), "search", 8))).to_jsonl(folder / "probes.jsonl")
    sources = [{"name": name, "path": str(path)} for name, path in zoo.sources.items()]
    search = {"trials": trials, "workers": workers, "storage": storage, "sampler": "random"}
    return SearchConfig.from_record(
        {
            "schema": 1,
            "models": {"base": str(zoo.base), "sources": sources},
            "space": {"places": "global"},
            "probes": {"path": str(folder / "probes.jsonl"), "max_tokens": 4, "judge": "phrases"},
            "search": search | {"warm_start": {"steps": 0}},
        }
    )


def finished(home: Path) -> dict[str, bytes]:
    """`{trial: scores as written}` of every finished trial."""
    return {path.parent.name: path.read_bytes() for path in home.glob("trials/*/scores.json")}


def workers_of(parent: int) -> list[int]:
    """Process ids of the workers of a search."""
    try:
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    except FileNotFoundError:
        return []
    return [int(pid) for pid in children]


def torment(command: list[str], home: Path, kills: int, trials: int, seed: int) -> dict[str, int]:
    """Kill until there have been enough kills; how many of what."""
    chance = random.Random(seed)
    counts = {"workers killed": 0, "searches killed": 0, "searches started": 0}
    counts["killed with all trials finished"] = 0
    known: dict[str, bytes] = {}
    child: subprocess.Popen[bytes] | None = None
    while sum(counts[key] for key in ("workers killed", "searches killed")) < kills:
        if child is None or child.poll() is not None:
            child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            counts["searches started"] += 1
        # Mostly while trials run, at times while processes start; spread over the trials there are.
        pause = chance.uniform(0.0, 0.1)
        target = len(known) + chance.randint(0, max(1, trials // kills))
        end = time.monotonic() + 60.0
        while len(finished(home)) < min(target, trials) and time.monotonic() < end:
            if child.poll() is not None:
                break
            time.sleep(0.01)
        time.sleep(pause)
        if child.poll() is not None:
            continue
        team = workers_of(child.pid)
        victim = chance.choice(team) if team and chance.random() < 0.6 else child.pid
        os.kill(victim, signal.SIGKILL)
        counts["searches killed" if victim == child.pid else "workers killed"] += 1
        counts["killed with all trials finished"] += len(finished(home)) >= trials
        if victim == child.pid:
            child.wait()
        now = finished(home)
        assert known.items() <= now.items(), f"lost or changed: {known.keys() - now.keys()}"
        known = now
    assert child is not None
    child.kill()
    child.wait()
    counts["trials finished before the last kill"] = len(known)
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--storage", default="journal", help="journal or a database's URL")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/kills.json"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, home = Path(name), Path(name) / "run"
        config = configuration(folder, args.trials, args.workers, args.storage)
        (folder / "run.toml").write_text(tomli_w.dumps(config.record()))
        command = [sys.executable, "-m", "search.cli.app", "search", str(folder / "run.toml")]
        command += ["--run", str(home)]
        record: dict[str, Any] = torment(command, home, args.kills, args.trials, args.seed)
        before = finished(home)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        after = finished(home)
        assert before.items() <= after.items(), f"lost: {before.keys() - after.keys()}"
        study = open_study(RunDir(home), config)
        states = [trial.state.name for trial in study.get_trials(deepcopy=False)]
        complete = {f"{n:05d}" for n, state in enumerate(states) if state == "COMPLETE"}
        assert complete == after.keys(), "trials and their folders differ"
        assert len(complete) == args.trials, f"{len(complete)} trials instead of {args.trials}"
        assert "RUNNING" not in states, "a trial is left running"
        recipes = {c.recipe.canonical_json() for c in Run.load(home).candidates}
        assert len(recipes) == args.trials, "a trial is there twice"
        record |= {"trials": len(complete), "enqueued again": states.count("FAIL")}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
