"""Run: a run directory as it stands, for reading: config, baseline, candidates, front, pick."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from safemerge.errors import RunError
from safemerge.score import Score
from search.config import SearchConfig
from search.metrics import Limits, ReferenceScores
from search.results.heldout_record import HeldOut
from search.results.pareto import Candidate, Front
from search.results.rates import Rates, read_rates
from search.runs.rundir import BASELINE, RunDir
from search.runs.start import START, Start

FRONT = "front/search.json"


@dataclass(frozen=True, slots=True)
class FrontPoint:
    """A trial that the pick was chosen from."""

    trial: int
    on_front: bool  # whether nothing dominates it on the search probes
    violation: float
    scores: dict[str, Score]  # by likelihood on the search probes
    validation: dict[str, Score]  # by likelihood on the validation probes; empty without any
    answered: dict[str, Score]  # by generation and judge; empty where it did not answer


@dataclass(frozen=True, slots=True)
class FrontRecord:
    """front/search.json: what a search that has ended chose, and from what."""

    pick: int
    stopped: str
    feasible: bool  # whether the front lies within the limits
    hypervolume: float  # of likelihoods
    points: list[FrontPoint]  # the front and what cannot be told from it
    # finished when the pick was made; None in records of earlier versions
    trials: int | None = None
    # base and sources by generation and judge, on the same probes as `answered`; None without them
    answered_baseline: ReferenceScores | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """What a search has found so far."""

    dir: RunDir
    config: SearchConfig
    baseline: ReferenceScores  # scores of base and sources on the search probes
    candidates: tuple[Candidate, ...]  # finished trials, by number
    rates: Rates = field(default_factory=Rates)  # what likelihoods mean in rates of replies

    @classmethod
    def load(cls, path: str | Path) -> Run:
        """Read a run directory; a RunError, with the command that makes one, where it is none."""
        run_dir = RunDir(path)
        config = read_config(run_dir)
        baseline = run_dir.require(BASELINE, ReferenceScores)
        rates = read_rates(run_dir, config, baseline)
        limits = rates.limits(Limits(config.limits, baseline))
        numbers = sorted(
            int(file.parent.name) for file in (run_dir.path / "trials").glob("*/scores.json")
        )
        candidates = []
        for number in numbers:
            scores = run_dir.trial_scores(number) or {}
            recipe = partial(run_dir.trial_recipe, number)
            shown = rates.of(scores, number)
            candidates.append(Candidate(number, recipe, scores, limits.total(shown), shown))
        return cls(run_dir, config, baseline, tuple(candidates), rates)

    @property
    def limits(self) -> Limits:
        """On what candidates are shown by: rates where there is a map, else likelihoods."""
        return self.rates.limits(Limits(self.config.limits, self.baseline))

    @property
    def evaluations(self) -> int:
        """What the search was charged, with the runs that it started from and untaken steps."""
        start = self.dir.load(START, Start)
        before = 0 if start is None else start.evaluations
        return before + len(self.candidates) + self.config.search.warm_start.evaluations

    def front(self) -> Front:
        """The Pareto front of the finished trials, on the search probes."""
        return Front.of(self.candidates, self.config.directions)

    def reported_points(self) -> tuple[Candidate, ...]:
        """The front's points, best first objective first, and the pick where it lies beside it."""
        front = self.front()
        if not front.points or (pick := self.pick()) in front.points:
            return front.points
        return front.joined_by((pick,)).points

    def pick(self) -> Candidate:
        """The point recorded when the search ended, else that of least regret.

        A RunError where no trial has finished.
        """
        if not self.candidates:
            raise RunError(
                f"{self.dir.path} has no finished trial yet; go on with `safemerge search`"
            )
        record = self.front_record()
        chosen = None if record is None else record.pick
        for candidate in self.candidates:
            if candidate.number == chosen:
                return candidate
        return self.front().minimax_regret()

    def front_record(self) -> FrontRecord | None:
        """What was recorded when the search ended; None where it has not."""
        return self.dir.load(FRONT, FrontRecord)

    @property
    def over(self) -> bool:
        """Whether the search has ended, and the pick was made among all of its trials."""
        record = self.front_record()
        return record is not None and record.trials in (None, len(self.candidates))

    def heldout(self) -> HeldOut | None:
        """The held-out measurement; None without one."""
        return HeldOut.load(self.dir)

    def failures(self) -> dict[int, str]:
        """`{trial: first line of its reason}` of the trials that failed."""
        files = sorted((self.dir.path / "trials").glob("*/error.txt"))
        return {
            int(file.parent.name): file.read_text(encoding="utf-8").partition("\n")[0]
            for file in files
        }


def read_config(run_dir: RunDir) -> SearchConfig:
    """The config that a run was started with; a RunError where the folder holds no run."""
    path = run_dir.path / "config.toml"
    if not path.exists():
        raise RunError(
            f"{run_dir.path} is not a run directory (it has no config.toml); "
            "`safemerge search CONFIG` makes one"
        )
    return SearchConfig.from_toml(path, of_run=True)
