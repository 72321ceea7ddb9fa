"""Run: a run directory as it stands, for reading: config, baselines, candidates, front, pick."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safemerge.errors import RunError
from safemerge.recipe import Recipe
from safemerge.score import Scores
from search.config import SearchConfig
from search.results.heldout_record import HeldOut
from search.results.pareto import Candidate, Front
from search.runs.rundir import RunDir, scores_from


@dataclass(frozen=True, slots=True)
class Run:
    """What a search has found so far.

    Args:
        dir: its directory.
        config: its configuration.
        base: the base's scores on the search probes.
        sources: `{source: scores}` on the search probes.
        candidates: finished trials, by number.
    """

    dir: RunDir
    config: SearchConfig
    base: Scores
    sources: Mapping[str, Scores]
    candidates: tuple[Candidate, ...]

    @classmethod
    def load(cls, path: str | Path) -> Run:
        """Read a run directory.

        Raises:
            RunError: where the folder is not a run, saying which command makes it.
        """
        run_dir = RunDir(path)
        config = read_config(run_dir)
        base, sources = read_baseline(run_dir)
        numbers = sorted(
            int(file.parent.name) for file in (run_dir.path / "trials").glob("*/scores.json")
        )
        candidates = []
        for number in numbers:
            scores = run_dir.trial_scores(number) or {}
            candidates.append(
                Candidate(
                    number=number,
                    recipe=run_dir.trial_recipe(number),
                    scores=scores,
                    violation=violation(config, scores, base, sources),
                )
            )
        return cls(run_dir, config, base, sources, tuple(candidates))

    def front(self) -> Front:
        """The Pareto front of the finished trials, on the search probes."""
        return Front.of(self.candidates, self.config.directions)

    def shown(self) -> tuple[Candidate, ...]:
        """The front's points, best first objective first, and the pick where it lies beside it."""
        front = self.front()
        if not front.points or (pick := self.pick()) in front.points:
            return front.points
        return front.joined_by((pick,)).points

    def pick(self) -> Candidate:
        """The chosen point: the one recorded when the search ended, else the knee of the front.

        Raises:
            RunError: where no trial has finished.
        """
        if not self.candidates:
            raise RunError(
                f"{self.dir.path} has no finished trial yet; go on with `safemerge search`"
            )
        record = self.dir.read("front/search.json")
        if record is not None:
            for candidate in self.candidates:
                if candidate.number == record["pick"]:
                    return candidate
        return self.front().knee()

    def heldout(self) -> HeldOut | None:
        """What held-out probes said; None where the run was not measured yet.

        Raises:
            RunError: where the record cannot be read.
        """
        return HeldOut.load(self.dir)

    def failures(self) -> dict[int, str]:
        """`{trial: first line of its reason}` of the trials that failed."""
        files = sorted((self.dir.path / "trials").glob("*/error.txt"))
        return {
            int(file.parent.name): file.read_text(encoding="utf-8").partition("\n")[0]
            for file in files
        }

    def recipe(self, number: int) -> Recipe:
        """Recipe of a trial; a missing one is a RunError that says which there are."""
        return self.dir.trial_recipe(number)


def violations(
    config: SearchConfig, scores: Scores, base: Scores, sources: Mapping[str, Scores]
) -> dict[str, float]:
    """`{limited metric: how far on the wrong side}`; feasible when all are <= 0."""
    return {
        metric: limit.violation(metric, scores, base, sources)
        for metric, limit in config.limits.items()
    }


def violation(
    config: SearchConfig, scores: Scores, base: Scores, sources: Mapping[str, Scores]
) -> float:
    """Sum of the positive violations of a config's limits; 0 is within all of them."""
    return sum(max(value, 0.0) for value in violations(config, scores, base, sources).values())


def read_baseline(run_dir: RunDir) -> tuple[Scores, Mapping[str, Scores]]:
    """Scores of the base, and `{source: scores}`, on the search probes.

    Raises:
        RunError: where the run has none yet, saying which command measures them.
    """
    record = run_dir.require("baseline.json", made_by="safemerge search CONFIG")
    return scores_from(record["base"]), {
        name: scores_from(scores) for name, scores in record["sources"].items()
    }


def read_config(run_dir: RunDir) -> SearchConfig:
    """The config that a run was started with.

    Raises:
        RunError: where the folder holds no run.
    """
    path = run_dir.path / "config.toml"
    if not path.exists():
        raise RunError(
            f"{run_dir.path} is not a run directory (it has no config.toml); "
            "`safemerge search CONFIG` makes one"
        )
    return SearchConfig.from_toml(path)
