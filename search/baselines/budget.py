"""What a baseline may spend: as many evaluations as the search that it is compared with."""

from __future__ import annotations

from typing import Any

from search.config import StopConfig, StudyConfig, WarmStartConfig
from search.results.run import Run
from search.warmstart.warmstart import STEP_COST


def charged(run: Run) -> int:
    """Evaluations that a search was charged; steps that its warm start left untaken count too.

    Those of a run that it started from are not among them (`start.json`).
    """
    return len(run.candidates) + STEP_COST * run.config.search.warm_start.steps


def plain_study(study: StudyConfig, trials: int, sampler: str, **options: Any) -> StudyConfig:
    """The same storage and workers, with another sampler, nothing to start from and no stop rule.

    Args:
        study: of the search.
        trials: that it takes.
        sampler: its name.
        options: `sampler_options`.
    """
    return study.model_copy(
        update={
            "sampler": sampler,
            "sampler_options": options,
            "start_from": None,
            "stop": StopConfig(),
            "trials": trials,
            "warm_start": WarmStartConfig(steps=0),
        }
    )
