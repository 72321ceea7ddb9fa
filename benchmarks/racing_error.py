"""How often races drop what belongs on the front: simulated searches in the worst case.

    python benchmarks/racing_error.py

Every trial of a simulated search ties with all points of the front in one objective, over all
probes, and is far behind in the other: no point is better in both, so dropping it is an error. The
leads, probe by probe, are of three kinds: even (normal), skewed (small leads, and a few large
defeats), or of results that are right or wrong. Beside races of search/scoring/racing.py stands the
rule of version 0.1.0: ahead by three standard errors of the paired difference, with at least eight
probes. How many of the trials that are behind by 0.3 in both objectives are dropped is counted too.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from search.config.search import StudyConfig
from search.scoring.racing import ByProbe, Race

DIRECTIONS = {"one": True, "other": True}
POINTS = 4  # of the front
ERROR = StudyConfig().race_error
KINDS = ("even", "skewed", "right or wrong")


def tied_leads(kind: str, n: int, draws: torch.Generator) -> Tensor:
    """Leads (n,) of a point over a trial in random order, within [-0.5, 0.5], of sum 0."""
    if kind == "even":
        leads = 0.15 * torch.randn(n, generator=draws, dtype=torch.float64)
        leads = (leads - leads.mean()).clamp(-0.49, 0.49)
        leads -= leads.mean()
    elif kind == "skewed":
        few = max(1, n // 16)
        leads = torch.full((n,), 0.4 * few / (n - few), dtype=torch.float64)
        leads[:few] = -0.4
    else:
        each = n // 8
        leads = torch.zeros(n, dtype=torch.float64)
        leads[:each], leads[each : 2 * each] = 0.5, -0.5
    return leads[torch.randperm(n, generator=draws)]


def front_and_trial(
    kind: str, n: int, behind: float | None, draws: torch.Generator
) -> tuple[list[ByProbe], ByProbe]:
    """A front and a trial that ties with it in one objective, or is `behind` in both."""
    one = torch.full((n,), 0.5, dtype=torch.float64)
    other = 0.9 + 0.05 * torch.rand(n, generator=draws, dtype=torch.float64)
    leads = tied_leads(kind, n, draws)
    front = [{"one": one, "other": other - 0.01 * i} for i in range(POINTS)]
    if behind is None:
        return front, {"one": one - leads, "other": other - 0.8}
    noise = [tied_leads(kind, n, draws) for _ in DIRECTIONS]
    return front, {"one": one - behind - 0.4 * noise[0], "other": other - behind - 0.4 * noise[1]}


def three_errors(front: list[ByProbe], seen: ByProbe) -> bool:
    """The rule of version 0.1.0."""
    for point in front:
        surest = []
        for metric, values in seen.items():
            ahead = point[metric][: len(values)] - values
            error = max(float(ahead.std()) / math.sqrt(len(values)), 1e-12)
            surest.append(float(ahead.mean()) / error)
        if min(surest) > 3.0:
            return True
    return False


def lost(front: list[ByProbe], trial: ByProbe, error: float | None) -> bool:
    """Whether a trial is dropped at a quarter or half of its probes; None is the old rule."""
    n = len(trial["one"])
    for asked in (n // 4, n // 2):
        seen = {metric: values[:asked] for metric, values in trial.items()}
        if error is None:
            if asked >= 8 and three_errors(front, seen):
                return True
        elif Race(front, DIRECTIONS, error).early_stop_scores(seen) is not None:
            return True
    return False


def simulate(kind: str, n: int, searches: int, trials: int) -> dict[str, Any]:
    """Shares: of searches with an error, of trials dropped by error, of trials dropped rightly."""
    draws = torch.Generator().manual_seed(0)
    found: dict[str, Any] = {"leads": kind, "probes": n}
    rules = {"three standard errors": None, "races": ERROR / trials}
    wrong = dict.fromkeys(rules, 0)
    spoiled = dict.fromkeys(rules, 0)
    rightly = dict.fromkeys(rules, 0)
    for _ in range(searches):
        errors = dict.fromkeys(rules, 0)
        for _ in range(trials):
            front, trial = front_and_trial(kind, n, None, draws)
            for rule, error in rules.items():
                errors[rule] += lost(front, trial, error)
        front, trial = front_and_trial(kind, n, 0.3, draws)
        for rule, error in rules.items():
            wrong[rule] += errors[rule]
            spoiled[rule] += errors[rule] > 0
            rightly[rule] += lost(front, trial, error)
    for rule in rules:
        found[rule] = {
            "searches_with_an_error": spoiled[rule] / searches,
            "trials_dropped_by_error": wrong[rule] / (searches * trials),
            "trials_rightly_dropped": rightly[rule] / searches,
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--searches", type=int, default=10)
    parser.add_argument("--trials", type=int, default=60, help="of each search")
    parser.add_argument("--probes", type=int, nargs="+", default=[32, 64, 128])
    parser.add_argument("--out", default="benchmarks/results/racing_error.json")
    args = parser.parse_args()
    rows = [simulate(kind, n, args.searches, args.trials) for kind in KINDS for n in args.probes]
    record = {"error": ERROR, "searches": args.searches, "trials": args.trials, "rows": rows}
    Path(args.out).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    for row in rows:
        for rule in ("three standard errors", "races"):
            shares = "  ".join(f"{name} {value:.4f}" for name, value in row[rule].items())
            print(f"{row['leads']:>14} {row['probes']:>4} probes  {rule:>21}  {shares}")


if __name__ == "__main__":
    main()
