"""What it costs to open and to report a run of many trials.

    python benchmarks/report_cost.py runs/demo --trials 10000 --out report_cost.json

The run is copied, and trials are added to the copy until there are as many as asked for: those of
the run with noise on scores and weights. Seconds are of this process (CPU) and of the clock.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from safemerge.score import Score
from search.results.report import write_report
from search.results.run import Run


def multiply(home: Path, out: Path, trials: int) -> None:
    """Copy a run and add trials to the copy."""
    shutil.copytree(home, out, ignore=shutil.ignore_patterns("export"))
    run, rng = Run.load(out), random.Random(0)
    for number in range(max(c.number for c in run.candidates) + 1, trials):
        like = rng.choice(run.candidates)
        recipe = like.recipe.model_dump(mode="json")
        for row in recipe["weights"].values():
            row.update({source: max(0.0, w + rng.gauss(0.0, 0.2)) for source, w in row.items()})
        scores = {
            metric: Score(min(max(s.value + rng.gauss(0.0, 0.05), 0.0), 1.0), s.stderr, s.n)
            for metric, s in like.scores.items()
        }
        run.dir.write_trial(number, type(like.recipe).model_validate(recipe), scores, {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="a finished run")
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=Path("runs/report_cost.json"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "run"
        multiply(args.run, home, args.trials)
        marks = [(time.process_time(), time.monotonic())]
        run = Run.load(home)
        marks.append((time.process_time(), time.monotonic()))
        page = write_report(run, home / "report.html")
        marks.append((time.process_time(), time.monotonic()))
        (load, report) = ({"cpu_s": b[0] - a[0], "wall_s": b[1] - a[1]} for a, b in pairwise(marks))
        result: dict[str, Any] = {"trials": len(run.candidates), "load": load, "report": report}
        result["bytes"] = page.stat().st_size
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
